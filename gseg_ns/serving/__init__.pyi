from .desk import Desk
from .opening import open_desk
from .server import serve

__all__ = ["Desk", "open_desk", "serve"]
