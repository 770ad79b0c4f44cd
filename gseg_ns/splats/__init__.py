"""The Gaussians as data."""
