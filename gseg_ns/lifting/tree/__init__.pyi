from .borders import WIDTH
from .growing import grow_tree
from .tree import Level, Tree, level_of

__all__ = ["WIDTH", "Level", "Tree", "grow_tree", "level_of"]
