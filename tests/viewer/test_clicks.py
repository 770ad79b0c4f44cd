"""A click on the picture is what viser says and what the tab's script says, in any order."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState

from gseg_ns.viewer import clicks
from gseg_ns.viewer.clicks import Clicks, Hit, view_of


def hit(client: int = 0, place: tuple[float, float] = (0.25, 0.5)) -> Hit:
    c2w = torch.eye(4, dtype=torch.float64)[:3]
    c2w[:, 3] = torch.tensor([1.0, 2.0, 3.0])
    state = CameraState(fov=1.0, aspect=1.5, c2w=c2w, time=0.0, camera_type=CameraType.PERSPECTIVE)
    return Hit(client, state, place)


@pytest.fixture
def clicked() -> list[tuple[Hit, Any]]:
    return []


@pytest.fixture
def pairs(clicked: list[tuple[Hit, Any]]) -> Clicks:
    return Clicks(lambda hit, mode: clicked.append((hit, mode)))


def test_whichever_comes_first(pairs: Clicks, clicked: list[tuple[Hit, Any]]) -> None:
    """A mode that was chosen before the click comes after it, or long before."""
    first, second = hit(), hit(place=(0.7, 0.1))
    pairs.hit(first)
    assert not clicked
    pairs.told(0, (0.2501, 0.5), "remove")
    assert clicked == [(first, "remove")]
    pairs.told(0, (0.7, 0.1), "add")
    assert len(clicked) == 1
    pairs.hit(second)
    assert clicked[1:] == [(second, "add")]


def test_clicks_are_told_apart_by_browser_and_place(pairs: Clicks, clicked: list[tuple[Hit, Any]]) -> None:
    hits = [hit(0), hit(1), hit(0, (0.26, 0.5))]
    for one in hits:
        pairs.hit(one)
    pairs.told(0, (0.26, 0.5), "add")
    pairs.told(1, (0.25, 0.5), "remove")
    pairs.told(2, (0.25, 0.5), "intersect")
    pairs.told(0, (0.25, 0.5), "set")
    assert clicked == [(hits[2], "add"), (hits[1], "remove"), (hits[0], "set")]


def test_a_click_is_answered_once_and_never_lost(
    clicked: list[tuple[Hit, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "PATIENCE", 0.05)
    done = threading.Event()

    def answer(hit: Hit, mode: Any) -> None:
        clicked.append((hit, mode))
        done.set()

    pairs = Clicks(answer)
    alone = hit()
    pairs.hit(alone)
    assert done.wait(60)
    assert clicked == [(alone, None)]
    done.clear()
    # one that was told in time is not answered again
    second = hit(place=(0.9, 0.9))
    pairs.hit(second)
    pairs.told(0, (0.9, 0.9), "add")
    assert not threading.Event().wait(0.2)
    assert clicked == [(alone, None), (second, "add")]


def test_what_was_said_of_a_click_on_something_else_is_forgotten(
    pairs: Clicks, clicked: list[tuple[Hit, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a handle, or a camera's frame: the mesh is not hit."""
    pairs.told(0, (0.25, 0.5), "remove")
    now = clicks.time.monotonic()
    monkeypatch.setattr(clicks, "time", SimpleNamespace(monotonic=lambda: now + 10))
    one = hit()
    pairs.hit(one)
    assert not clicked
    pairs.told(0, (0.25, 0.5), "add")
    assert clicked == [(one, "add")]


def test_the_place_of_a_click() -> None:
    """Where it is on the screen says it; the ray of an event is the same for all."""
    view, x, y = view_of(hit(), 720)
    assert (x, y) == (0.25 * 1080, 0.5 * 720)
    assert np.allclose(view.camera_to_worlds[0, :, 3], [1.0, 2.0, 3.0])
