"""Internal utilities that several parts of the package share."""
