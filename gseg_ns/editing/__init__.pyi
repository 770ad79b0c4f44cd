from .edit_list import describe, load_edits, save_edits
from .operations import (
    Duplicate,
    Edited,
    Hide,
    Isolate,
    Operation,
    Recolor,
    Remove,
    SetOpacity,
    ShowAll,
    Swap,
    Transform,
    apply,
    bake,
    evaluate,
)
from .session import Session

__all__ = [
    "Duplicate",
    "Edited",
    "Hide",
    "Isolate",
    "Operation",
    "Recolor",
    "Remove",
    "Session",
    "SetOpacity",
    "ShowAll",
    "Swap",
    "Transform",
    "apply",
    "bake",
    "describe",
    "evaluate",
    "load_edits",
    "save_edits",
]
