"""What `ns-train` offers: one file a method. Whatever is loaded through here has the viewer's "Segment" tab.

Every ns-* command imports this package before it reads a run or opens a viewer, so that what makes both safe is
switched on here, for the methods of others too.
"""

from gseg_ns.compat import answer_mistyped_commands, quick_shapes, tell_user_errors
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.dataparsers.gseg_data import as_gseg_data
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.registry import segmentation_methods
from gseg_ns.runs.upstream_loading import guard_config_loading
from gseg_ns.viewer.door import guard_viewers
from gseg_ns.viewer.inputs import guard_inputs
from gseg_ns.viewer.panel import SegmentPanel

SegmentationModel.make_panel = SegmentPanel
MaskDatamanager.our_parser = staticmethod(as_gseg_data)
quick_shapes()
tell_user_errors()
answer_mistyped_commands(segmentation_methods)
guard_config_loading()
guard_viewers()
guard_inputs()
