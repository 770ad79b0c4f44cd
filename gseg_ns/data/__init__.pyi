from .cameras import look_at, to_camera
from .datamanager import MaskDatamanager, MaskDatamanagerConfig

__all__ = ["MaskDatamanager", "MaskDatamanagerConfig", "look_at", "to_camera"]
