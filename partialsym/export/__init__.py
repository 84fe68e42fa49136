"""A network without its group: as plain convolutions in torch, and as a file."""
