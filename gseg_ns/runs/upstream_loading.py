"""Nerfstudio's own commands read a config.yml by calling what it names: here it is checked before.

`ns-viewer`, `ns-render`, `ns-export`, `ns-eval` and `ns-train --load-config` all import our methods before they read
one. The first four take the newest checkpoint whatever is in it: of our methods, the newest that is whole is taken.
What they write is whole, too: see `upstream_writing`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import yaml

from gseg_ns.reading import reading
from gseg_ns.runs.safe_config import check_config, check_names
from gseg_ns.runs.upstream_writing import WholePath, guard_writing

TRUST = "GSEG_TRUST_CONFIGS"
"""Environment variable: 1 lets Nerfstudio's commands load a config.yml as they would without us."""

_READERS: dict[str, Callable[[dict[str, Any]], Path]] = {
    "nerfstudio.utils.eval_utils": lambda variables: variables["config_path"],
    "nerfstudio.scripts.train": lambda variables: variables["config"].load_config,
}
"""Modules that read a config.yml, and where its path is among the variables of the function that does."""


def guard_config_loading() -> None:
    """Let Nerfstudio's readers of a config.yml check it first. May be called again.

    Usually they are being imported at this moment, as our methods are imported by them; else it is done when they are.
    """
    for name in _READERS:
        if name in sys.modules:
            _guard(sys.modules[name], name)
    started = sys.modules.get("__main__")  # python -m nerfstudio.scripts.train
    name = getattr(getattr(started, "__spec__", None), "name", "")
    if started is not None and name in _READERS:
        _guard(started, name)
    if not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


def _guard(module: ModuleType, name: str) -> None:
    """Give a module a `yaml` whose `load` checks; the real one stays as it is for everybody else."""
    find = _READERS[name]

    def load(text: str, Loader: Any) -> Any:
        from gseg_ns.models.trainer import user_errors

        guard_writing()
        reader = sys._getframe(1)
        command = reader.f_back.f_locals.get("self") if reader.f_back is not None else None
        if isinstance(getattr(command, "output_path", None), Path):
            command.output_path = WholePath(command.output_path)  # type: ignore[union-attr]
        if os.environ.get(TRUST) == "1":
            return yaml.load(text, Loader=Loader)
        path = find(reader.f_locals)
        with user_errors(), reading(path, "a config.yml of Nerfstudio"):
            # What was checked is what is loaded, and not what the file may have become since it was read.
            config = yaml.load(check_config(path), Loader=Loader)
            check_names(config, path)
        return config

    module.__dict__["yaml"] = SimpleNamespace(**{**vars(yaml), "load": load})
    upstream = getattr(module, "eval_load_checkpoint", None)
    if upstream is not None and not hasattr(upstream, "_gseg_guards"):
        module.__dict__["eval_load_checkpoint"] = _guarded_loading(upstream)


def _guarded_loading(upstream: Callable[[Any, Any], tuple[Path, int]]) -> Callable[[Any, Any], tuple[Path, int]]:
    """Nerfstudio's `eval_load_checkpoint`, but of our methods nothing is unpickled, and what is damaged passed over."""

    @functools.wraps(upstream)
    def eval_load_checkpoint(config: Any, pipeline: Any) -> tuple[Path, int]:
        from gseg_ns.models.base import SegmentationModel
        from gseg_ns.models.trainer import user_errors

        if not isinstance(pipeline.model, SegmentationModel):
            return upstream(config, pipeline)
        with user_errors():
            return _load_newest(config, pipeline)

    eval_load_checkpoint._gseg_guards = True  # type: ignore[attr-defined]
    return eval_load_checkpoint


def _load_newest(config: Any, pipeline: Any) -> tuple[Path, int]:
    """Load the checkpoint of a step that is asked for, or else the newest that is whole.

    Returns:
        its path and step.

    Raises:
        GsegError: there is none, it is damaged, or of another method.
    """
    from gseg_ns.models.checkpoints import read_latest, read_newest

    folder = Path(config.load_dir)
    asked = None if config.load_step is None else folder / f"step-{config.load_step:09d}.ckpt"
    # The config of a run that went on from a step of another one names that step, too.
    path, state = read_newest([asked]) if asked is not None and asked.is_file() else read_latest(folder.parent, folder)
    step = int(state["step"])
    with reading(path, f"a checkpoint of this run of {config.method_name}"):
        pipeline.load_pipeline(state["pipeline"], step)
    return path, step


class _WhenImported(MetaPathFinder):
    """Guards a reader as soon as it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the readers as Python does, and nothing else."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _READERS else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _guard(module, fullname)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
