"""What `ns-train` offers: one file a method. Whatever is loaded through here has the viewer's "Segment" tab."""

from gseg_ns.models.base import SegmentationModel
from gseg_ns.viewer.panel import SegmentPanel

SegmentationModel.make_panel = SegmentPanel
