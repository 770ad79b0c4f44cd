from .history import History
from .neighbourhood import Neighbourhood, largest_component, middle_extents
from .overlay import highlight
from .packed import PackedMask
from .picking import Pick, pick
from .postprocess import ball_query, clean_up, grow_region, statistical_filter
from .prompts import Prompt
from .prompts_sam import SamPrompts, sam_mask
from .selection import Mode, Selection
from .shapes import Box, inside_box, rectangle, visible_share
from .store import Fingerprint, load_selections, save_selections

__all__ = [
    "Box",
    "Fingerprint",
    "History",
    "Mode",
    "Neighbourhood",
    "PackedMask",
    "Pick",
    "Prompt",
    "SamPrompts",
    "Selection",
    "ball_query",
    "clean_up",
    "grow_region",
    "highlight",
    "inside_box",
    "largest_component",
    "load_selections",
    "middle_extents",
    "pick",
    "rectangle",
    "sam_mask",
    "save_selections",
    "statistical_filter",
    "visible_share",
]
