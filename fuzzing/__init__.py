"""Readers under made-up input: `python -m fuzzing`."""
