"""unified-lift and gradiseg through Nerfstudio's trainer, on a scene of a few objects and a few dozen steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gseg_ns.demo import write_demo_scene
from gseg_ns.errors import GsegError
from gseg_ns.lifting.codebook import mask_directions
from gseg_ns.lifting.densification import GRADIENT, VISITS
from gseg_ns.lifting.strengths import silhouettes
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models import gradiseg as gradiseg_model
from gseg_ns.models import unified_lift as unified_lift_model
from gseg_ns.models.gradiseg import POSITION
from gseg_ns.models.unified_lift import UnifiedLiftModel
from gseg_ns.rendering import vote

METHODS = {"unified-lift": unified_lift, "gradiseg": gradiseg}
STEPS = 40

MakeTrainer = Callable[..., Any]  # a SegmentationTrainer, whose parts Nerfstudio types too loosely to follow


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint") / "scene"
    write_demo_scene(folder, num_objects=4, num_views=9, width=64, height=48, mask_errors="none")
    return folder


@pytest.fixture
def make_trainer(make_trainer: MakeTrainer, scene: Path) -> MakeTrainer:
    """The shared one, by name of the method and on this module's scene."""

    def make(method: str, data: Path = scene, steps: int = STEPS, **options: Any) -> Any:
        defaults: dict[str, Any] = {"max_gaussians": 3000}
        if method == "unified-lift":  # all of its losses in every step
            defaults |= {"feature_start": 0.0, "codebook_start": 0.0}
        return make_trainer(METHODS[method], data, steps=steps, **{**defaults, **options})

    return make


def step(trainer: Any, number: int) -> None:
    """One training step with its callbacks, without the loop around it."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(number)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, location=Location.AFTER_TRAIN_ITERATION)


@pytest.mark.parametrize(("method", "output"), [("unified-lift", "uncertainty"), ("gradiseg", "identity_gradient")])
def test_a_trained_model_answers_the_common_questions(make_trainer: MakeTrainer, method: str, output: str) -> None:
    trainer = make_trainer(method)
    trainer.train()
    model = trainer.pipeline.model.eval()
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[:1]
    labels = model.label_image(camera)
    assert labels.shape == (48, 64)
    assert labels.dtype == torch.int64
    groups = model.gaussian_groups()
    assert groups.shape == (model.num_points,)
    assert groups.dtype == torch.int64
    pictures = model.get_outputs_for_camera(camera)
    for name, channels in {"groups": 3, "features": 3, output: 1}.items():
        assert pictures[name].shape == (48, 64, channels)
        assert torch.isfinite(pictures[name]).all()
    assert 0 <= pictures[output].min()
    assert pictures[output].max() <= 1
    assert pictures[output].max() > 0


def test_features_of_unified_lift_leave_the_geometry_alone(make_trainer: MakeTrainer) -> None:
    with_features, without = make_trainer("unified-lift"), make_trainer("unified-lift", feature_start=0.999)
    for trainer in (with_features, without):
        model = trainer.pipeline.model.train()
        camera, batch = trainer.pipeline.datamanager.train_dataset.cameras[:1], {}
        trainer.callbacks[0].func(step=0) if trainer.callbacks[0].args is None else model.step_cb(trainer.optimizers, 0)
        batch = {"image": trainer.pipeline.datamanager.cached_train[0]["image"], "image_idx": 0}
        batch["labels"] = trainer.pipeline.datamanager.labels(0)
        torch.manual_seed(1)
        outputs = model.get_outputs(camera)
        losses = model.get_loss_dict(outputs, batch)
        torch.stack([torch.as_tensor(loss) for loss in losses.values()]).sum().backward()
    for name in ("means", "scales", "quats", "opacities", "features_dc"):
        first, second = (t.pipeline.model.gauss_params[name].grad for t in (with_features, without))
        torch.testing.assert_close(first, second)
    assert with_features.pipeline.model.gauss_params["instance"].grad.abs().sum() > 0
    assert with_features.pipeline.model.codebook.grad.abs().sum() > 0
    assert without.pipeline.model.gauss_params["instance"].grad is None


def test_a_run_of_unified_lift_ends_with_splatfactos_geometry(make_trainer: MakeTrainer) -> None:
    ends = []
    for start in (0.25, 0.999):
        trainer = make_trainer("unified-lift", feature_start=start, codebook_start=start)
        trainer.train()
        ends.append(trainer.pipeline.model.gauss_params)
    for name in ("means", "scales", "quats", "opacities", "features_dc", "features_rest"):
        assert torch.equal(ends[0][name], ends[1][name])
    assert not torch.equal(ends[0]["instance"], ends[1]["instance"])


def test_relabelling_a_view_changes_no_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("unified-lift")
    model = trainer.pipeline.model.train()
    model.step_cb(trainer.optimizers, 0)
    labels = trainer.pipeline.datamanager.labels(0)
    renamed = torch.cat([torch.zeros(1, dtype=torch.int32), torch.randperm(int(labels.max())).int() + 7])[labels.long()]
    losses = []
    for view in (labels, renamed):
        model.get_outputs(trainer.pipeline.datamanager.train_dataset.cameras[:1])
        torch.manual_seed(3)
        losses.append(model.mask_losses(view))
    assert losses[0].keys() == {"contrastive", "feature_norm", "classification", "concentration"}
    for name, loss in losses[0].items():
        torch.testing.assert_close(loss, losses[1][name])


def test_more_masks_than_codes_is_refused_before_training(
    make_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        make_trainer("unified-lift", num_codes=2)
    message = " ".join(capsys.readouterr().err.split())
    assert "masks but the codebook has 2 codes" in message
    assert "--pipeline.model.num-codes" in message


def test_another_number_of_codes_cannot_be_resumed(
    make_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer("unified-lift", steps=4)
    trainer.train()
    with pytest.raises(SystemExit):
        make_trainer("unified-lift", load=trainer.checkpoint_dir, steps=8, num_codes=64)
    assert "resume with --pipeline.model.num-codes 256" in " ".join(capsys.readouterr().err.split())


def test_only_codes_that_win_are_answers(make_trainer: MakeTrainer) -> None:
    model = make_trainer("unified-lift", num_codes=16).pipeline.model
    features = model.codebook.detach()  # each its own best match, or nearly
    model._note_wins(torch.full((16,), 50), torch.zeros(16, dtype=torch.long))
    assert bool(model.named_codes.all())  # nothing wins yet: the codebook as it is
    won = torch.zeros(16, dtype=torch.long)
    won[[3, 5]] = 50
    model._note_wins(torch.full((16,), 50), won)
    assert set(model.decode(features).tolist()) <= {4, 6}
    for _ in range(200 * model.num_train_data):  # a code that stops winning is forgotten, others stay
        model._note_wins(torch.full((16,), 50), won.where(torch.arange(16) == 3, 0))
    assert model.named_codes.nonzero().flatten().tolist() == [3]
    assert model.config.least_won > 0
    every = make_trainer("unified-lift", num_codes=16, least_won=0.0).pipeline.model
    every._note_wins(torch.full((16,), 50), won)
    assert bool(every.named_codes.all())


def test_codes_that_share_their_masks_are_one_answer(make_trainer: MakeTrainer) -> None:
    model = make_trainer("unified-lift", num_codes=16).pipeline.model
    features = torch.eye(16)  # each is its own best match
    with torch.no_grad():
        model.codebook.copy_(features)
    decoded = torch.tensor([3] * 30 + [5] * 30 + [7] * 30)
    halves = torch.tensor([3] * 60 + [7] * 30)  # codes 3 and 5 lie in one mask, 7 beside them
    for _ in range(3):
        model._note_joint(features[decoded], halves)
    assert model.decode(features)[[3, 5, 7]].tolist() == [4, 4, 8]
    for _ in range(16):  # more views that have a mask for each
        model._note_joint(features[decoded], decoded)
    assert model.decode(features).tolist() == list(range(1, 17))
    plain = make_trainer("unified-lift", num_codes=16, join_codes=None).pipeline.model
    with torch.no_grad():
        plain.codebook.copy_(features)
    plain._note_joint(features[decoded], halves)
    assert plain.decode(features).tolist() == list(range(1, 17))


def test_a_checkpoint_without_evidence_of_joint_codes_loads(make_trainer: MakeTrainer) -> None:
    model = make_trainer("unified-lift", num_codes=16).pipeline.model
    state = {name: value for name, value in model.state_dict().items() if name not in ("code_joint", "code_beside")}
    model.code_joint.fill_(9.0)
    model.load_state_dict(state)
    assert model.code_joint.abs().sum() == 0
    assert model.code_answers().tolist() == list(range(16))


def test_codes_start_where_the_features_of_masks_are(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("unified-lift", codebook_start=0.5, pixels_per_mask=400, min_pixels=5)
    model, masks = trainer.pipeline.model, trainer.pipeline.datamanager
    drawn = model.codebook.detach().clone()
    for number in range(20):
        step(trainer, number)
    assert torch.equal(model.codebook, drawn)
    model.place_codes()
    moved = (model.codebook != drawn).any(dim=1)
    assert 1 <= moved.sum() < sum(int(masks.labels(view).max()) for view in range(model.num_train_data))
    assert moved[: int(moved.sum())].all()  # what is left over stays
    placed = model.codebook.detach()[moved]
    torch.testing.assert_close(placed.norm(dim=1), torch.ones(len(placed)))
    for view in range(model.num_train_data):
        features, labels = model._drawn(model.project_view(view), masks.labels(view), view)
        believed = model._believed(features, labels)
        shown = mask_directions(features.detach(), labels, model.config.min_pixels, believed)
        assert ((shown @ placed.T).amax(dim=1) > 0.9).all()


def test_codes_are_answers_by_what_all_views_say_when_they_are_placed(make_trainer: MakeTrainer) -> None:
    model = make_trainer("unified-lift").pipeline.model
    drawn = [len(labels) for _, labels in model._drawn_views("Asking")]
    assert len(drawn) == model.num_train_data
    model.place_codes()
    assert 0.8 * sum(drawn) < model.code_matched.sum() < sum(drawn)  # each view once, and what it said fades a little
    wins = model.code_won > model.config.least_won * model.code_matched
    assert bool(wins.any())
    assert torch.equal(model.named_codes, wins)
    assert bool(model.code_beside.any())


def test_codes_are_placed_once_and_not_after_a_resume(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(UnifiedLiftModel, "place_codes", lambda model: calls.append(model.step))
    trainer = make_trainer("unified-lift", codebook_start=0.1)
    for number in range(6):
        step(trainer, number)
    assert calls == [4]
    trainer.save_checkpoint(5)
    longer = make_trainer("unified-lift", codebook_start=0.9, load=trainer.checkpoint_dir)
    before = longer.pipeline.model.codebook.detach().clone()
    step(longer, 6)  # codes that have begun go on, wherever the run now begins
    assert not torch.equal(longer.pipeline.model.codebook, before)
    assert calls == [4]
    by_chance = make_trainer("unified-lift", start_codes="random")
    step(by_chance, 0)
    assert calls == [4]
    assert bool(by_chance.pipeline.model.code_matched.any())


def test_hdbscan_names_the_objects(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("unified-lift", grouping="hdbscan", hdbscan_min_size=10, steps=10)
    trainer.train()
    model = trainer.pipeline.model.eval()
    groups = model.gaussian_groups()
    assert 1 <= groups.max() <= int(model.named_codes.sum())
    stored = torch.load(next(trainer.checkpoint_dir.glob("*.ckpt")), map_location="cpu", weights_only=True)["pipeline"]
    torch.testing.assert_close(stored["_model.codebook"], model.codebook.detach())


@pytest.mark.parametrize("method", ["unified-lift", "gradiseg"])
def test_views_without_masks_train_colors_only(
    make_trainer: MakeTrainer, scene: Path, tmp_path: Path, method: str
) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(scene, partial)
    for path in sorted((partial / "masks").rglob("*.json"))[:4]:
        path.unlink()
    trainer = make_trainer(method, data=partial, steps=20)
    trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.pipeline.model.gauss_params.values())


def test_identity_moves_geometry_as_much_as_asked(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("gradiseg", identity_start=0.0, neighbour_weight=0.0)
    model, datamanager = trainer.pipeline.model.train(), trainer.pipeline.datamanager
    model.step_cb(trainer.optimizers, 0)
    # Away from its closed-form start, where the loss is nearly flat.
    with torch.no_grad():
        model.gauss_params["identity"].copy_(torch.randn_like(model.gauss_params["identity"]) * 0.1)
    gradients = {}
    for share in (0.0, 0.5, 1.0):
        model.config.identity_on_geometry = share
        torch.manual_seed(1)
        outputs = model.get_outputs(datamanager.train_dataset.cameras[:1])
        batch = {"image": datamanager.cached_train[0]["image"], "image_idx": 0, "labels": datamanager.labels(0)}
        model.zero_grad()
        losses = model.get_loss_dict(outputs, batch)
        torch.stack([torch.as_tensor(loss) for loss in losses.values()]).sum().backward()
        names = ("means", "scales", "opacities", "identity")
        gradients[share] = {name: model.gauss_params[name].grad.clone() for name in names}
        gradients[share]["drawn"] = model._drawn.grad.clone()
    for name in ("means", "scales", "opacities"):
        none, half, full = (gradients[share][name] for share in (0.0, 0.5, 1.0))
        assert (full - none).abs().max() > 1e-3 * none.abs().max()
        torch.testing.assert_close(half - none, 0.5 * (full - none), rtol=1e-3, atol=1e-3 * float(full.abs().max()))
    for name in ("identity", "drawn"):
        for share in (0.0, 0.5):
            torch.testing.assert_close(gradients[share][name], gradients[1.0][name], rtol=1e-3, atol=1e-7)


def test_the_identity_loss_of_a_large_image_is_that_of_some_of_its_pixels(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("gradiseg", identity_start=0.0, neighbour_weight=0.0)
    model, datamanager = trainer.pipeline.model.train(), trainer.pipeline.datamanager
    model.step_cb(trainer.optimizers, 0)
    losses, drawn = [], []
    for scores in (1 << 25, 500 * model.classifier.num_classes):
        monkeypatch.setattr(gradiseg_model, "LOSS_SCORES", scores)
        outputs = model.get_outputs(datamanager.train_dataset.cameras[:1])
        batch = {"image": datamanager.cached_train[0]["image"], "image_idx": 0, "labels": datamanager.labels(0)}
        losses.append(float(model.get_loss_dict(outputs, batch)["identity_2d"]))
        drawn.append(model._drawn_pixels(model.info["height"] * model.info["width"]))
    assert len(drawn[1]) == 500
    assert torch.equal(drawn[1], model._drawn_pixels(model.info["height"] * model.info["width"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.5)  # of 500 pixels, most of them right
    assert losses[1] != losses[0]


def row_counts(trainer: Any) -> set[int]:
    model = trainer.pipeline.model
    rows = {parameter.shape[0] for parameter in model.gauss_params.values()}
    for name, parameter in model.gauss_params.items():
        optimizer = trainer.optimizers.optimizers[name]
        assert optimizer.param_groups[0]["params"][0] is parameter
        rows |= {v.shape[0] for v in optimizer.state.get(parameter, {}).values() if torch.is_tensor(v) and v.dim()}
    return rows | {value.shape[0] for value in model.strategy_state.values() if torch.is_tensor(value) and value.dim()}


IGD = {"identity_start": 0.0, "igd_start": 0.25, "igd_stop": 0.75, "la_knn_start": 0.75, "refine_every": 4}


def test_igd_keeps_everything_in_step_and_resumes_within_its_window(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("gradiseg", **IGD, densify_stop=0.25, steps_per_save=18)
    trainer.train()
    model = trainer.pipeline.model
    assert row_counts(trainer) == {model.num_points}
    assert {GRADIENT, VISITS, POSITION} <= model.strategy_state.keys()

    checkpoint = trainer.checkpoint_dir / "step-000000018.ckpt"
    only = trainer.checkpoint_dir.parent / "middle"
    only.mkdir()
    shutil.copy(checkpoint, only)
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)["pipeline"]["_model.gauss_params.means"]
    resumed = make_trainer("gradiseg", **IGD, densify_stop=0.25, load=only)
    again = resumed.pipeline.model
    assert again.in_igd_window
    assert row_counts(resumed) == {stored.shape[0]}
    assert again.strategy_state[GRADIENT].abs().sum() > 0
    assert again.lookups
    resumed.train()
    assert row_counts(resumed) == {again.num_points}
    assert again.num_points > stored.shape[0]


def test_a_split_changes_the_image_little(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("gradiseg", **IGD, densify_stop=0.25, steps=400)
    for number in range(100):
        step(trainer, number)
    model = trainer.pipeline.model
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[:1]
    before, rows = model.eval().get_outputs_for_camera(camera)["rgb"], model.num_points
    split = model.split_boundaries()
    after = model.get_outputs_for_camera(camera)["rgb"]
    assert split > 0
    assert model.num_points == rows + split
    assert -10 * torch.log10((before - after).square().mean()) > 35


def test_fractions_are_checked(make_trainer: MakeTrainer) -> None:
    with pytest.raises((GsegError, SystemExit)):
        make_trainer("gradiseg", igd_start=12_000)
    for share in (-0.1, 1.5):
        with pytest.raises((GsegError, SystemExit)):
            make_trainer("gradiseg", identity_on_geometry=share)


def test_masks_that_come_associated_are_taken_as_they_are(make_trainer: MakeTrainer, scene: Path) -> None:
    trainer = make_trainer("gradiseg", masks_dir=Path("gt/instance"), masks_are_consistent=True)
    model = trainer.pipeline.model.train()
    model.step_cb(trainer.optimizers, 0)
    assert model.num_groups > 4
    assert torch.equal(model.group_map(0), trainer.pipeline.datamanager.labels(0).long())


# ---------------------------------------------------------------------------------------------- votes in the end


@pytest.mark.parametrize("method", ["unified-lift", "gradiseg"])
def test_masks_vote_when_training_ends(make_trainer: MakeTrainer, method: str, tmp_path: Path) -> None:
    trainer = make_trainer(method)
    model = trainer.pipeline.model
    trainer.train()
    assert model.by_vote
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[:1]
    shown = model.label_image(camera)
    assert torch.equal(shown, model.heaviest_image(camera, model.voted_labels.long(), model.strengths))
    # A selection is seen where label images show its group.
    largest = model.voted_labels == model.voted_labels[model.voted_labels > 0].mode().values
    weighed = silhouettes(model.info, largest[:, None], model.strengths)
    assert torch.equal(model.silhouettes(model.info, largest[:, None]), weighed)
    assert weighed.any()
    # A Gaussian's vote is the group that it gives most to, as asked anew.
    sums = torch.zeros(model.num_points, int(model.voted_labels.max()) + 1)
    for view in range(model.num_train_data):
        vote(model.project_view(view), model.group_map(view), sums.shape[1], sums)
    best = sums[:, 1:].max(dim=1)
    assert torch.equal(model.voted_labels[best.values > 0].long(), best.indices[best.values > 0] + 1)
    # It is in the checkpoint; with labels of the trained features it is not asked.
    other = make_trainer(method, load_dir=trainer.checkpoint_dir).pipeline.model
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.label_image(camera), shown)
    other.config.labels = "trained"
    assert not other.by_vote
    assert torch.equal(other.silhouettes(model.info, largest[:, None]), silhouettes(model.info, largest[:, None]))
    assert torch.equal(other.gaussian_groups(), other.decode(other.gauss_params[other.main_feature]))
    # Training that goes on changes what it was about.
    step(trainer, STEPS)
    trainer.config.max_num_iterations = model.config.num_iterations = STEPS + 100
    step(trainer, STEPS + 1)
    assert not model.by_vote
    assert len(model.strengths) == len(model.voted_confidence) == 0


def test_votes_are_forgotten_by_training_that_answers_otherwise(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("unified-lift", labels="codebook")
    model = trainer.pipeline.model
    model.voted_labels, model.strengths = torch.ones(model.num_points).int(), torch.ones(model.num_points)
    model.voted_confidence = torch.ones(model.num_points)
    step(trainer, 0)
    assert len(model.voted_labels) == len(model.strengths) == len(model.voted_confidence) == 0
    step(trainer, STEPS - 1)
    assert len(model.voted_labels) == 0


def test_a_checkpoint_without_votes_answers_by_its_features(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("unified-lift")
    model = trainer.pipeline.model
    state = {
        name: value for name, value in model.state_dict().items() if name.split(".")[-1] not in model.gaussian_buffers
    }
    model.load_state_dict(state)
    assert not model.by_vote
    assert torch.equal(model.gaussian_groups(), model.decode(model.gauss_params["instance"]))


def test_views_of_many_masks_have_more_pixels_drawn(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    contrast = unified_lift_model.contrastive_loss

    def counted(features: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        counts.append(len(features))
        return contrast(features, *args, **options)

    monkeypatch.setattr(unified_lift_model, "contrastive_loss", counted)
    for per_mask in (0, 140):
        trainer = make_trainer("unified-lift", num_pixels=30, min_pixels=2, pixels_per_mask=per_mask)
        model, masks = trainer.pipeline.model.train(), trainer.pipeline.datamanager
        model.step_cb(trainer.optimizers, 0)
        model.get_outputs(masks.train_dataset.cameras[:1])
        model.mask_losses(masks.labels(0))
    shown = [int((masks.labels(view).unique() > 0).sum()) for view in range(len(masks.train_dataset))]
    assert counts == [30, round(140 * sum(shown) / len(shown))]
