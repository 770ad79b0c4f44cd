"""What to say of a model that the Hugging Face hub, or a folder, does not give."""

from __future__ import annotations

UNGATED = "facebook/sam2.1-hiera-tiny"
"""A model that anybody may load."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def refused(model: str, error: Exception) -> str | None:
    """What it means, in one line, that the hub refuses a model; None: it is something else that went wrong."""
    text = str(error)
    if not any(sign in text.lower() for sign in ("403", "401", "gated")):
        return None
    return (
        f"The hub refuses {model!r}: its owner grants access by hand. Ask for it on its page and log in (hf auth "
        f"login), or name a folder with the weights, or take an open model: {UNGATED} for clicks and everything, "
        "--source grounded for words, or masks with words of another tool, given with --masks."
    )
