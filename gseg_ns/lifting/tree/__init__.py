"""A tree of parts, objects and groups out of overlapping masks of many views, in closed form; see `design.md` above."""

from __future__ import annotations

from gseg_ns.lifting.tree.borders import WIDTH
from gseg_ns.lifting.tree.growing import grow_tree
from gseg_ns.lifting.tree.tree import Level, Tree, level_of

__all__ = ["WIDTH", "Level", "Tree", "grow_tree", "level_of"]
