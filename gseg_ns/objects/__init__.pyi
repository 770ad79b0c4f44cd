from .boxes import OrientedBox, box_iou, box_of_points, fit_box
from .evidence import Evidence, gather_evidence
from .floaters import find_floaters
from .fringes import Alone, FringeOptions, Fringes, Shown
from .records import ObjectRecord, object_records, schema

__all__ = [
    "Alone",
    "Evidence",
    "FringeOptions",
    "Fringes",
    "ObjectRecord",
    "OrientedBox",
    "Shown",
    "box_iou",
    "box_of_points",
    "find_floaters",
    "fit_box",
    "gather_evidence",
    "object_records",
    "schema",
]
