"""The one way by which text of files and users reaches viser's Markdown: as text.

viser takes Markdown for MDX and evaluates it in the browser: a brace begins JavaScript, and so does a line that begins
with `import` or `export`.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000
"""Characters of a text that are shown."""

_BREAK = "\u200b"
"""A space of no width."""

_MARKUP = re.compile(r"([\\`*_{}\[\]<>&~|])")

_LINK = re.compile(r"(?<=:)(?=//)|(?<=ww)(?=w\.)|(?<=@)", re.IGNORECASE)
"""Where an address that would be made a link is broken up."""

_BEGINNING = re.compile(r"import|export|[#+\-=:]|\d+[.)]")
"""What means something at the beginning of a line: code, headings, lists, rules, tables."""


def plain(text: str) -> str:
    """A text as it is, in one line: what Markdown and MDX would take for markup or code is escaped.

    Line breaks, control characters and characters that turn the direction of writing become spaces.
    """
    text = text[:LONGEST] + "…" if len(text) > LONGEST else text
    text = " ".join("".join(" " if _is_control(letter) else letter for letter in text).split())
    # Half a pair, which a file name with bytes of another encoding has, is no text for the browser.
    text = text.encode(errors="replace").decode()
    escaped = _LINK.sub(_BREAK, _MARKUP.sub(r"\\\1", text))
    if _BEGINNING.match(escaped):
        return f"&#{ord(escaped[0])};{escaped[1:]}"
    return escaped


def breakable(escaped: str) -> str:
    """Let what `plain` made break behind slashes: a long path would widen the tab."""
    return escaped.replace("/", f"/{_BREAK}")


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(letter) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )
