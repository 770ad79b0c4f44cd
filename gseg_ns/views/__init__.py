"""Where to look at a splat from: cameras chosen in its free space, and the pictures that they take of it."""

from __future__ import annotations

from gseg_ns.views.choosing import ViewOptions, ViewPlan, choose_views
from gseg_ns.views.drawing import Drawn, draw_view
from gseg_ns.views.folder import ViewScene, write_views

__all__ = ["Drawn", "ViewOptions", "ViewPlan", "ViewScene", "choose_views", "draw_view", "write_views"]
