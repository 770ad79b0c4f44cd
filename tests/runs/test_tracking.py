"""A click on a splat of which nothing is known, followed by a tracker of colors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from color_tracker import ColorTracker, paint_labels
from gseg_ns.cli.select import Select
from gseg_ns.cli.views import Views
from gseg_ns.errors import GsegError
from gseg_ns.lifting.carried import Carried, lift_object
from gseg_ns.rendering import Camera
from gseg_ns.runs import load_run, tracking
from gseg_ns.runs.keeping import keep_as_object
from gseg_ns.runs.tracking import track_object
from gseg_ns.selection.store import Fingerprint, load_selections
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply, write_ply
from gseg_ns.views import write_views
from gseg_ns.views.orbit import Orbit, Thing, thing_of
from gseg_ns.views.places import look_along
from splats_by_hand import THINGS, make_room

EYE = [2.0, 2.0, 1.5]
_YES = np.array([True])


@pytest.fixture(scope="module")
def room() -> Splats:
    return make_room()


def looking_at(thing: int) -> Camera:
    view = np.eye(4)
    view[:3, :3] = look_along(np.mean(THINGS[thing], axis=0) - np.array(EYE))
    view[:3, 3] = -view[:3, :3] @ np.array(EYE)
    K = torch.tensor([[110.0, 0, 64], [0, 110, 48], [0, 0, 1]])
    return Camera(torch.tensor(view, dtype=torch.float32), K, 128, 96)


@pytest.fixture(scope="module")
def folder(room: Splats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PLY that knows no labels, and pictures of it."""
    folder = tmp_path_factory.mktemp("plain")
    plain = paint_labels(room)
    write_ply(folder / "room.ply", plain)
    write_views(folder / "views", plain, [looking_at(thing) for thing in THINGS], {})
    return folder


@pytest.mark.parametrize("thing", [1, 2, 3])
def test_a_tracker_that_errs_in_a_fifth_of_the_pictures(
    room: Splats, thing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PICTURES", 20)
    plain, camera = paint_labels(room), looking_at(thing)
    first = torch.from_numpy(
        ColorTracker().mask(tracking._picture(plain, camera), np.array([[64.0, 48.0]]), np.array([True]))
    )
    up = np.array([0.0, 0, 1])
    best = track_object(plain, camera, first, ColorTracker(), up)
    found = track_object(plain, camera, first, ColorTracker(0.2), up)
    both, either = int((best.selected & found.selected).sum()), int((best.selected | found.selected).sum())
    assert both / either > 0.97
    truth = room.extra["label"] == thing
    # Floor that lies under its edges is seen through them.
    assert float(truth[best.selected].float().mean()) > 0.8
    assert float(best.selected[truth].float().mean()) > 0.75
    # Without doubt in any view, those that are wrong spoil it, or at least change it.
    assert found.believed < len(found.views)
    assert best.believed >= 0.9 * len(best.views)


def test_a_click_by_command_on_a_plain_splat(
    folder: Path, tmp_path: Path, room: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PICTURES", 12)
    asked: list[str] = []

    def load(name: str, device: object) -> ColorTracker:
        asked.append(name)
        return ColorTracker(0.2)

    monkeypatch.setattr(tracking, "load_tracker", load)
    given = {"load_config": folder / "room.ply", "data": folder / "views", "view": "view_00001", "track": "some/model"}
    Select(output=tmp_path / "a.npz", point=((64.0, 48.0),), **given).main()  # type: ignore[arg-type]
    assert asked == ["some/model"]
    means = read_ply(folder / "room.ply").means
    chosen = load_selections(tmp_path / "a.npz", Fingerprint.of(means))["selection"].unpack()
    truth = room.extra["label"] == 2
    assert float(truth[chosen].float().mean()) > 0.8
    assert float(chosen[truth].float().mean()) > 0.7

    # with a mask that was drawn, and kept as an object
    mask = np.asarray(Image.open(folder / "views" / "images" / "view_00001.png"))
    drawn = ColorTracker().mask(mask, np.array([[64.0, 48.0]]), np.array([True]))
    Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    Select(output=tmp_path / "kept.gseg", mask=tmp_path / "mask.png", name="crate", **given).main()  # type: ignore[arg-type]
    kept = load_run(tmp_path / "kept.gseg")
    groups = kept.model.gaussian_groups()
    assert set(groups.tolist()) == {0, 1}
    assert kept.model.group_names() == {1: "crate"}
    assert torch.equal(groups.bool(), chosen)

    # nothing is asked where it could not be written
    asked.clear()
    with pytest.raises(GsegError, match="add --overwrite"):
        Select(output=tmp_path / "kept.gseg", mask=tmp_path / "mask.png", **given).main()  # type: ignore[arg-type]
    assert not asked
    again = {"output": tmp_path / "kept.gseg", "mask": tmp_path / "mask.png", "name": "box", "overwrite": True}
    Select(**(given | again)).main()  # type: ignore[arg-type]
    assert load_run(tmp_path / "kept.gseg").model.group_names() == {1: "box"}

    # pictures of a result are those of its Gaussians
    Views(tmp_path / "kept.gseg", tmp_path / "again", cameras=folder / "views").main()
    names = sorted(path.name for path in (folder / "views" / "images").iterdir())
    assert sorted(path.name for path in (tmp_path / "again" / "images").iterdir()) == names
    pictures = [np.asarray(Image.open(place / "images" / names[0])) for place in (folder / "views", tmp_path / "again")]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 1

    # a further one beside it
    other = load_run(tmp_path / "kept.gseg")
    rest = torch.zeros_like(groups, dtype=torch.bool)
    rest[:5] = True
    assert keep_as_object(other, rest, "corner") == 2
    assert int((other.model.gaussian_groups() == 2).sum()) == 5
    with pytest.raises(GsegError, match="Nothing is selected"):
        keep_as_object(other, rest & ~rest, "nothing")


def test_what_cannot_be_followed_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "load_tracker", lambda *_: ColorTracker())
    given = {"load_config": folder / "room.ply", "output": tmp_path / "a.npz", "track": "some/model"}
    with pytest.raises(GsegError, match="needs at least one --point"):
        Select(data=folder / "views", view="view_00001", sphere=((0, 0, 0, 1.0),), **given).main()  # type: ignore[arg-type]
    with pytest.raises(GsegError, match="has no cameras"):
        Select(view="view_00001", point=((64.0, 48.0),), **given).main()  # type: ignore[arg-type]
    with pytest.raises(GsegError, match="has no property `label`"):
        Select(load_config=folder / "room.ply", output=tmp_path / "a.npz", sphere=((0, 0, 0, 1.0),)).main()
    with pytest.raises(GsegError, match="follows a --mask as it is"):
        Select(view="a", mask=tmp_path / "m.png", negative=((64.0, 48.0),), **given).main()  # type: ignore[arg-type]
    with pytest.raises(GsegError, match="is no scene"):
        Select(data=tmp_path, view="view_00001", point=((64.0, 48.0),), **given).main()  # type: ignore[arg-type]


def test_masks_that_agree_on_nothing(room: Splats) -> None:
    class Lost(ColorTracker):
        def carry(self, pictures: Sequence[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
            return [np.zeros_like(mask) for _ in pictures]

    first = torch.zeros(96, 128, dtype=torch.bool)
    first[40:56, 56:72] = True
    with pytest.raises(GsegError, match="agree on nothing"):
        track_object(paint_labels(room), looking_at(1), first, Lost(), np.array([0.0, 0, 1]))


def test_a_thing_that_is_seen_from_nowhere_else(room: Splats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "orbit", lambda *_, **__: Orbit(([], []), (0.0, 0.0, 0.0), 1.0))
    with pytest.raises(GsegError, match="another view"):
        track_object(paint_labels(room), looking_at(1), torch.ones(96, 128), ColorTracker(), np.array([0.0, 0, 1]))


def test_a_thing_that_pictures_cut_off_is_followed_from_farther_away(
    room: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a lamp of which the view that was clicked on shows the shade."""
    monkeypatch.setattr(tracking, "PICTURES", 6)
    plain, camera, up = paint_labels(room), looking_at(2), np.array([0.0, 0, 1])
    first = torch.from_numpy(ColorTracker().mask(tracking._picture(plain, camera), np.array([[64.0, 48.0]]), _YES))
    near = thing_of(plain, camera, first)
    monkeypatch.setattr(tracking, "thing_of", lambda *_: Thing(near.centre, near.radius / 3))
    rounds: list[int] = []
    lifts: list[int] = []

    def lift(splats: Splats, views: Sequence[tuple[Camera, torch.Tensor]]) -> Carried:
        lifts.append(len(views))
        return lift_object(splats, views)

    monkeypatch.setattr(tracking, "lift_object", lift)
    far = track_object(plain, camera, first, ColorTracker(), up, rounds.append)
    assert len(far.views) > 1 + tracking.PICTURES
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) > 1
    assert lifts == [len(far.views)], "what no round uses is not lifted"
    monkeypatch.setattr(tracking, "ROUNDS", 1)
    cut = track_object(plain, camera, first, ColorTracker(), up)
    assert len(cut.views) <= 1 + tracking.PICTURES
    truth = room.extra["label"] == 2
    assert float(far.selected[truth].float().mean()) > float(cut.selected[truth].float().mean()) + 0.05


def test_a_tracker_that_fails(room: Splats, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(ColorTracker):
        def carry(self, pictures: Sequence[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
            raise RuntimeError("CUDA out of memory.\nMore of it")

    monkeypatch.setattr(tracking, "PICTURES", 2)
    first = torch.zeros(96, 128, dtype=torch.bool)
    first[40:56, 56:72] = True
    with pytest.raises(GsegError, match=r"fails on this picture \(CUDA out of memory.\)"):
        track_object(paint_labels(room), looking_at(1), first, Full(), np.array([0.0, 0, 1]))
