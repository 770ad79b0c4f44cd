"""Objects in 3D Gaussian splats, inside Nerfstudio."""

__version__ = "0.1.0"
