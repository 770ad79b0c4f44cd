"""Where the scene of a run is, which may have moved since, or be gone."""

from __future__ import annotations

from pathlib import Path

from gseg_ns.captures.colmap import find_models
from gseg_ns.captures.transforms_json import find_transforms
from gseg_ns.errors import GsegError


def is_scene(path: Path) -> bool:
    """Whether there are posed photographs: a transforms.json, or a folder with one or with a COLMAP model."""
    return path.is_file() or (path.is_dir() and bool(find_transforms(path) or find_models(path)))


def find_scene(config_path: Path, said: Path, given: Path | None = None) -> Path | None:
    """The scene of a run, or None if it is nowhere.

    Args:
        config_path: the run's config.yml.
        said: what that says: absolute, or relative to the folder in which `ns-train` was started.
        given: by the user.

    Raises:
        GsegError: what was given is no scene.
    """
    if given is not None:
        if not is_scene(given):
            raise GsegError(
                f"{given}, given with --data, is no scene: it has neither transforms.json nor a COLMAP model."
            )
        return given
    if said == Path():  # nothing is said
        return None
    if is_scene(said):
        return said
    for folder in config_path.absolute().parents:
        for place in (folder / said, folder / said.name):
            if is_scene(place):
                return place
    return None


def where_it_was_looked_for(config_path: Path, said: Path) -> str:
    """What to say of a scene that is nowhere."""
    relative = "" if said.is_absolute() else ", relative to the folder in which ns-train was started"
    return (
        f"{config_path} says that its scene is {said}{relative}. It is neither there (seen from {Path.cwd()}) nor "
        "beside the run: name it with --data."
    )
