"""Texts asked of runs, with a tiny random CLIP: it knows no words, but everything around it is as in earnest."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.lifting.affinity_training import AffinityOptions
from gseg_ns.lifting.text import ClipEncoder, VoteOptions
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.models.saga import SagaModel
from gseg_ns.runs.run import load_run
from gseg_ns.runs.text_search import TextSearch, can_search

STEPS, START = 40, 30
VOTES = VoteOptions(min_cluster_size=4, anchors_at_least=300)


class Watched:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.held, self.taken = False, 0

    def __enter__(self) -> None:
        assert not self.held
        self.held, self.taken = True, self.taken + 1

    def __exit__(self, *_: Any) -> None:
        self.held = False


@pytest.fixture
def trainer(make_trainer: Callable[..., Any], small_scene: Path) -> Any:
    return make_trainer(saga, small_scene, affinity=AffinityOptions(num_pixels=400, num_scales=3))


@pytest.fixture
def loads(tiny_clip: ClipEncoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the CLIP models that are loaded, each of which is the tiny one."""
    names: list[str] = []

    def load(name: str, device: Any = "cpu") -> ClipEncoder:
        names.append(name)
        return tiny_clip

    monkeypatch.setattr(ClipEncoder, "load", staticmethod(load))
    return names


def test_texts_of_a_run(
    trainer: Any, step: Callable[..., Any], loads: list[str], tiny_clip: ClipEncoder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pipeline = trainer.pipeline
    lock, told = Watched(), []
    views = len(pipeline.datamanager.train_dataset)
    folder = tmp_path / "run"
    search = TextSearch(pipeline.model, pipeline.datamanager, folder, lock, VOTES)
    images = tiny_clip.images
    monkeypatch.setattr(tiny_clip, "images", lambda pictures: (_free(lock), images(pictures))[1])

    assert can_search(pipeline.model)
    step(trainer, 0)
    with pytest.raises(GsegError, match="no trained features"):
        search.find("a mug", "clip", told.append)

    # in the middle of training nothing is kept on disk, for the features change
    for number in range(1, START + 3):
        step(trainer, number)
    training = pipeline.model.training
    assert search.find("a mug", "clip", told.append).shape == (pipeline.model.num_points,)
    assert pipeline.model.training == training
    assert not folder.exists()
    assert told[-1] == f"Encoding masks with CLIP, once for all texts: view {views} of {views} …"
    assert loads == ["clip"]
    assert lock.taken >= views  # view by view, not once for all

    for number in range(START + 3, STEPS):
        step(trainer, number)
    pipeline.eval()
    told.clear()
    first = search.find("a mug", "clip", told.append)
    assert len(told) == views
    told.clear()
    assert torch.equal(search.find("a mug", "clip", told.append), first)
    assert not told
    again = TextSearch(pipeline.model, pipeline.datamanager, folder, options=VOTES)
    assert torch.equal(again.find("a mug", "clip", told.append), first)
    assert told == ["Loading the CLIP model clip …"]
    # what is asked of the targets does not change them; how they are found does
    asked = replace(VOTES, relevant=0.9, similarity=0.1)
    TextSearch(pipeline.model, pipeline.datamanager, folder, options=asked).find("a mug", "clip", told.append)
    assert len(told) == 2
    found = replace(VOTES, epsilon=0.1)
    TextSearch(pipeline.model, pipeline.datamanager, folder, options=found).find("a mug", "clip", told.append)
    assert len(told) == 3 + views
    told.clear()
    # another CLIP model sees other things in the masks
    again.find("a mug", "other", told.append)
    assert len(told) == 1 + views
    assert len(list(folder.iterdir())) == 3
    # what is damaged is made anew; a folder that cannot be written to costs no answer
    kept = [path.read_bytes() for path in sorted(folder.iterdir())]
    for path in folder.iterdir():
        path.write_bytes(b"half")
    fresh = TextSearch(pipeline.model, pipeline.datamanager, folder, options=VOTES)
    assert torch.equal(fresh.find("a mug", "clip", told.append), first)
    assert sum(path.read_bytes() in kept for path in folder.iterdir()) == 1
    (tmp_path / "file").touch()
    nowhere = TextSearch(pipeline.model, pipeline.datamanager, tmp_path / "file", options=VOTES)
    assert torch.equal(nowhere.find("a mug", "clip", told.append), first)
    # the Gaussians are read once, and again when they have changed
    digest = again._digest(by_feature=True)
    assert again._digest(by_feature=True) is digest
    with torch.no_grad():
        pipeline.model.gauss_params["affinity"].add_(1.0)
    assert again._digest(by_feature=True) != digest


def _free(lock: Watched) -> None:
    assert not lock.held, "CLIP works while training waits"


def test_one_text_at_a_time(
    trainer: Any, step: Callable[..., Any], loads: list[str], tiny_clip: ClipEncoder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for number in range(STEPS):
        step(trainer, number)
    search = TextSearch(trainer.pipeline.model, trainer.pipeline.datamanager, tmp_path, options=VOTES)
    begun, go_on = threading.Event(), threading.Event()
    texts = tiny_clip.texts

    def slow(words: Any) -> Any:
        begun.set()
        go_on.wait(60)
        return texts(words)

    monkeypatch.setattr(tiny_clip, "texts", slow)
    thread = threading.Thread(target=search.find, args=("a mug", "clip"))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(GsegError, match="Another text"):
        search.find("a cup", "clip")
    go_on.set()
    thread.join()
    with pytest.raises(GsegError, match="empty"):
        search.find("  ", "clip")
    search.find("a cup", "clip")


class BrightnessClip:
    """Knows how bright a picture is, and texts by one number: "a photo of a 0.9."."""

    size = 8

    def images(self, pictures: torch.Tensor) -> torch.Tensor:
        # Of what is not black, which surrounds the mask.
        bright = pictures.flatten(1).sum(1) / (pictures > 0).flatten(1).sum(1).clamp_min(1)
        return self._on_circle(bright)

    def texts(self, texts: Any) -> torch.Tensor:
        said = [re.search(r"\d+(\.\d+)?(e-\d+)?", text) for text in texts]
        return self._on_circle(torch.tensor([-1.0 if number is None else float(number[0]) for number in said]))

    @staticmethod
    def _on_circle(values: torch.Tensor) -> torch.Tensor:
        angle = 3 * values
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_nodes_of_a_tree_are_named_where_features_are_too(
    constructed_saga_run: Path, ball_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClipEncoder, "load", staticmethod(lambda name, device="cpu": BrightnessClip()))
    run = load_run(constructed_saga_run, ball_room)
    model, search = run.model, TextSearch(run.model, run.datamanager, tmp_path)
    with pytest.raises(GsegError, match="clusters at a scale"):
        search.propose(["0.1", "0.9"], "clip")
    assert isinstance(model, SagaModel)
    # Two things: one half of the room, and the other.
    model.tree_nodes = 1 + (model.means[:, 0] > model.means[:, 0].median()).int()
    model.tree_parents = torch.zeros(3, dtype=torch.int32)
    model.tree_evidence, model.tree_objects = torch.ones(3), torch.tensor([False, True, True])
    model._answer_by_tree()
    assert set(search.propose(["0.1", "0.9"], "clip")) == {1, 2}
    # What features say is another thing, and is kept beside it.
    assert search.find("0.9", "clip").shape == (model.num_points,)
    assert len(list(tmp_path.glob("text_*.npz"))) == 2


@pytest.mark.parametrize("method", [gaga, gradiseg], ids=["gaga", "gradiseg"])
def test_methods_with_groups_answer_texts(
    make_trainer: Callable[..., Any], small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    monkeypatch.setattr(ClipEncoder, "load", staticmethod(lambda name, device="cpu": BrightnessClip()))
    trainer = make_trainer(
        method, small_scene, steps=250, masks_dir=Path("gt/object"), masks_are_consistent=True, max_gaussians=6000
    )
    model, data = trainer.pipeline.model, trainer.pipeline.datamanager
    search = TextSearch(model, data, tmp_path)
    with pytest.raises(GsegError, match="no groups yet"):
        search.find("0.5", "clip")
    trainer.train()
    trainer.pipeline.eval()
    groups = model.gaussian_groups()
    # The mean brightness of each group's masks, worked out from the photographs.
    bright: dict[int, list[float]] = {}
    for view in range(len(data.train_dataset)):
        picture, labels = data.cached_train[view]["image"].float() / 255, data.labels(view)
        for group in labels.unique().tolist():
            bright.setdefault(group, []).append(float(picture[labels == group].mean()))
    means = {group: sum(values) / len(values) for group, values in bright.items() if group > 0}
    for wanted in (max(means, key=means.__getitem__), min(means, key=means.__getitem__)):
        found = search.find(f"{means[wanted]}", "clip")
        ids = groups[found].unique().tolist()
        # Whole groups, the brightest or darkest among them, and nothing far from it in brightness.
        assert torch.equal(found, torch.isin(groups, torch.tensor(ids)))
        assert wanted in ids
    # Every group is the brightness, of two, that its masks are nearer to; names are proposed from a list of them.
    ends = [f"{min(means.values())}", f"{max(means.values())}"]
    categories = search.categorize(ends, "clip")
    proposed = search.propose(ends, "clip")
    assert set(proposed) <= set(means)
    for group, name in proposed.items():
        assert set(categories[groups == group].tolist()) == {ends.index(name.word) + 1}
        assert name.margin >= 0
    named = [[means[group] for group, name in proposed.items() if name.word == word] for word in ends]
    assert not all(named) or max(named[0]) < max(named[1])
    assert len(list(tmp_path.glob("text_*.npz"))) == 1
    again = TextSearch(model, data, tmp_path)
    assert torch.equal(again.find(f"{means[wanted]}", "clip"), found)
