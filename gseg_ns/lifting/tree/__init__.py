"""A tree of parts, objects and groups out of overlapping masks of many views, in closed form; see `design.md` above."""

import lazy_loader

# The names are in __init__.pyi. Who asks a tree that was grown before needs nothing of what grows one.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
