"""Every method and the main commands on a GPU: on a real one where there is one, else on the phantom of `support`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gseg_ns.cli.main import entrypoint
from gseg_ns.errors import GsegError
from gseg_ns.lifting.similarity import similarity
from gseg_ns.masks import read_label_map
from gseg_ns.masks.sources.base import torch_device
from gseg_ns.objects import FringeOptions
from gseg_ns.runs import answering
from gseg_ns.runs.run import load_run
from gseg_ns.selection.prompts import Prompt
from gseg_ns.viewer import drawing
from gseg_ns.viewer.controller import SegmentController

pytestmark = pytest.mark.cuda

LIMITS = {
    (row[0], row[1]): float(row[2])
    for row in re.findall(
        r"^\| `([\w-]+)` \| (\w+) \| [\d.]+ \| ([\d.]+) \|$",
        (Path(__file__).parents[1] / "docs/cuda.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
"""(method, phase) -> waits a step at most, from the table in the documentation."""


def waits() -> int | None:
    """How often this process has waited for the phantom GPU; None on a real one."""
    phantom = sys.modules.get("phantom_cuda")
    return None if phantom is None else sum(phantom.waits().values())


def check_waits(name: str, phase: str, step: Callable[[int], Any], steps: range) -> None:
    """Run steps, and hold their waits against the table."""
    before = waits()
    for number in steps:
        step(number)
    if before is not None:
        each = (waits() - before) / len(steps)  # type: ignore[operator]
        places = sys.modules["phantom_cuda"].waits().most_common(12)
        assert each <= LIMITS[name, phase], f"{name}, {phase}: {each} waits a step; of all so far: {places}"


def method(name: str) -> Any:
    """The specification of a method of `ns-train`."""
    module = name.replace("-", "_")
    return getattr(importlib.import_module(f"gseg_ns.method_configs.{module}"), module)


@pytest.mark.parametrize("name", ["gaga", "saga", "saga-v1"])
def test_two_phases(name: str, ball_room: Path, make_trainer: Any, step: Any) -> None:
    options = {"guidance_weight": 0.0} if name == "saga-v1" else {}
    trainer = make_trainer(method(name), ball_room, steps=40, max_gaussians=1500, **options)
    model = trainer.pipeline.model
    assert model.device.type == "cuda"
    for number in range(4):
        step(trainer, number)
    check_waits(name, "geometry", lambda number: step(trainer, number), range(4, 8))
    step(trainer, 30)
    for view in range(len(trainer.pipeline.datamanager.train_dataset)):
        model.feature_losses(view)  # what is computed once a view
    check_waits(name, "features", lambda number: step(trainer, number), range(31, 40))
    model.eval()
    assert model.gaussian_groups().is_cuda
    assert all(value.is_cuda for value in model.state_dict().values() if isinstance(value, torch.Tensor))
    trainer.save_checkpoint(39)
    resumed = make_trainer(
        method(name), ball_room, load=trainer.checkpoint_dir, steps=44, max_gaussians=1500, **options
    )
    step(resumed, 40)


def test_photographs_that_would_crowd_the_card_stay_beside_it(
    ball_room: Path,
    make_trainer: Any,
    step: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (12 << 20, 8 << 30))  # 12 photographs take 2.9 MB
    crowded = make_trainer(method("gradiseg"), ball_room, steps=8, max_gaussians=500, labels="encodings")
    assert not crowded.pipeline.datamanager.cached_train[0]["image"].is_cuda
    assert "they stay in the host's memory" in " ".join(capsys.readouterr().out.split())
    for number in (0, 2, 3):  # with the association, whose label maps stay there, too
        step(crowded, number)
    for view in range(len(crowded.pipeline.datamanager.train_dataset)):
        crowded.pipeline.model.targets(view, 192, 256)
    check_waits("gradiseg", "joint", lambda number: step(crowded, number), range(4, 8))
    kept = [flat for _, flat in crowded.pipeline.model._targets.values()]
    assert len(kept) > 0
    assert not any(flat.is_cuda for flat in kept)


@pytest.mark.parametrize("name", ["unified-lift", "gradiseg"])
def test_joint_training(name: str, ball_room: Path, make_trainer: Any, step: Any) -> None:
    options: dict[str, Any] = {"codebook_start": 0.5} if name == "unified-lift" else {}
    trainer = make_trainer(
        method(name), ball_room, steps=30, max_gaussians=1500, refine_every=6, warmup_length=0, **options
    )
    for number in range(20):  # with the association, the start of codes, densification and splitting of borders
        step(trainer, number)
    for view in range(len(trainer.pipeline.datamanager.train_dataset)):
        if name == "gradiseg":
            trainer.pipeline.model.targets(view, 192, 256)
    check_waits(name, "joint", lambda number: step(trainer, number), range(20, 24))
    for number in range(24, 30):
        step(trainer, number)
    trainer.pipeline.model.eval()
    assert trainer.pipeline.model.gaussian_groups().is_cuda


@pytest.mark.parametrize(
    "command",
    [
        "eval --load-config RUN --ground-truth SCENE/gt/object --output OUT/scores.json",
        "render --load-config RUN --output-dir OUT/views --outputs groups rgb overlay features",
        "export --load-config RUN --output-dir OUT/objects",
        "isolate --load-config RUN --groups 1 --output-dir OUT/one",
        "isolate --load-config RUN --groups 1 --clean-borders --output-dir OUT/one",
        "edit --load-config RUN --groups 1 --do remove --edits OUT/edits.json --output OUT/scene.ply",
    ],
)
def test_commands(
    command: str, constructed_run: Path, ball_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        word.replace("RUN", str(constructed_run)).replace("SCENE", str(ball_room)).replace("OUT", str(tmp_path))
        for word in command.split()
    ]
    few = FringeOptions(steps=5, rounds=0)
    monkeypatch.setattr("gseg_ns.objects.fringes.FringeOptions", lambda: few)
    monkeypatch.setattr(sys, "argv", ["gseg", *words])
    entrypoint()
    assert any(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("method", ["gaga", "saga"])
def test_a_mask_is_answered(
    method: str, constructed_run: Path, constructed_saga_run: Path, ball_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "SCALES", (0.0, 1.0))
    run = load_run(constructed_run if method == "gaga" else constructed_saga_run, ball_room)
    view = next(iter(run.views("train")))
    labels = read_label_map(ball_room / "gt" / "object" / f"{Path(view.name).stem}.png").long()
    mask = labels == int(torch.bincount(labels.flatten())[1:].argmax()) + 1
    found = answering.answer_prompt(run.model, view.camera, Prompt(mask=mask))
    assert found.selected.is_cuda
    assert found.agreement > 0.75


def test_a_picture_in_motion_has_all_gaussians(
    constructed_run: Path, ball_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "QUICK", 10)
    run = load_run(constructed_run, ball_room)
    assert run.model.device.type == "cuda"
    controller = SegmentController(run.model)
    camera = next(iter(run.cameras("test"))).camera
    still, moving = (controller.outputs(camera, None, quick=quick)["rgb"] for quick in (False, True))
    assert torch.equal(still.cpu(), moving.cpu())


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(GsegError, match="not on this machine"):
        torch_device("cuda:99")


def test_likeness_to_a_query_is_that_of_the_cpu() -> None:
    features, query = torch.randn(5000, 8), torch.randn(2, 8)
    found = similarity(features.cuda(), query.cuda())
    torch.testing.assert_close(found.cpu(), similarity(features, query), rtol=1e-4, atol=1e-5)
