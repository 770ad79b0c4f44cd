"""How the trainer's Adam updates, and what it goes on from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from gseg_ns import terminal
from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.saga import saga
from gseg_ns.models.adam import SharedAdam, SharedOptimizers
from gseg_ns.models.trainer import update_in_one_pass, write_whole
from gseg_ns.rendering import ssim
from gseg_ns.rendering.ssim import Ssim


def adam_of(values: Tensor) -> Any:
    return torch.optim.Adam([torch.nn.Parameter(values.clone())], lr=0.01, eps=1e-15)


def test_a_short_run_begins_and_ends_with_higher_rates(make_trainer: Callable[..., Any], small_scene: Path) -> None:
    raised, plain = (make_trainer(saga, small_scene, scale_rates=scaled) for scaled in (True, False))
    shorter = 30_000 / plain.pipeline.model.geometry_steps
    wanted = {"means": shorter**0.25, "scales": shorter**0.25, "features_rest": shorter**0.5, "opacities": 1.0}
    for name, factor in wanted.items():
        of = [float(trainer.optimizers.optimizers[name].param_groups[0]["lr"]) for trainer in (raised, plain)]
        assert of[0] == pytest.approx(factor * of[1]), name
    ends = []
    for trainer in (raised, plain):
        scheduler = trainer.optimizers.schedulers["means"]
        ends.append(scheduler.base_lrs[0] * scheduler.lr_lambdas[0](10**6))
    assert ends == pytest.approx([1.6e-6 * wanted["means"], 1.6e-6])


def test_a_rate_that_is_given_stays(make_trainer: Callable[..., Any], small_scene: Path) -> None:
    given = SimpleNamespace(config=copy.deepcopy(saga.config))
    given.config.optimizers["scales"]["optimizer"].lr = 0.007
    given.config.optimizers["means"]["scheduler"].lr_final = 1e-7
    given.config.optimizers["quats"]["optimizer"].max_norm = 1.0
    optimizers = make_trainer(given, small_scene).optimizers
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.optimizers.items()}
    assert rates["scales"] == 0.007
    scheduler = optimizers.schedulers["means"]
    assert scheduler.base_lrs[0] * scheduler.lr_lambdas[0](10**6) == pytest.approx(1e-7)
    assert rates["quats"] > 0.001, "what is not given rises"


def test_one_pass_is_the_same_update() -> None:
    values = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    plain, fused, other = adam_of(values), adam_of(values), torch.optim.SGD([torch.nn.Parameter(values.clone())])
    update_in_one_pass(SimpleNamespace(optimizers={"means": fused, "other": other}))  # type: ignore[arg-type]
    assert fused.param_groups[0]["fused"]
    for step in range(5):
        for optimizer in (plain, fused):
            optimizer.param_groups[0]["params"][0].grad = torch.cos(values * (step + 1))
            optimizer.step()
    torch.testing.assert_close(fused.param_groups[0]["params"][0], plain.param_groups[0]["params"][0])


@pytest.mark.parametrize("saved_by", ["one pass", "many"])
def test_a_resume_goes_on_from_either_kind_of_adam(
    saved_by: str, make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    trainer = make_trainer(saga, small_scene)
    optimizers = trainer.optimizers.optimizers
    assert all(group["fused"] for optimizer in optimizers.values() for group in optimizer.param_groups)
    if saved_by == "many":
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["fused"] = None
    for number in range(4):
        step(trainer, number)
    trainer.save_checkpoint(3)
    again = make_trainer(saga, small_scene, load=trainer.checkpoint_dir)
    moments = again.optimizers.optimizers["means"].state_dict()["state"][0]
    assert torch.equal(moments["exp_avg"], optimizers["means"].state_dict()["state"][0]["exp_avg"])
    assert float(moments["step"]) == 4
    before = again.pipeline.model.means.detach().clone()
    assert all(bool(torch.isfinite(value)) for value in step(again, 4).values())
    assert not torch.equal(again.pipeline.model.means, before)
    assert float(again.optimizers.optimizers["means"].state_dict()["state"][0]["step"]) == 5


def test_the_frame_of_a_scene_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Any = SimpleNamespace()
    write_whole(parsed)
    path = tmp_path / "run/dataparser_transforms.json"

    def save(_: Any, path: Path) -> None:
        path.write_text("whole")

    monkeypatch.setattr(DataparserOutputs, "save_dataparser_transform", save)
    parsed.save_dataparser_transform(path)

    def fail(_: Any, path: Path) -> None:
        path.write_text("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DataparserOutputs, "save_dataparser_transform", fail)
    with pytest.raises(GsegError, match="No space left"):
        parsed.save_dataparser_transform(path)
    assert [path.read_text() for path in path.parent.iterdir()] == ["whole"]


def test_a_step_takes_metrics_only_where_they_are_logged_and_its_loss_is_the_same(
    make_trainer: Callable[..., Any], small_scene: Path, step: Callable[..., dict[str, Tensor]]
) -> None:
    trainer = make_trainer(saga, small_scene)
    model = trainer.pipeline.model
    trainer.config.logging.steps_per_log = 2
    assert isinstance(model.ssim, Ssim)
    taken: list[dict[str, Any]] = []
    iterate = trainer.train_iteration

    def train_iteration(number: int) -> Any:
        found = iterate(number)
        taken.append(found[2])
        return found

    trainer.train_iteration = train_iteration
    for number in range(3):
        step(trainer, number)
    assert [("psnr" in metrics, "gaussian_count" in metrics) for metrics in taken] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert model.metrics_are_read
    # The kernels' loss is pytorch-msssim's, at full size and, as at first, at half of it, and with a mask.
    camera, batch = trainer.pipeline.datamanager.next_train(3)
    kernels = model.ssim
    for downscales, masked in ((0, False), (1, False), (0, True)):
        model.config.num_downscales, model.step = downscales, 0
        outputs = model(camera)
        if masked:
            batch["mask"] = torch.rand(*batch["image"].shape[:2], 1) > 0.5
        found = []
        for model.ssim in (kernels, kernels.upstream):
            value = model.get_loss_dict(outputs, batch)["main_loss"]
            found.append((value, *torch.autograd.grad(value, outputs["rgb"], retain_graph=True)))
        torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-6)
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("downscales", "masked", "expected"), [(0, False, 1), (1, False, 0), (0, True, 0)], ids=["whole", "half", "masked"]
)
def test_a_step_takes_the_fast_ways(
    downscales: int,
    masked: bool,
    expected: int,
    make_trainer: Callable[..., Any],
    small_scene: Path,
    step: Callable[..., dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole photograph's loss is found in one pass, and updates are shared as one; of neither would a loss tell."""
    trainer = make_trainer(saga, small_scene)
    trainer.pipeline.model.config.num_downscales = downscales
    assert isinstance(trainer.optimizers, SharedOptimizers)
    assert {type(optimizer) for optimizer in trainer.optimizers.optimizers.values()} == {SharedAdam}
    datamanager, likeness, calls = trainer.pipeline.datamanager, ssim._Likeness.forward, list[int]()
    next_train = datamanager.next_train

    def next_masked(number: int) -> Any:
        camera, batch = next_train(number)
        return camera, {**batch, "mask": torch.ones(*batch["image"].shape[:2], 1, dtype=torch.bool)}

    def forward(*args: Any) -> Any:
        calls.append(1)
        return likeness(*args)

    if masked:
        monkeypatch.setattr(datamanager, "next_train", next_masked)
    monkeypatch.setattr(ssim._Likeness, "forward", staticmethod(forward))
    for number in range(2):
        step(trainer, number)
        assert len(calls) == expected * (number + 1)


def test_ctrl_c_is_told_in_a_line(
    make_trainer: Callable[..., Any],
    small_scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nerfstudio would print where the program was."""
    from nerfstudio.engine.trainer import Trainer

    trainer = make_trainer(gaga, small_scene)
    trainer.step = 3
    trainer.save_checkpoint(2)

    def interrupted(self: Trainer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", interrupted)
    capsys.readouterr()
    with terminal.quietly(trainer.base_dir / "a.log"), pytest.raises(SystemExit) as ended:
        trainer.train()
    assert ended.value.code == 130
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Stopped in step 3 of 40. To go on from step-000000002.ckpt, add --load-dir")
