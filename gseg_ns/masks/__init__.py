"""2D masks as data."""
