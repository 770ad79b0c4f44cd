"""What brings masks to the model."""
