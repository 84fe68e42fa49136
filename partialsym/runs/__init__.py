"""A run on disk: its folder, what its result holds, who has written it."""
