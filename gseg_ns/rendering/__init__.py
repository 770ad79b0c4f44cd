"""Gaussians to pixels."""
