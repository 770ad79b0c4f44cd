"""Where `gseg` prints."""

from __future__ import annotations

import sys

from rich.console import Console

# A file or a pipe has no width; rich's 80 columns would fold the cells of wide tables.
CONSOLE = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
ERRORS = Console(stderr=True, highlight=False, soft_wrap=True)
