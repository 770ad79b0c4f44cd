"""Which files a browser can reach through the tab: those of the run, and of folders given when the viewer starts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.selection.prompts_sam import CHECKPOINTS

FOLDERS = "GSEG_VIEWER_FOLDERS"
"""Environment variable: further folders, separated as in PATH."""

_LONGEST = 250  # bytes of a name; file systems take 255, and a temporary one is longer
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


class Reach:
    """Paths as they are typed into the tab.

    What lies outside is refused alike, whether it is there or not.
    """

    def __init__(self, run: Path) -> None:
        """Begin with the folder of a run, and what the environment adds."""
        self.run = run.absolute()
        listed = os.environ.get(FOLDERS, "").split(os.pathsep)
        self.further = tuple(Path(folder).expanduser().absolute() for folder in listed if folder.strip())

    @property
    def home_of_runs(self) -> Path:
        """Where new runs are written: the first of the further folders, or else a folder of the run."""
        return self.further[0] if self.further else self.check(self.run / "isolated")

    def path(self, typed: str, suffix: str | None = None) -> Path:
        """The file that a text means; a relative path is one of the run.

        Args:
            typed: into the browser.
            suffix: that it must have.

        Raises:
            GsegError: it lies outside of the folders, or has another suffix.
        """
        try:
            path = self.run / Path(typed.strip()).expanduser()
        except RuntimeError:  # ~nobody
            path = Path("/")
        path = self.check(path)
        if suffix is not None and path.suffix.lower() != suffix:
            raise GsegError(f"{typed.strip()} must end in {suffix}.")
        return path

    def check(self, path: Path) -> Path:
        """Return a path if what it leads to, links followed, lies below one of the folders.

        Raises:
            GsegError: it does not.
        """
        try:
            resolved = path.resolve()
            usual = all(len(os.fsencode(part)) <= _LONGEST for part in resolved.parts)
            if usual and any(resolved.is_relative_to(folder.resolve()) for folder in (self.run, *self.further)):
                return path
        except (OSError, ValueError, RuntimeError):  # no name of a file, or links in a circle
            pass
        raise GsegError(
            f"The tab reaches only files below {' and '.join(map(str, (self.run, *self.further)))}. For others, start "
            f"the viewer with {FOLDERS}=FOLDER."
        )

    def sam(self, typed: str) -> Path:
        """A checkpoint of SAM, or a model in a folder or on the hub.

        Raises:
            GsegError: it lies outside.
        """
        typed = typed.strip()
        named = "/" in typed and Path(typed).suffix not in CHECKPOINTS
        return Path(self.model(typed)) if named else self.path(typed)

    def model(self, typed: str) -> str:
        """A model that is named on the Hugging Face hub, or one in a folder.

        Raises:
            GsegError: a folder that lies outside.
        """
        typed = typed.strip()
        if len(typed) < 200 and _HUB_NAME.fullmatch(typed) and ".." not in typed and not (self.run / typed).exists():
            if Path(typed).exists():  # the library would take it for a folder
                self.check(Path(typed))
            return typed
        return str(self.path(typed))
