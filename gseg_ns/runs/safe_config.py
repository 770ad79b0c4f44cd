"""What a config.yml may hold: reading one runs nothing but the making of plain values and configurations."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

_TAG = "tag:yaml.org,2002:"

_PLAIN = tuple(_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "python/tuple"))
"""Tags of plain values."""

_PATH = re.compile(r"pathlib\.(_local\.)?\w*Path")

_PACKAGES = ("nerfstudio", "gseg_ns", "torch.optim")
"""Packages whose classes a config.yml may name."""


def check_config(path: Path) -> str:
    """Refuse a config.yml that has more in it than a run of Splatfacto or of one of our methods.

    Nerfstudio stores configs as YAML of Python objects, and loading one calls what the tags in it name. Such a run
    needs plain values, paths, configurations (dataclasses), members of enumerations, and names of classes.

    Returns:
        the text.

    Raises:
        GsegError: the file does not exist, cannot be read, is no config.yml, or has more in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.Loader)
    except FileNotFoundError as error:
        raise GsegError(f"{path} does not exist: give the config.yml that ns-train wrote") from error
    except UnicodeDecodeError as error:
        raise GsegError(f"{path} is not a config.yml of Nerfstudio") from error
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise GsegError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if root is None or not root.tag.startswith(_TAG + "python/object:"):
        raise GsegError(f"{path} is not a config.yml of Nerfstudio")
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not _is_harmless(node):
            raise GsegError(
                f"{path} has {node.tag.removeprefix(_TAG)} in line {node.start_mark.line + 1}, which no run of "
                "Splatfacto or of our methods has: it is not loaded"
            )
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
    return text


def _is_harmless(node: yaml.Node) -> bool:
    """Whether building this node of a config.yml, not those within it, runs nothing but the making of a plain value."""
    if node.tag in _PLAIN:
        return True
    kind, _, name = node.tag.removeprefix(_TAG).partition(":")
    if kind == "python/object/apply" and node.id == "sequence":
        found = _class(name)
        return _PATH.fullmatch(name) is not None or (found is not None and issubclass(found, Enum))
    if kind == "python/object":
        return is_dataclass(_class(name))
    return kind == "python/name" and _class(name) is not None


def _class(name: str) -> type | None:
    """A class that one of the trusted packages defines."""
    module, _, attribute = name.rpartition(".")
    if not _is_trusted(module):
        return None
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return None
    # What a module has imported from elsewhere is not its own.
    return found if isinstance(found, type) and _is_trusted(found.__module__) else None


def _is_trusted(module: str) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in _PACKAGES))


def read_config(path: Path) -> TrainerConfig:
    """Read a run's `config.yml`, if it is harmless (`check_config`).

    Raises:
        GsegError: no such file, or not a Nerfstudio config.
    """
    from nerfstudio.engine.trainer import TrainerConfig

    text = check_config(path)
    try:
        config = yaml.load(text, Loader=yaml.Loader)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise GsegError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(config, TrainerConfig):
        raise GsegError(f"{path} is not a config.yml of Nerfstudio")
    return config
