"""A further method is a model and a configuration: nothing else has to know it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification
from torch import Tensor

from gseg_ns.benchmarking import ClickProtocol, click_scores
from gseg_ns.cli.evaluate import Eval
from gseg_ns.cli.export import Export
from gseg_ns.cli.isolate import Isolate
from gseg_ns.cli.render import Render
from gseg_ns.cli.select import Select
from gseg_ns.data import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.masks import read_label_map
from gseg_ns.method_configs.common import trainer_config
from gseg_ns.models import SegmentationModel, SegmentationModelConfig
from gseg_ns.models.registry import feature_steps, method_config, segmentation_methods, takes_geometry
from gseg_ns.rendering import pixel_weights
from gseg_ns.runs import load_run
from gseg_ns.splats import read_ply
from gseg_ns.viewer import SegmentController

STEPS, GROUPS = 200, 16


@dataclass
class OneHotModelConfig(SegmentationModelConfig):
    """Masks whose ids agree already; a Gaussian has a number for each of them."""

    _target: type = field(default_factory=lambda: OneHotModel)
    geometry_fraction: float = 0.5


class OneHotModel(SegmentationModel):
    feature_dims = {"votes": GROUPS}  # noqa: RUF012
    main_feature = "votes"

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        labels = self.masks().labels(view)
        assert labels is not None
        pixels = torch.arange(0, labels.numel(), 7)
        seen = pixel_weights(self.project_view(view), pixels).matmul(self.gauss_params["votes"])
        return {"votes": F.mse_loss(seen, F.one_hot(labels.flatten()[pixels].long(), GROUPS).float())}

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        return features.argmax(dim=-1)

    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        return self.decode(self.gauss_params["votes"])


one_hot = MethodSpecification(
    config=trainer_config(
        "one-hot",
        OneHotModelConfig(),
        optimizers={"votes": {"optimizer": AdamOptimizerConfig(lr=0.05), "scheduler": None}},
        max_num_iterations=STEPS,
    ),
    description="as simple as can be",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registered as Nerfstudio lets anyone register a method without installing it."""
    monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", f"one-hot={__name__}:one_hot")
    segmentation_methods.cache_clear()
    yield
    segmentation_methods.cache_clear()


def test_methods_tell_their_own_facts() -> None:
    assert {"gaga", "saga", "saga-v1", "unified-lift", "gradiseg", "one-hot"} <= set(segmentation_methods())
    assert "splatfacto" not in segmentation_methods()
    assert [takes_geometry(name) for name in ("gaga", "saga", "unified-lift", "one-hot")] == [True, True, False, True]
    assert feature_steps("gaga", 1000) == 250
    assert feature_steps("one-hot", 1000) == 500
    with pytest.raises(GsegError, match="gaga, gradiseg"):
        method_config("splatfacto")


def test_a_sixth_method_works_everywhere(
    make_trainer: Callable[..., Any], step: Callable[[Any, int], Any], small_scene: Path, tmp_path: Path
) -> None:
    truth = small_scene / "gt" / "instance"
    trainer = make_trainer(one_hot, small_scene, steps=STEPS, masks_dir=Path("gt/instance"))
    losses = [step(trainer, number) for number in range(STEPS)]
    assert float(losses[-1]["votes"]) < 0.7 * float(losses[STEPS // 2]["votes"])
    trainer.save_checkpoint(STEPS - 1)
    config = trainer.base_dir / "config.yml"

    run = load_run(config)
    assert isinstance(run.model, OneHotModel)
    Eval(config, truth, output=tmp_path / "scores.json").main()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["iou"] > 35  # a tenth of it by chance
    assert click_scores(run, [truth], ClickProtocol(clicks=1))["click_iou"] > 35

    Render(config, tmp_path / "views", outputs=("groups",)).main()
    ids = sorted((tmp_path / "views" / "ids").glob("*.png"))
    assert ids
    labels = read_label_map(ids[0])
    Export(config, tmp_path / "objects", min_gaussians=1).main()
    listed = json.loads((tmp_path / "objects" / "objects.json").read_text())["objects"]
    assert listed

    group = int(labels[labels > 0].mode().values)
    y, x = (labels == group).nonzero().float().median(dim=0).values.tolist()
    if int(labels[int(y), int(x)]) != group:
        # in the middle of all: at the picture's edge Gaussians may cover less than half of a pixel
        inside = (labels == group).nonzero()
        y, x = inside[(inside - inside.double().mean(dim=0)).norm(dim=1).argmin()].tolist()
    Select(config, tmp_path / "clicked.ply", view=ids[0].stem, point=((x + 0.5, y + 0.5),)).main()
    controller = SegmentController(run.model)
    controller.click(to_camera(run.view(ids[0].stem).camera), x + 0.5, y + 0.5, positive=True)
    assert int(controller.selected.sum()) == len(read_ply(tmp_path / "clicked.ply")) > 0
    assert torch.equal(controller.selected, run.model.gaussian_groups() == group)

    Isolate(config, name="alone", groups=[group], output_dir=tmp_path / "alone").main()
    [alone] = (tmp_path / "alone").rglob("config.yml")
    assert load_run(alone).model.num_points == int(controller.selected.sum())
