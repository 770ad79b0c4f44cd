"""What stands for an object where it has to be touched: a box, a hull, convex pieces, or a closed mesh."""

from __future__ import annotations

from gseg_ns.proxies.convex import convex_hull, convex_pieces, upright_box
from gseg_ns.proxies.making import make_proxy
from gseg_ns.proxies.sights import Seen, Sight
from gseg_ns.proxies.surface import closed_surface

__all__ = ["Seen", "Sight", "closed_surface", "convex_hull", "convex_pieces", "make_proxy", "upright_box"]
