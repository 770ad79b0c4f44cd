"""What a config.yml may hold: reading one runs nothing but the making of plain values and configurations."""

from __future__ import annotations

import os
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gseg_ns.errors import GsegError
from gseg_ns.files import is_below
from gseg_ns.reading import read_bytes, reading

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

_TAG = "tag:yaml.org,2002:"

_KIND = "a config.yml of Nerfstudio"
_LARGEST = 2**18
"""Bytes; PyYAML takes seconds for a file of this size."""

_PLAIN = tuple(_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "python/tuple"))
"""Tags of plain values."""

_PATH = re.compile(r"pathlib\.(_local\.)?\w*Path")

_PACKAGES = ("nerfstudio", "gseg_ns", "torch.optim")
"""Packages whose classes a config.yml may name, beside those that the user installed as plugins of Nerfstudio."""

_FUNCTIONS = ("nerfstudio.data.utils.nerfstudio_collate.nerfstudio_collate",)
"""Functions that configs of Nerfstudio's own methods name."""

_CONTROL = re.compile("[\\x00-\\x1f\\x7f\\x85\\u2028\\u2029]")
"""Line breaks and the like, which no name and no path of a config has."""

_NAMES = ("experiment_name", "method_name", "timestamp", "relative_model_dir")
_NAMES_WITHIN = (("logging", "relative_log_dir"), ("viewer", "relative_log_filename"))
"""What a config calls the folders and files of its run, which lie below `output_dir`."""


def check_config(path: Path) -> str:
    """Refuse a config.yml that has more in it than a run of Nerfstudio, of one of our methods or of a plugin.

    Nerfstudio stores configs as YAML of Python objects, and loading one calls what the tags in it name. Such a run
    needs plain values, paths, configurations (dataclasses), members of enumerations, and names of classes.

    Returns:
        the text.

    Raises:
        GsegError: the file does not exist, cannot be read, is no config.yml, or has more in it.
    """
    with reading(path, _KIND, missing=f"{path} does not exist: give the config.yml that ns-train wrote"):
        text = read_bytes(path, _LARGEST).decode("utf-8")
        root = yaml.compose(text, Loader=yaml.Loader)
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
                "Nerfstudio, of our methods or of an installed plugin has: it is not loaded"
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
        if _PATH.fullmatch(name):
            # A line break in a path would be one in every text that names it.
            return not any(isinstance(part, yaml.ScalarNode) and _CONTROL.search(part.value) for part in node.value)
        if name == "_operator.getitem":  # VanillaDataManager[SemanticDataset]
            return all(part.tag.startswith(_TAG + "python/name:") and _is_harmless(part) for part in node.value)
        found = _class(name)
        return found is not None and issubclass(found, Enum)
    if kind == "python/object":
        return is_dataclass(_class(name))
    return kind == "python/name" and (name in _FUNCTIONS or _class(name) is not None)


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
    return f"{module}.".startswith(tuple(f"{package}." for package in (*_PACKAGES, *_plugins())))


def _plugins() -> tuple[str, ...]:
    """The packages of the plugins that Nerfstudio loads in any case."""
    return _packages(*(os.environ.get(f"NERFSTUDIO_{kind}_CONFIGS", "") for kind in ("METHOD", "DATAPARSER")))


@cache
def _packages(*variables: str) -> tuple[str, ...]:
    groups = ("nerfstudio.method_configs", "nerfstudio.dataparser_configs")
    modules = {entry.module for group in groups for entry in entry_points(group=group)}
    modules |= {definition.partition("=")[2] for variable in variables for definition in variable.split(",")}
    return tuple(sorted({re.split("[.:]", module)[0].strip() for module in modules} - {""}))


def check_names(config: Any, path: Path) -> None:
    """Refuse a config whose names lead out of the folder that its run is in: what writes beside a run uses them.

    Raises:
        GsegError: one is absolute, has `..` in it, or is no name at all.
    """
    named = {name: getattr(config, name, None) for name in _NAMES}
    named |= {f"{part}.{name}": getattr(getattr(config, part, None), name, None) for part, name in _NAMES_WITHIN}
    for name, value in named.items():
        if value is not None and not (isinstance(value, str | Path) and _is_name(str(value))):
            raise GsegError(
                f"{path} has {str(value)[:60]!a} as {name}, which leads out of its folder: it is not loaded"
            )


def _is_name(text: str) -> bool:
    return is_below(text) and _CONTROL.search(text) is None


def read_config(path: Path) -> TrainerConfig:
    """Read a run's `config.yml`, if it is harmless (`check_config`, `check_names`).

    Raises:
        GsegError: no such file, not a Nerfstudio config, or one that is not harmless.
    """
    from nerfstudio.configs.base_config import InstantiateConfig
    from nerfstudio.engine.trainer import TrainerConfig

    with reading(path, _KIND):
        config = yaml.load(check_config(path), Loader=yaml.Loader)
        if not isinstance(config, TrainerConfig):
            raise GsegError(f"{path} is not a config.yml of Nerfstudio")
        check_names(config, path)
        _check_values(config)
        for part in (config.pipeline, config.pipeline.datamanager, config.pipeline.model):
            if not isinstance(part, InstantiateConfig):
                raise ValueError(f"{type(part).__name__} where a configuration should be")
        for name in ("data", "output_dir"):
            if not isinstance(getattr(config, name), Path | None):
                raise ValueError(f"{name} is no path")
    return config


def _check_values(config: Any) -> None:
    """See that values are of the kinds that their defaults have: YAML puts anything anywhere.

    Raises:
        ValueError: a text where a number should be, and the like.
    """
    for f in fields(config):
        value = getattr(config, f.name, None)
        if is_dataclass(value) and not isinstance(value, type):
            _check_values(value)
        for kinds in (bool, int | float, str):
            if isinstance(f.default, kinds):
                if not isinstance(value, kinds | None) or (kinds is not bool and isinstance(value, bool)):
                    raise ValueError(f"{f.name} is a {type(value).__name__}, which it cannot be")
                break
