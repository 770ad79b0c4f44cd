"""What can be done to a selection."""
