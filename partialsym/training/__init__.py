"""Training and evaluating a configured experiment, on Lightning."""
