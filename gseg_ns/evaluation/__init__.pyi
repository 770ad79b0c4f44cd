from .boundary import boundary_iou, mean_boundary_iou
from .clicks import ObjectClicks, draw_clicks
from .consistency import ConsistencyScores, multi_view_consistency
from .folders import id_files, read_ids
from .matching import InstanceScores, evaluate_instances
from .panoptic import PanopticScores, instance_panoptic_quality, messy_rooms_quality, panoptic_quality
from .quality import image_quality, psnr

__all__ = [
    "ConsistencyScores",
    "InstanceScores",
    "ObjectClicks",
    "PanopticScores",
    "boundary_iou",
    "draw_clicks",
    "evaluate_instances",
    "id_files",
    "image_quality",
    "instance_panoptic_quality",
    "mean_boundary_iou",
    "messy_rooms_quality",
    "multi_view_consistency",
    "panoptic_quality",
    "psnr",
    "read_ids",
]
