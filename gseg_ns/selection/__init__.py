"""Prompts to sets of Gaussians."""
