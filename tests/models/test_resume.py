"""A resumed run is the undisturbed one, to the last bit."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.saga_v1 import saga_v1
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models.checkpoints import checkpoints, read_latest

MakeTrainer = Callable[..., Any]
Step = Callable[..., dict[str, Tensor]]
STEPS = 40
OPTIONS: dict[str, dict[str, Any]] = {
    "gaga": {"refine_every": 5, "warmup_length": 4},
    "gradiseg": {"refine_every": 4, "warmup_length": 4},
    "unified-lift": {"refine_every": 5, "warmup_length": 4},
    "saga": {},
    "saga-v1": {"guidance_weight": 0.0},
}
METHODS = {method.config.method_name: method for method in (gaga, gradiseg, saga, saga_v1, unified_lift)}


def fingerprint(trainer: Any) -> dict[str, Tensor]:
    """All parameters and moments, and what is drawn next."""
    found = {name: value.clone() for name, value in trainer.pipeline.model.named_parameters()}
    for name, optimizer in trainer.optimizers.optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            found |= {f"{name} {number} {key}": torch.as_tensor(value).clone() for key, value in state.items()}
    datamanager = trainer.pipeline.datamanager
    views = [datamanager.next_train(0)[1]["image_idx"] for _ in range(20)]
    views += [datamanager.next_eval(0)[1]["image_idx"] for _ in range(5)]
    found["views"] = torch.tensor(views)
    found["chance"] = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])  # noqa: NPY002
    return found


@pytest.mark.parametrize(
    ("name", "stops"),
    [("gaga", (7, 29, 35)), ("saga", (10, 35)), ("saga-v1", (35,)), ("unified-lift", (35, 37)), ("gradiseg", (19, 30))],
)
def test_a_resume_goes_on_bit_for_bit(
    name: str, stops: tuple[int, ...], make_trainer: MakeTrainer, small_scene: Path, step: Step, tmp_path: Path
) -> None:
    method, options = METHODS[name], OPTIONS[name]
    trainer = make_trainer(method, small_scene, steps=STEPS, **options)
    losses = []
    for number in range(STEPS):
        random.random()  # as evaluation does
        losses.append({key: value.item() for key, value in step(trainer, number).items()})
        if number in stops:
            trainer.save_checkpoint(number)
    if name == "gaga":  # within both phases and between them
        assert stops[0] < trainer.pipeline.model.geometry_steps == stops[1] + 1 < stops[2]
    undisturbed = fingerprint(trainer)
    for stop in stops:
        folder = tmp_path / f"stopped{stop}"
        folder.mkdir()
        shutil.copy(trainer.checkpoint_dir / f"step-{stop:09d}.ckpt", folder)
        resumed = make_trainer(method, small_scene, load=folder, steps=STEPS, **options)
        assert resumed._start_step == stop + 1
        for number in range(stop + 1, STEPS):
            random.random()
            found = {key: value.item() for key, value in step(resumed, number).items()}
            assert found == losses[number], (stop, number)
        again = fingerprint(resumed)
        assert again.keys() == undisturbed.keys()
        for key, value in undisturbed.items():
            assert torch.equal(again[key], value), (stop, key)


@pytest.mark.parametrize("damage", ["half", "empty", "a flipped bit"])
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_taken(
    damage: str,
    make_trainer: MakeTrainer,
    small_scene: Path,
    step: Step,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(saga, small_scene)
    step(trainer, 0)
    for number in (0, 1):
        trainer.save_checkpoint(number)
    folder = trainer.checkpoint_dir
    newest, former = checkpoints(folder)
    content = bytearray(newest.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 4
    newest.write_bytes({"half": content[: len(content) // 2], "empty": b""}.get(damage, content))
    assert make_trainer(saga, small_scene, load=folder)._start_step == 1
    assert newest.name in capsys.readouterr().out.replace("\n", "").replace(" ", "")
    assert read_latest(folder.parent)[0] == former
    former.write_bytes(b"")
    with pytest.raises(SystemExit):
        make_trainer(saga, small_scene, load=folder)
    with pytest.raises(GsegError, match=former.name):
        read_latest(folder.parent)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    make_trainer: MakeTrainer, small_scene: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(saga, small_scene)
    trainer.config.save_only_latest_checkpoint = True
    step(trainer, 0)
    trainer.save_checkpoint(0)
    save = torch.save

    def full(state: Any, path: Path) -> None:
        save(state, path)
        path.write_bytes(path.read_bytes()[:1000])
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(GsegError, match=r"step-000000001\.ckpt"):
            trainer.save_checkpoint(1)
    assert [path.name for path in trainer.base_dir.rglob("*.ckpt")] == ["step-000000000.ckpt"]
    trainer.save_checkpoint(2)
    assert [path.name for path in trainer.base_dir.rglob("*.ckpt")] == ["step-000000002.ckpt"]
    assert {path.name for path in trainer.base_dir.glob(".*")} <= {".lock"}


def test_two_do_not_train_into_one_folder(make_trainer: MakeTrainer, small_scene: Path) -> None:
    trainer = make_trainer(saga, small_scene)
    config = trainer.config
    code = (
        "import sys; from pathlib import Path; from gseg_ns.folders import sole_use\n"
        "with sole_use(Path(sys.argv[1]), 'trains into'): pass"
    )
    command = [sys.executable, "-c", code, str(config.get_base_dir())]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Another process trains into" in refused.stderr
    config.max_num_iterations = 1
    trainer.train()
    assert subprocess.run(command, check=False).returncode == 0
