"""A run on disk: its folder, the schema of its result, and its provenance."""
