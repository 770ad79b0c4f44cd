"""Models of other libraries, while they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gseg_ns.errors import GsegError
from gseg_ns.masks.hub import first_line


@contextmanager
def asking(who: str) -> Iterator[None]:
    """Tell in one line what goes wrong inside a model.

    Args:
        who: begins the sentence.

    Raises:
        GsegError: the model raised something: torch and transformers raise many types, of memory that does not suffice
            among them.
    """
    try:
        yield
    except GsegError:
        raise
    except Exception as error:
        raise GsegError(f"{who} fails on this picture ({first_line(error)}). Try a smaller model.") from error
