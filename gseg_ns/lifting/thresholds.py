"""The cosine that means one thing. Apart from what uses it, because the command line starts without torch."""

from __future__ import annotations

SAME_THING = 0.75
"""Cosine from which features are of one thing: SAGA's threshold of prompts; training asks it of pixels of one mask."""
