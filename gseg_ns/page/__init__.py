"""A scene and its objects as one HTML file that needs no server and no network.

`built/` holds what browsers run, built from `web/`; here it is filled with splats.
"""

from __future__ import annotations

from gseg_ns.page.writing import PageReport, View, Words, write_page

__all__ = ["PageReport", "View", "Words", "write_page"]
