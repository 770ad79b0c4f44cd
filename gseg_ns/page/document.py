"""The HTML around a scene: which parts it has, and what a browser may do with them."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

_BUILT = files("gseg_ns.page") / "built"
_MARK = re.compile(r"\{\{(\w+)\}\}")
_SMALLEST = 9
"""Of zlib's levels."""


def document(
    meta: Mapping[str, Any], rows: bytes, splats: bytes, packing: Literal["none", "deflate"] = "none"
) -> bytes:
    """A page.

    What users call things is in it as JSON that is not run, and as the page's title.

    Args:
        meta: what the page is told, see `web/src/meta.js`.
        rows: little-endian uint16, the row of each splat: 0 for none, else the place in `meta["objects"]` from 1 on.
        splats: a file of splats, in the order of `rows`.
        packing: `deflate` where the file is not small already.

    Returns:
        UTF-8.
    """
    style, loader = _part("page.css").strip(), _part("loader.js").strip()
    code = f"{_part('vendor.js')}\n{_part('page.js')}"
    parts = {
        "policy": _policy(style, loader, code),
        "title": _plain(str(meta["title"])),
        "style": style,
        "meta": json.dumps(meta, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "rows": _packed(rows),
        "splats": _packed(splats) if packing == "deflate" else _base64(splats),
        "packing": packing,
        "code": _packed(code.encode()),
        "loader": loader,
    }
    # In one pass: what is put in is not looked at again, whatever it says.
    return _MARK.sub(lambda mark: parts[mark[1]], _part("page.html")).encode()


def _policy(style: str, loader: str, code: str) -> str:
    """Nothing from elsewhere, and no code but ours: what is run is named by its digest."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digest(loader)} {_digest(code)} 'wasm-unsafe-eval'",
            "worker-src blob:",
            f"style-src {_digest(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _part(name: str) -> str:
    return (_BUILT / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _plain(text: str) -> str:
    """Text for HTML, in which half of a pair of surrogates does no harm either."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _packed(data: bytes) -> str:
    return _base64(zlib.compress(data, _SMALLEST))
