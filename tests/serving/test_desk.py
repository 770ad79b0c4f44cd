"""A method of features before pages: what it has and groups have not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constructed_run import copy_run
from gseg_ns.data.cameras import to_camera
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import Asked, Seen
from gseg_ns.serving.opening import open_desk


class Page:
    """What one is told."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.state: dict[str, Any] = {}
        self.said: list[str] = []
        desk.greet(self.take)
        desk.listen(self.take)

    def take(self, frames: list[bytes | str]) -> None:
        for frame in frames:
            if isinstance(frame, str):
                self.state.update(json.loads(frame)["state"])

    def ask(self, name: str, *values: Any, **more: Any) -> dict[str, Any]:
        return self.desk.do(Asked(1, name, list(values), more.pop("mode", "set"), **more))


@pytest.fixture(scope="module")
def opened(built_saga_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, dict[str, Any], Seen, Any]:
    from gseg_ns.runs.run import load_run

    config = copy_run(built_saga_run, tmp_path_factory.mktemp("saga"))
    desk, meta = open_desk(config)
    camera = to_camera(load_run(config).datamanager.camera(0))
    # As the browser has it: the scene with y up, around the origin.
    where = desk.picture.space.placement
    pose = camera.viewmat.double().inverse()
    pose[:3, 1:3] *= -1
    pose[:3, :3] = where.rotation @ pose[:3, :3]
    pose[:3, 3] = where.rotation @ pose[:3, 3] + where.translation
    fov = 2 * float((camera.height / 2 / camera.K[1, 1]).atan().rad2deg())
    return desk, meta, Seen(tuple(pose.T.flatten().tolist()), fov, camera.width, camera.height), camera


def test_features_answer_clicks_at_a_scale_and_a_threshold(opened: Any) -> None:
    desk, _, seen, camera = opened
    page = Page(desk)
    assert not page.state["local"]
    assert page.state["scale"] is not None
    assert page.state["threshold"] is not None
    assert (page.state["listed"], page.state["objects"]) == (False, [])
    middle = (camera.width / 2, camera.height / 2)
    answer = page.ask("click", view=seen, points=(middle,))
    assert answer["well"], answer
    count = page.state["gaussians"]
    assert count > 0
    with desk.controller._held() as session:
        expected = session.selection.mask
    desk.controller.click(camera, *middle, True, True)
    assert bool((desk.controller.selected == expected).all()), "not the view that the tab has"
    page.ask("threshold", 0.999)
    assert page.state["threshold"] == 0.999
    assert 0 < page.state["gaussians"] <= count
    page.ask("adaptive", True)
    assert page.state["adaptive"]
    assert desk.controller.adaptive
    page.ask("adaptive", False)
    page.ask("threshold", -5)
    assert page.state["threshold"] == 0
    assert page.ask("list")["said"].endswith("objects.")
    assert page.state["listed"]
    assert len(page.state["objects"]) > 1
    assert page.ask("scale", 1.0)["well"]
    assert (page.state["scale"], page.state["listed"]) == (1.0, True)
    assert not page.ask("text", "mug", "")["well"]
