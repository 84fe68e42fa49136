"""Batches: from a split in memory, from files, from a stream."""
