"""Where `gseg` prints."""

from __future__ import annotations

from rich.console import Console

CONSOLE = Console(highlight=False, soft_wrap=True)
ERRORS = Console(stderr=True, highlight=False, soft_wrap=True)
