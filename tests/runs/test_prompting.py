"""The same click means the same Gaussians wherever it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from constructed_run import build_run
from gseg_ns.benchmarking.clicks import ClickProtocol, score_clicks
from gseg_ns.cli.select import Select
from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.clicks import ObjectClicks, draw_clicks
from gseg_ns.evaluation.folders import id_files, read_ids
from gseg_ns.rendering import composite, dominant_labels, pixel_weights
from gseg_ns.runs.prompting import Prompter
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.store import Fingerprint, load_selections
from gseg_ns.splats.projection import project_splats
from gseg_ns.viewer.controller import SegmentController

KINDS = [("gaga", False), ("gaga", True), ("saga", False), ("saga", True)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}{'-antialiased' * kind[1]}")
def run(request: pytest.FixtureRequest, ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    method, antialiased = request.param
    return load_run(build_run(ball_room, tmp_path_factory.mktemp("run"), method, antialiased))


@pytest.fixture(scope="module")
def clicked(run: Run, ball_room: Path) -> list[tuple[str, ObjectClicks]]:
    """Names of training views, and clicks in them."""
    files = id_files(ball_room / "gt" / "object")
    names = [view.name for view in run.views("train") if view.name in files]
    return [(names[entry.view], entry) for entry in draw_clicks([read_ids(files[n]) for n in names], clicks=1, seed=3)]


def by_command(run: Run, view: str, point: tuple[float, float], folder: Path, **options: Any) -> Tensor:
    """What `gseg select --point` writes."""
    output = folder / "selection.npz"
    Select(load_config=run.config_path, output=output, view=view, point=(point,), **options).main()
    saved = load_selections(output, Fingerprint.of(run.model.means))
    return saved.take("selection").unpack("cpu")


def by_viewer(run: Run, view: str, point: tuple[float, float], scale: float | None = None) -> SegmentController:
    controller = SegmentController(run.model)
    if scale is not None:
        controller.reprompt(scale=scale)
    controller.click(to_camera(run.view(view).camera), *point, positive=True)
    return controller


def by_benchmark(
    monkeypatch: pytest.MonkeyPatch, run: Run, truth: Path, protocol: ClickProtocol
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """What `gseg bench clicks` scores: of each object the selection of its click, and the cleaned one."""
    from gseg_ns.benchmarking.clicks import _Clicks

    taken: list[tuple[Tensor, Tensor]] = []
    original = _Clicks._pooled_iou

    def spy(self: Any, selections: Tensor, names: Tensor) -> Tensor:
        taken.append((selections, names))
        return original(self, selections, names)

    monkeypatch.setattr(_Clicks, "_pooled_iou", spy)
    score_clicks(run, truth, protocol)
    _, plain, clean = taken  # the ceilings come first
    return tuple({int(n): s[:, k] for k, n in enumerate(names)} for s, names in (plain, clean))  # type: ignore[return-value]


def test_viewer_command_and_benchmark_give_one_answer(
    run: Run,
    clicked: list[tuple[str, ObjectClicks]],
    ball_room: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale = 0.4 if run.model.has_scales else None
    protocol = ClickProtocol(scales=(0.4,), clicks=1, seed=3, clean=True)
    plain, clean = by_benchmark(monkeypatch, run, ball_room / "gt" / "object", protocol)
    assert len(plain) == len(clicked) > 2
    for view, entry in clicked:
        [(x, y)] = entry.points.tolist()
        controller = by_viewer(run, view, (x, y), scale)
        assert torch.equal(controller.selected, plain[entry.name])
        controller.change("clean")
        assert torch.equal(controller.selected, clean[entry.name])
        assert bool(plain[entry.name].any())
    view, entry = clicked[0]
    [(x, y)] = entry.points.tolist()
    options = {} if scale is None else {"scale": scale}
    assert torch.equal(by_command(run, view, (x, y), tmp_path, **options), plain[entry.name])
    assert torch.equal(by_command(run, view, (x, y), tmp_path, clean=True, **options), clean[entry.name])


def test_a_click_is_what_the_picture_of_groups_shows(run: Run, clicked: list[tuple[str, ObjectClicks]]) -> None:
    if run.model.prompts_by_feature:
        pytest.skip("methods of features show clusters")
    prompter = Prompter(run.model)
    for name, entry in clicked:
        camera = run.view(name).camera
        shown = run.model.label_image(camera)
        [(x, y)] = entry.points.tolist()
        assert prompter.point(to_camera(camera), x, y).group == int(shown[int(y), int(x)])


def test_points_and_scribbles_add_up(run: Run, clicked: list[tuple[str, ObjectClicks]]) -> None:
    prompter = Prompter(run.model)
    (name, first), *rest = clicked
    others = [entry for view, entry in rest if view == name]
    camera = run.view(name).camera
    image = run.model.label_image(camera)
    one = prompter.select(camera, Prompt(positive=first.points))
    assert torch.equal(one, prompter.select(camera, Prompt(positive=first.points)))  # what is kept does not change it
    scribble = torch.zeros_like(image, dtype=torch.long)
    [(x, y)] = first.points.long().tolist()
    scribble[y, x] = 1
    assert torch.equal(one, prompter.select(camera, Prompt(scribble=scribble)))
    for other in others:
        both = prompter.select(camera, Prompt(positive=torch.cat([first.points, other.points])))
        two = prompter.select(camera, Prompt(positive=other.points))
        assert torch.equal(both, one | two)
        if not run.model.prompts_by_feature:
            apart = Prompt(positive=torch.cat([first.points, other.points]), negative=other.points)
            assert torch.equal(prompter.select(camera, apart), one & ~two)


def test_empty_space_and_the_outside_are_told(run: Run, clicked: list[tuple[str, ObjectClicks]]) -> None:
    prompter = Prompter(run.model)
    camera = to_camera(run.view(clicked[0][0]).camera)
    with pytest.raises(GsegError, match="outside the image"):
        prompter.point(camera, -1, 0)
    if run.model.prompts_by_feature:
        point = prompter.point(camera, *clicked[0][1].points[0].tolist())
        with pytest.raises(GsegError, match="no cosine"):
            prompter.select_points([point], threshold=2.0)


def test_a_click_names_no_group_that_the_picture_gives_back_to_the_vote(
    built_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label images show nothing by strengths that the view does not show without them, and neither do clicks."""
    run = load_run(built_run)
    model = run.model
    view = next(iter(run.views("train")))
    camera = to_camera(view.camera)
    plain = model.label_image(view.camera)
    shown = int(plain[plain > 0].mode().values)
    # A loud group of a few Gaussians, each of which is a part of what some pixels show, and of none the most.
    labels = model.gaussian_groups().int()
    meta = project_splats(model.splats(), camera)
    weights = pixel_weights(meta, (plain == shown).flatten().nonzero()[:, 0])
    most = torch.zeros(model.num_points).scatter_reduce_(0, weights.col, weights.val, "amax")
    loud = torch.nonzero((most > 0.05) & (most < 0.3) & (labels == shown))[:40:4, 0]
    strange = int(labels.max()) + 1
    labels[loud] = strange
    strengths = torch.ones(model.num_points)
    strengths[loud] = 50.0
    for name, value in (("voted_labels", labels), ("strengths", strengths)):
        monkeypatch.setitem(model._buffers, name, value)
    monkeypatch.setattr(model.config, "labels", "vote")
    covered = composite(meta, torch.ones(model.num_points, 1))[..., 0] > 0.6  # what can be clicked on
    places = ((dominant_labels(meta, labels, strengths)[0] == strange) & covered).nonzero()
    assert not bool((dominant_labels(meta, labels)[0] == strange).any())
    assert len(places) > 3
    picture = model.label_image(view.camera)
    assert strange not in picture
    prompter = Prompter(model)
    for y, x in places[:: max(len(places) // 4, 1)].tolist():
        assert prompter.point(camera, x + 0.5, y + 0.5).group == int(picture[y, x])
    # Where the view shows a group without strengths, too, they decide.
    around = torch.nonzero(weights.col.bincount(minlength=model.num_points) > 0)[:, 0]
    labels[around[: len(around) // 8]] = strange
    picture = model.label_image(view.camera)
    places = ((picture == strange) & covered).nonzero()
    assert len(places) > 3
    for y, x in places[:: max(len(places) // 4, 1)].tolist():
        assert prompter.point(camera, x + 0.5, y + 0.5).group == int(picture[y, x])
