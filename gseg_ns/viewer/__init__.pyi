from .controller import SegmentController
from .panel import SegmentPanel

__all__ = ["SegmentController", "SegmentPanel"]
