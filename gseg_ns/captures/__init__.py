"""Posed photographs as data: what transforms.json, COLMAP models and point clouds say, in one form."""
