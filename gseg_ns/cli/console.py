"""Where `gseg` prints."""

from gseg_ns.terminal import CONSOLE, ERRORS

__all__ = ["CONSOLE", "ERRORS"]
