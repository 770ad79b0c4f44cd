"""Numba kernels: plain loops over arrays, compiled once and cached on disk, run without the GIL."""
