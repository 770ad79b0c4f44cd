"""Names of models, and what the hub says of those that it does not give."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gseg_ns.errors import GsegError
from gseg_ns.masks.hub import full_name, refused, which_model
from gseg_ns.masks.pointed import load_pointed
from gseg_ns.masks.sources import GroundedConfig, Sam2Config, VideoConfig
from gseg_ns.masks.trackers import load_tracker


def test_short_names_are_known_wherever_a_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = "facebook/sam2.1-hiera-tiny"
    assert full_name("tiny") == full_name(Path("tiny")) == tiny
    assert full_name("somebody/else") == "somebody/else"
    assert Sam2Config(model="tiny").settings()["model"] == tiny
    assert Sam2Config().settings()["model"] == "facebook/sam2.1-hiera-large"
    assert GroundedConfig(sam="tiny").settings()["sam"]["model"] == tiny
    video = VideoConfig(model="tiny").settings()
    assert video["model"] == video["everything"]["model"] == tiny
    # A folder of such a name is meant first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert full_name("tiny") == which_model("tiny")["model"] == "tiny"
    assert Sam2Config(model="tiny").settings()["model"] == "tiny"


@pytest.mark.parametrize("load", [load_pointed, load_tracker])
def test_loaders_take_short_names(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    asked = []

    def gone(name: str, **options: Any) -> None:
        asked.append((name, options))
        raise OSError("offline")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", gone)
    with pytest.raises(GsegError, match="Cannot load 'yonigozlan/EdgeTAM-hf'"):
        load("edgetam", "cpu")
    assert asked == [("yonigozlan/EdgeTAM-hf", {"trust_remote_code": False})]


@pytest.mark.parametrize("load", [load_pointed, load_tracker])
def test_code_beside_a_model_is_never_run(
    load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", minversion="5")
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    (tmp_path / "own.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nOwn = None\n")
    with pytest.raises(GsegError, match="Cannot load"):
        load(tmp_path, "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("403 Client Error: Forbidden for url: https://huggingface.co/facebook/sam3", True),
        ("Client error '401 Unauthorized' for url 'https://huggingface.co/facebook/sam3'", True),
        ("You are trying to access a gated repo.\nMake sure to have access to it.", True),
        ("/data/aggregated/model has no config.json", False),
        ("/data/401/model is no folder with a model", False),
        ("Expected 403 tensors, found 401", False),
    ],
)
def test_only_what_the_hub_refuses_is_called_refused(text: str, told: bool) -> None:
    assert (refused("facebook/sam3", OSError(text)) is not None) == told
