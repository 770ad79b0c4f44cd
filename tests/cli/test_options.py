from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gseg_ns.cli.edit import Edit
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.export import Export
from gseg_ns.cli.isolate import Isolate
from gseg_ns.cli.main import entrypoint
from gseg_ns.cli.options import SCALES, Granular
from gseg_ns.cli.render import Render
from gseg_ns.errors import GsegError
from gseg_ns.runs import run as runs


@pytest.mark.parametrize("kind", [Edit, Eval, Export, Isolate, Render])
def test_a_scale_is_refused_by_methods_without(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(model=SimpleNamespace(has_scales=False), config=SimpleNamespace(method_name="gaga"))
    monkeypatch.setattr(runs, "load_run", lambda *_, **__: run)
    Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "0.png")
    needed: dict[Any, dict[str, Any]] = {
        Edit: {},
        Eval: {"ground_truth": tmp_path},
        Export: {"output_dir": tmp_path / "out"},
        Isolate: {"groups": [1]},
        Render: {"output_dir": tmp_path / "out"},
    }
    with pytest.raises(GsegError, match="gaga has no scales"):
        kind(load_config=tmp_path / "config.yml", scale=0.5, **needed[kind]).main()


def test_levels_are_scales_by_name() -> None:
    run: Any = SimpleNamespace(model=SimpleNamespace(has_scales=True), config=SimpleNamespace(method_name="saga"))
    asked = {level: Granular(level=level).granularity(run) for level in SCALES}
    assert asked == {"part": 0.0, "object": 0.5, "group": 1.0, "best": None}
    assert Granular(scale=0.3).granularity(run) == 0.3
    assert Granular().granularity(run) is None
    with pytest.raises(GsegError, match="leave one out"):
        Granular(scale=0.3, level="part").granularity(run)
    with pytest.raises(GsegError, match="lies between 0"):
        Granular(scale=1.5).granularity(run)
    run.model.has_scales = False
    assert Granular(level="best").granularity(run) is None
    with pytest.raises(GsegError, match="leave out --level part"):
        Granular(level="part").granularity(run)


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gseg", "--version"])
    entrypoint()
    assert capsys.readouterr().out.split() == ["gseg-ns", version("gseg-ns")]
