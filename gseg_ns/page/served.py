"""The page as a server gives it out: its files, and what a browser may do with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gseg_ns.page.document import _MARK, _part, _plain

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src blob:",
        "style-src 'self'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing from elsewhere, and no code but that of the files below."""

_KINDS = {"js": "text/javascript", "css": "text/css", "html": "text/html"}


def page_files(meta: Mapping[str, Any]) -> dict[str, tuple[bytes, str]]:
    """What a browser asks for: path -> content and its type.

    Args:
        meta: what the page is told of the scene, see `web/src/meta.js`.
    """
    told = json.dumps(meta, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {"title": _plain(str(meta["title"])), "meta": told}
    page = _MARK.sub(lambda mark: parts[mark[1]], _part("served.html"))
    texts = {"/": page, **{f"/{name}": _part(name) for name in ("vendor.js", "served.js", "page.css", "served.css")}}
    kinds = {path: _KINDS[path.rpartition(".")[2] if "." in path else "html"] for path in texts}
    return {path: (text.encode(), f"{kinds[path]}; charset=utf-8") for path, text in texts.items()}
