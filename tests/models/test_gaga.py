"""gaga through Nerfstudio's trainer, on a small scene and a few dozen steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gseg_ns.data import datamanager
from gseg_ns.data.datamanager import MaskDatamanagerConfig
from gseg_ns.errors import GsegError
from gseg_ns.lifting.consensus import ConsensusOptions
from gseg_ns.lifting.strengths import Strengths
from gseg_ns.lifting.votes import VoteStore
from gseg_ns.masks import MaskSet
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.models import voted
from gseg_ns.models.gaga import GagaModel, GagaModelConfig
from gseg_ns.rendering import PixelWeights, pixel_weights

STEPS = 40
START = 30
"""First step of the identity phase: three quarters of the run."""

Step = Callable[[Any, int], dict[str, torch.Tensor]]


def train(trainer: Any, step: Step, first: int, last: int) -> list[float]:
    return [sum(value.item() for value in step(trainer, number).values()) for number in range(first, last)]


@pytest.fixture
def trained(make_trainer: Callable[..., Any], small_scene: Path, step: Step) -> Any:
    trainer = make_trainer(gaga, small_scene)
    train(trainer, step, 0, STEPS)
    return trainer


def state(trainer: Any) -> dict[str, torch.Tensor]:
    """Everything that training depends on, flat."""
    model = trainer.pipeline.model
    flat = {f"model.{name}": value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for group, optimizer in trainer.optimizers.optimizers.items():
        current = optimizer.param_groups[0]["params"]
        for index, parameter in enumerate(current):
            flat[f"{group}.{index}.value"] = parameter.detach()
            for name, value in optimizer.state.get(parameter, {}).items():
                flat[f"{group}.{index}.{name}"] = torch.as_tensor(value)
    for name, value in model.strategy_state.items():
        if isinstance(value, torch.Tensor):
            flat[f"strategy.{name}"] = value
    for name, lookup in model.lookups.items():
        flat[f"lookup.{name}"] = lookup
    return {name: value.clone() for name, value in flat.items()}


def test_geometry_trains_first_and_is_frozen_then(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step
) -> None:
    trainer = make_trainer(gaga, small_scene)
    model = trainer.pipeline.model
    losses = step(trainer, 0)
    assert "main_loss" in losses
    assert model.num_groups == 0
    train(trainer, step, 1, START)
    losses = step(trainer, START)  # which begins with leaving out what no picture shows
    before = {name: value.detach().clone() for name, value in model.gauss_params.items()}
    assert {"identity_2d", "identity_3d"} == set(losses)
    assert model.num_groups > 3
    train(trainer, step, START + 1, STEPS)
    for name, value in model.gauss_params.items():
        assert torch.equal(value, before[name]) == (name != "identity"), name


def test_training_lowers_the_identity_loss(trained: Any, step: Step) -> None:
    model = trained.pipeline.model
    torch.manual_seed(1)
    model.gauss_params["identity"].data.normal_(std=0.1)
    losses = [float(step(trained, number)["identity_2d"]) for number in range(STEPS, STEPS + 60)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_sampled_loss_is_that_of_a_full_render(trained: Any) -> None:
    """Cached contributions and a rendered feature image give the same scores and gradients."""
    model = trained.pipeline.model
    view = 2
    weights, targets = model._sample(view)
    encodings = model.gauss_params["identity"]
    cached = weights.matmul(encodings)
    cached.square().sum().backward()
    gradient = encodings.grad.clone()
    encodings.grad = None

    with model._evaluating():
        model.render(model.masks().camera(view))
        image = model.composite(encodings)
    groups = model.group_map(view).flatten()
    pixels = groups.nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(view)
    pixels = pixels[torch.randperm(len(pixels), generator=generator)[: model.config.identity_pixels]].sort().values
    rendered = image.reshape(-1, 16)[pixels]
    assert torch.equal(groups[pixels], targets)
    assert (rendered - cached).norm() < 1e-4 * cached.norm()
    rendered.square().sum().backward()
    # The two cameras differ by rounding, which moves a few contributions across the cut at 1/255: 4e-3 each.
    assert (encodings.grad - gradient).norm() < 4e-3 * gradient.norm()
    encodings.grad = None


def test_each_visit_of_a_view_asks_other_pixels(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pool that is kept: the same in the same step, so that a resumed run goes on as it would have."""
    model = trained.pipeline.model
    monkeypatch.setattr(model.config, "identity_pixels", 40)
    monkeypatch.setattr(model, "_samples", model._empty_cache())
    encodings = model.gauss_params["identity"].detach()
    pool = model._samples.get(2, lambda: model._pool(2))
    assert len(pool[3]) == 160
    asked = []
    for step in (7, 8, 7):
        monkeypatch.setattr(model, "step", step)
        weights, targets = model._sample(2)
        assert len(weights) == len(targets) == 40
        asked.append(weights.matmul(encodings))
    assert torch.equal(asked[0], asked[2])
    assert not torch.equal(asked[0], asked[1])
    # A run of another seed asks others.
    before = torch.initial_seed()
    torch.manual_seed(before + 1000)
    other = model._sample(2)[0].matmul(encodings)
    torch.manual_seed(before)
    assert not torch.equal(asked[0], other)


@pytest.mark.parametrize(("gib", "kept"), [(1.0, 160), (0.0, 80)])
def test_a_pool_without_room_is_smaller_and_says_the_same(
    trained: Any, monkeypatch: pytest.MonkeyPatch, gib: float, kept: int
) -> None:
    model = trained.pipeline.model
    monkeypatch.setattr(model.config, "identity_pixels", 40)
    monkeypatch.setattr(model.config, "cache_gib", gib)
    crow, col, val, targets, starts = model._pool(2)
    assert len(targets) == kept
    assert torch.equal(crow, starts)
    assert int(starts[-1]) == len(col) == len(val)
    # Each row is that of a pixel of its group.
    groups = model.group_map(2).flatten()
    weights = PixelWeights(crow, col.long(), val, model.num_points)
    own = weights.matmul(torch.ones(model.num_points, 1)).squeeze(1)
    every = pixel_weights(model.project_view(2), torch.arange(len(groups))).matmul(torch.ones(model.num_points, 1))
    for group in targets.unique().tolist():
        assert torch.isin(own[targets == group], every[groups == group].squeeze(1)).all()


@pytest.mark.parametrize("at", [START - 6, START + 4], ids=["geometry phase", "identity phase"])
def test_a_resumed_run_is_where_it_was(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step, at: int
) -> None:
    first = make_trainer(gaga, small_scene, refine_every=5, warmup_length=5)
    train(first, step, 0, at)
    first.save_checkpoint(at - 1)
    expected = state(first)
    again = make_trainer(gaga, small_scene, load=first.checkpoint_dir, refine_every=5, warmup_length=5)
    assert again._start_step == at
    found = state(again)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    # The sampler of views starts anew, so that single losses differ; their level must not.
    on, resumed = train(first, step, at, STEPS), train(again, step, at, STEPS)
    assert sum(resumed) / len(resumed) == pytest.approx(sum(on) / len(on), rel=0.35)


def test_resumed_optimizers_train_the_loaded_parameters(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step
) -> None:
    """Upstream keeps optimizing the parameters from before the load (nerfstudio #3554)."""
    first = make_trainer(gaga, small_scene)
    train(first, step, 0, 10)
    first.save_checkpoint(9)
    again = make_trainer(gaga, small_scene, load=first.checkpoint_dir)
    before = again.pipeline.model.means.detach().clone()
    step(again, 10)
    assert not torch.equal(again.pipeline.model.means, before)


def test_geometry_from_a_ply_skips_the_geometry_phase(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step, tmp_path: Path, trained: Any
) -> None:
    from gseg_ns.splats.ply import write_ply

    write_ply(tmp_path / "trained.ply", trained.pipeline.model.splats())
    trainer = make_trainer(gaga, small_scene, geometry=tmp_path / "trained.ply")
    assert "identity_2d" in step(trainer, 0)
    assert trainer.pipeline.model.num_groups == trained.pipeline.model.num_groups
    torch.testing.assert_close(trainer.pipeline.model.means, trained.pipeline.model.means)
    sh = trained.pipeline.model.splats().sh
    torch.testing.assert_close(trainer.pipeline.model.splats().sh, sh)


def test_masks_that_agree_already_are_not_associated(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step
) -> None:
    trainer = make_trainer(gaga, small_scene, masks_dir=Path("gt/object"), masks_are_consistent=True)
    train(trainer, step, 0, START + 1)
    model = trainer.pipeline.model
    assert model.num_groups == 5
    labels = model.masks().labels(0)
    assert torch.equal(model.group_map(0), labels.long())


def test_only_training_views_take_part(make_trainer: Callable[..., Any], small_scene: Path, step: Step) -> None:
    trainer = make_trainer(gaga, small_scene)
    train(trainer, step, 0, START + 1)
    data = trainer.pipeline.datamanager
    trained = {path.as_posix() for path in data.train_dataset.image_filenames}
    assert set(trainer.pipeline.model.lookups) == trained
    assert not trained & {path.as_posix() for path in data.eval_dataset.image_filenames}


def test_views_without_masks_train_on_the_others(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step, tmp_path: Path
) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    removed = sorted((scene / "masks").glob("*.json"))[:10]
    for path in removed:
        path.unlink()
    trainer = make_trainer(gaga, scene)
    losses = train(trainer, step, 0, STEPS)
    assert all(loss == loss for loss in losses)


def test_more_than_255_groups(make_trainer: Callable[..., Any], small_scene: Path, step: Step, tmp_path: Path) -> None:
    """Every 4 x 4 block its own mask: hundreds of groups, none lost, none folded onto another.

    Blocks of the picture are nothing that views agree about, so it is the memory bank that keeps them apart.
    """
    from gseg_ns.masks import write_label_map

    scene = tmp_path / "scene"
    shutil.copytree(small_scene, scene)
    shutil.rmtree(scene / "masks")
    y, x = torch.meshgrid(torch.arange(72) // 4, torch.arange(96) // 4, indexing="ij")
    for number, image in enumerate(sorted((scene / "images").iterdir())):
        write_label_map(scene / "masks" / f"{image.stem}.png", (y * 24 + x + number) % 432 + 1)
    trainer = make_trainer(gaga, scene, association="memory-bank")
    train(trainer, step, 0, STEPS)
    model = trainer.pipeline.model
    assert model.num_groups > 255
    assert model.gaussian_groups().max() > 255
    camera = trainer.pipeline.datamanager.camera(0)
    assert len(model.label_image(camera).unique()) > 80


def test_a_checkpoint_of_another_method_is_refused(
    make_trainer: Callable[..., Any], small_scene: Path, step: Step
) -> None:
    trainer = make_trainer(gaga, small_scene)
    saved = {name: value for name, value in trainer.pipeline.model.state_dict().items() if "identity" not in name}
    with pytest.raises(GsegError, match="of another method"):
        trainer.pipeline.model.load_state_dict(saved)


def test_outputs_of_a_view(trained: Any) -> None:
    model, data = trained.pipeline.model, trained.pipeline.datamanager
    trained.pipeline.eval()
    outputs = model.get_outputs_for_camera(data.camera(1))
    for name in ("rgb", "groups", "features"):
        assert outputs[name].shape == (72, 96, 3), name
        assert 0 <= outputs[name].min() <= outputs[name].max() <= 1, name
    assert outputs["features"].std() > 0.01
    labels = model.label_image(data.camera(1))
    assert labels.shape == (72, 96)
    assert set(labels.unique().tolist()) <= set(range(model.num_groups + 1))


@pytest.mark.parametrize(
    ("model", "masks", "kind"),
    [
        ({}, {}, "tree"),
        ({"labels": "encodings"}, {}, "consensus"),
        ({"labels": "encodings", "association": "tree"}, {}, "tree"),
        ({"consensus": ConsensusOptions(mask_share=0.6)}, {}, "consensus"),
        ({}, {"mask_order": "largest"}, "consensus"),
        ({}, {"mask_min_score": 0.7}, "consensus"),
        ({}, {"mask_min_visible": 0.2}, "consensus"),
        ({}, {"snap_masks": True}, "consensus"),
        ({}, {"masks_are_consistent": True}, "given"),
    ],
)
def test_who_says_how_masks_are_painted_or_answer_gets_no_tree(
    model: dict[str, Any], masks: dict[str, Any], kind: str
) -> None:
    manager = SimpleNamespace(config=MaskDatamanagerConfig(**masks), masks_nest=lambda: True)
    asked: Any = SimpleNamespace(config=GagaModelConfig(**model), masks=lambda: manager)
    assert GagaModel.association(asked) == kind


def test_a_tree_grows_of_masks_of_label_maps() -> None:
    said = MaskSet.from_arrays(torch.ones(3, 4, 5), [0.6, 0.4, 0.5])
    model = GagaModel.__new__(GagaModel)
    model.masks = lambda: SimpleNamespace(  # type: ignore[method-assign,assignment,return-value]
        config=MaskDatamanagerConfig(), mask_set=lambda view: said if view else None
    )
    kept = model.tree_masks(1)
    assert kept is not None
    assert kept.scores.tolist() == pytest.approx([0.6, 0.5])
    assert model.tree_masks(0) is None


def test_what_views_say_is_kept_in_bounded_memory(
    make_trainer: Callable[..., Any], small_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_trainer(gaga, small_scene).pipeline.model
    manager = model.masks()
    asked = model.ask_masks(manager.labels)
    assert isinstance(asked.painted, VoteStore)
    assert len(asked.painted) == len(asked.views) > 0
    assert all(len(said.gaussians.unique()) == len(said.gaussians) for said in asked.painted)  # the foremost alone
    # Projections are kept where a view is asked again.
    for fitted, cluster, kept in ((True, None, True), (False, None, False), (True, SimpleNamespace(), False)):
        model.config.use_strengths, model.cluster = fitted, cluster
        with model.projected_once():
            assert (model._projections is not None) == kept
    # And masks are looked at once.
    looked: list[int] = []
    monkeypatch.setattr(datamanager, "masks_nest", lambda *_: bool(looked.append(0)))  # type: ignore[func-returns-value]
    assert not manager.masks_nest()
    assert not manager.masks_nest()
    assert len(looked) == 1


def test_strengths_see_the_photographs(
    make_trainer: Callable[..., Any], small_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As views are trained on; not where borders of masks were moved before."""
    model = make_trainer(gaga, small_scene).pipeline.model
    manager = model.masks()
    model.voted_labels = torch.ones(model.num_points, dtype=torch.int32)
    given: list[Any] = []

    def fit(labels: torch.Tensor, count: int, ask: Any, options: Any, photograph: Any) -> Strengths:
        given.append(photograph and [photograph(number, *manager.labels(number).shape) for number in range(count)])
        return Strengths(torch.ones(len(labels)), 1.0, 10, 0.2, 0.1)

    monkeypatch.setattr(voted, "fit_strengths", fit)
    model._fit_strengths()
    views = [view for view in range(model.num_train_data) if manager.labels(view) is not None]
    assert len(given[0]) == len(views)
    for view, photograph in zip(views, given[0], strict=True):
        assert photograph.dtype == torch.uint8
        assert photograph.shape == (*manager.labels(view).shape, 3)
        assert torch.equal(photograph, manager.read_photograph(view)["image"][..., :3])
    manager.config.snap_masks = True
    model._fit_strengths()
    assert given[1] is None
