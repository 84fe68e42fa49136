"""Where data sets come from: one module a data set, and what they share."""
