"""Recipes: the options of the papers, of their codes, and what they come to."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gseg_ns.errors import GsegError
from gseg_ns.lifting.contrastive import contrastive_loss, uncertainty
from gseg_ns.lifting.correspondence import overlap_loss
from gseg_ns.lifting.identity import IdentityClassifier, identity_loss
from gseg_ns.lifting.neighbourhood import neighbourhood_kl
from gseg_ns.lifting.sam_guidance import guidance_loss
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.saga_v1 import saga_v1
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models.recipes import choices, get, put, settle, table

METHODS = {"gaga": gaga, "saga": saga, "saga-v1": saga_v1, "unified-lift": unified_lift, "gradiseg": gradiseg}


def config(method: str, recipe: str = "paper", **options: Any) -> Any:
    made = copy.deepcopy(METHODS[method].config)
    made.pipeline.model.recipe = recipe
    for name, value in options.items():
        setattr(made.pipeline.model, name, value)
    return made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", ["paper", "official"])
def test_a_recipe_sets_its_options_and_no_others(method: str, recipe: str) -> None:
    made, before = config(method, recipe), config(method, recipe)
    found = choices(made.pipeline.model)
    assert found
    for choice in found:
        assert get(made, choice.option) == choice.best, choice.option
    settle(made, [])
    for choice in found:
        assert get(made, choice.option) == choice.value(recipe), choice.option
        # Put back, everything is as it was.
        put(made, choice.option, choice.best)
    made.pipeline.model.recipe_settled = False
    assert yaml.dump(made) == yaml.dump(before)


@pytest.mark.parametrize("method", METHODS)
def test_best_is_the_default_and_changes_nothing(method: str) -> None:
    made = config(method, "best")
    assert settle(made, []) == {}
    assert yaml.dump(made) == yaml.dump(METHODS[method].config)


def test_the_registered_config_stays_as_it_is() -> None:
    """Optimizers are shared between a config and the registered one where nobody copies them."""
    before = yaml.dump(saga.config)
    made = copy.copy(saga.config)
    made.pipeline = copy.deepcopy(saga.config.pipeline)
    made.pipeline.model.recipe = "paper"
    settle(made, [])
    assert get(made, "optimizers.scale_gate.optimizer.lr") == 2.5e-3
    assert yaml.dump(saga.config) == before


def test_an_option_that_was_given_stays() -> None:
    made = config("gaga", association="tree")
    told = settle(made, ["--pipeline.model.labels", "vote", "--pipeline.model.use-strengths=True"])
    model = made.pipeline.model
    assert (model.association, model.labels, model.use_strengths) == ("tree", "vote", True)
    assert model.start_encodings == "zero"
    assert "pipeline.model.labels" not in told
    model.start_encodings = "lift"
    assert settle(made, []) == {}  # a run that goes on is not settled anew
    assert model.start_encodings == "lift"


def test_a_method_without_a_paper_has_one_recipe() -> None:
    from gseg_ns.models.base import SegmentationModelConfig

    made = config("gaga")
    made.pipeline.model = SegmentationModelConfig(recipe="paper")
    with pytest.raises(GsegError, match="none but best"):
        settle(made, [])


def test_the_page_of_recipes_is_what_the_code_does() -> None:
    page = Path(__file__).parents[2] / "docs/recipes.md"
    assert table() in page.read_text(encoding="utf-8"), "put `gseg_ns.models.recipes.table()` into docs/recipes.md"


# ------------------------------------------------------------------------------- the papers' terms, by hand


def test_unified_lift_eq_1_is_a_mean_over_pixels_of_plain_dot_products() -> None:
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    labels = torch.tensor([1, 1, 2])
    # Means (3, 0) and (0, 3): dot products 6 and 0, 12 and 0, 0 and 9.
    wanted = (math.log1p(math.exp(-6)) + math.log1p(math.exp(-12)) + math.log1p(math.exp(-9))) / 3
    found = contrastive_loss(features, labels, min_pixels=0, scaled=False, per_cluster=False)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_unified_lift_eq_7_of_plain_dot_products() -> None:
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    found = uncertainty(features, torch.tensor([1, 1, 2]), scaled=False)
    wanted = [1 - 1 / (1 + math.exp(-6)), 1 - 1 / (1 + math.exp(-12)), 1 - 1 / (1 + math.exp(-9))]
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)


def test_saga_v1_eq_7_and_10_are_sums() -> None:
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    queries = torch.tensor([[1.0, 0.0]])
    members = torch.tensor([[True], [False]])
    one = math.log1p(math.exp(-1.0))
    assert float(guidance_loss(features, queries, members, "sum")) == pytest.approx(2 * one)
    assert float(guidance_loss(features, queries, members)) == pytest.approx(one)
    # K: 1 with itself, -1 where no mask is shared; S: 1, and -1 between the two.
    overlap = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    kinds = torch.tensor([0, 1])
    assert float(overlap_loss(features, kinds, overlap, clip=False, reduction="sum")) == pytest.approx(-4.0)
    assert float(overlap_loss(features, kinds, overlap, clip=True, reduction="sum")) == pytest.approx(-2.0)
    assert float(overlap_loss(features, kinds, overlap, clip=False)) == pytest.approx(-1.0)


def test_gradiseg_normalises_over_256_classes() -> None:
    classifier = IdentityClassifier(16)
    torch.manual_seed(0)
    classifier.start(256)
    assert classifier.num_classes == 256
    assert 0.2 < float(classifier.weight.detach().abs().max()) <= 0.25
    # Scores that say nothing: cross entropy ln 256, over ln 256.
    classifier.resize(256)
    loss = identity_loss(classifier, torch.randn(3, 16), torch.tensor([0, 1, 5]), True)
    assert float(loss) == pytest.approx(1.0, rel=1e-6)
    target = torch.zeros(1, 256)
    target[0, 0] = 1.0
    neighbour = torch.full((1, 1, 256), 1 / 256)
    assert float(neighbourhood_kl(target, neighbour)) == pytest.approx(math.log(256) / 256, rel=1e-4)


def test_classes_beyond_the_groups_are_no_answers() -> None:
    classifier = IdentityClassifier(2)
    classifier.resize(5)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 0.0], [0.0, 9.0]]))
    encodings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert classifier.predict(encodings, num_groups=2).tolist() == [1, 2, 0]
    assert classifier.predict(encodings, train_unlabelled=True, num_groups=2).tolist() == [1, 2, 0]
    assert classifier.predict(encodings).tolist() == [3, 4, 0]


# ----------------------------------------------------------------------------------------- in training


@pytest.mark.parametrize("method", ["gaga", "gradiseg", "unified-lift", "saga"])
def test_a_run_of_the_paper(method: str, small_scene: Path, make_trainer: Any) -> None:
    trainer = make_trainer(METHODS[method], small_scene, steps=24, recipe="paper")
    saved = yaml.load(next(trainer.base_dir.glob("config.yml")).read_text(), Loader=yaml.Loader)
    trainer.train()
    model = trainer.pipeline.model
    assert saved.pipeline.model.recipe_settled
    assert model.config.recipe_settled
    for choice in choices(model.config):
        assert get(saved, choice.option) == choice.paper, choice.option
    groups = model.gaussian_groups()
    assert groups.shape == (model.num_points,)
    if method == "gaga":
        assert model.classifier.num_classes == model.num_groups + 1
        assert len(model.strengths) == 0
    if method == "gradiseg":
        assert model.classifier.num_classes == 256
        assert int(groups.max()) <= model.num_groups


def test_the_window_of_igd_splits_no_more_than_its_share(small_scene: Path, make_trainer: Any) -> None:
    trainer = make_trainer(
        gradiseg, small_scene, steps=60, igd_threshold=0.0, igd_min_scale=0.0, igd_growth=0.2, identity_start=0.1,
        refine_every=2, densify_stop=0.1, igd_start=0.4, igd_stop=0.9, max_gaussians=2000, masks_are_consistent=True,
        masks_dir=Path("gt/object"),
    )  # fmt: skip
    counts: list[int] = []
    model = trainer.pipeline.model
    split = model.split_boundaries
    model.split_boundaries = lambda: counts.append(split()) or counts[-1]
    trainer.train()
    first, done = model._room
    assert len(counts) > 3
    assert sum(counts) == done == round(0.2 * first)
    assert counts[-1] == 0
