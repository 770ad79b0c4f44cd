from .colors import base_colors, color_at, flood, of_color
from .history import History
from .neighbourhood import Neighbourhood, largest_component, middle_extents, named_groups, pieces
from .outlines import Outline, Stroke, drawn_over
from .overlay import highlight
from .packed import PackedMask
from .picking import Pick, pick
from .postprocess import ball_query, clean_up, grow_region, statistical_filter
from .prompts import Prompt
from .prompts_sam import SamPrompts, sam_mask
from .selection import Mode, Selection
from .shapes import (
    Box,
    image_points,
    in_range,
    inside_box,
    inside_sphere,
    longest_extents,
    rectangle,
    visible_share,
)
from .store import Fingerprint, load_selections, save_selections

__all__ = [
    "Box",
    "Fingerprint",
    "History",
    "Mode",
    "Neighbourhood",
    "Outline",
    "PackedMask",
    "Pick",
    "Prompt",
    "SamPrompts",
    "Selection",
    "Stroke",
    "ball_query",
    "base_colors",
    "clean_up",
    "color_at",
    "drawn_over",
    "flood",
    "grow_region",
    "highlight",
    "image_points",
    "in_range",
    "inside_box",
    "inside_sphere",
    "largest_component",
    "load_selections",
    "longest_extents",
    "middle_extents",
    "named_groups",
    "of_color",
    "pick",
    "pieces",
    "rectangle",
    "sam_mask",
    "save_selections",
    "statistical_filter",
    "visible_share",
]
