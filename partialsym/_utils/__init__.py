"""What several parts of the package share, and no user calls."""
