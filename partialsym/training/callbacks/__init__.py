"""What training does beside the steps."""
