"""Batches from a split in memory, from files or from a stream."""
