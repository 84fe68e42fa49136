"""The sources of data sets: one module per data set, and what they share."""
