"""How fast it is: `python -m benchmarks` measures, `python -m benchmarks.calibrate` fits the choice of path."""
