"""From 2D masks to 3D groups: pure torch."""
