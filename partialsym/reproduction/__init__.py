"""The tables of the paper, and the demonstration."""
