"""Convert a network to ordinary convolutions, and export it to a file."""
