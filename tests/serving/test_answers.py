"""What is answered where something goes wrong, takes long or is exported; without a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.serving import open_desk
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import Asked
from gseg_ns.serving.picture import ROWS
from gseg_ns.serving.server import PageDoor, PageServer
from gseg_ns.splats import read_ply
from gseg_ns.splats.ply_header import read_header
from page_client import write_scene


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "secret-name.ply")


def asked(name: str, *values: Any) -> Asked:
    return Asked(7, name, list(values), "set")


def heard(desk: Desk) -> dict[str, Any]:
    """What pages are told from now on."""
    state: dict[str, Any] = {}
    desk.listen(lambda frames: state.update(*(json.loads(one)["state"] for one in frames if isinstance(one, str))))
    return state


def test_exports_say_which_way_is_up(ply: Path) -> None:
    desk, _ = open_desk(ply, up="-y")
    assert desk.do(asked("pick", 12))["well"]
    for name, values in (("export ply", ["one.ply", False]), ("export", [])):
        assert desk.do(asked(name, *values))["well"], name
    files = [desk.folder / "one.ply", *(desk.folder / "exports").iterdir()]
    assert len(files) == 2
    for file in files:
        placement = read_header(file).placement
        assert placement is not None
        assert placement.up == "-y"
    again, _ = open_desk(files[0])
    assert torch.equal(again.picture.space._turn, desk.picture.space._turn)


def test_a_page_is_written_upright_and_without_the_name_of_a_file(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gseg_ns import page

    given: dict[str, Any] = {}

    def note(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return SimpleNamespace(splats=1, objects=1, size=1)

    monkeypatch.setattr(page, "write_page", note)
    desk, _ = open_desk(ply, up="-y")
    assert desk.do(asked("export page", "page.html", False))["well"]
    assert given["placement"].up == "-y"
    assert "secret" not in given["words"].title


def test_there_is_always_an_answer(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, _ = open_desk(ply)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(desk.picture, "update", fail)
        answer = desk.do(asked("pick", 12))
    assert (answer["answers"], answer["well"]) == (7, False)
    assert "went wrong" in answer["said"]
    with monkeypatch.context() as broken:
        broken.setattr(desk._keeping, "wait", fail)
        assert not desk.do(asked("pick", 12))["well"]
    assert desk.do(asked("pick", 12))["well"]


def test_what_is_told_is_of_one_moment(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody changes the session between what is drawn of it and what is listed."""
    desk, _ = open_desk(ply)
    held = []

    def other() -> None:
        held.append(not desk._session.acquire(blocking=False))

    shown = desk.controller.shown

    def look() -> Any:
        found = shown()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr(desk.controller, "shown", look)
    assert desk.do(asked("pick", 12))["well"]
    assert held == [True]


def test_what_is_not_on_disk_is_told_until_it_is(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, _ = open_desk(ply)
    state = heard(desk)

    def full(folder: Path) -> str:
        raise GsegError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(desk.controller, "save", full)
        desk.do(asked("pick", 12))
        desk._keeping.wait()
        assert "the disk is full" in state["unsaved"]
        desk.do(asked("extent"))
        assert "the disk is full" in state["unsaved"]
        told: list[Any] = []
        desk.greet(told.extend)
        assert "the disk is full" in json.loads(told[-1])["state"]["unsaved"]
        desk.do(asked("pick", 13))
        desk._keeping.wait()
    desk.do(asked("pick", 14))
    desk._keeping.wait()
    assert state["unsaved"] == ""


def test_what_goes_on_is_told_to_who_asked(ply: Path) -> None:
    desk, _ = open_desk(ply)
    state = heard(desk)

    def search(text: str, model: str, say: Callable[[str], None]) -> torch.Tensor:
        say("Reading photographs …")
        return torch.ones(len(desk.controller.model.splats()), dtype=torch.bool)

    desk._search = search
    said: list[str] = []
    answer = desk.begin(asked("text", "mug", ""), said.append)
    assert isinstance(answer, dict)
    assert answer["well"], answer
    assert said == ["Reading photographs …"]
    assert "said" not in state


def test_files_are_written_beside_and_are_of_what_was_selected(ply: Path) -> None:
    desk, _ = open_desk(ply)
    desk.do(asked("pick", 12))
    write = desk.begin(asked("export ply", "one.ply", False))
    assert callable(write)
    assert not (desk.folder / "one.ply").exists()
    assert desk.do(asked("pick", 13))["well"]
    assert write()["said"].startswith("Wrote 300")
    model = desk.controller.model
    assert torch.equal(read_ply(desk.folder / "one.ply").means, model.splats().means[model.gaussian_groups() == 12])
    # What cannot be written is an answer as well.
    again = desk.begin(asked("export ply", "one.ply", False))
    assert callable(again)
    assert "there already" in again()["said"]
    assert {"export", "export ply", "export page"}.isdisjoint(desk.SLOW)


def test_a_click_after_the_slider_means_the_new_scale(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the list waits for the thread of what takes long."""
    desk, _ = open_desk(ply)
    later: list[Callable[[], object]] = []
    desk.listen(lambda frames: None, later.append)
    controller = desk.controller
    knows = chain([True], repeat(False))
    monkeypatch.setattr(type(controller), "lists", property(lambda self: next(knows)))

    def reprompt(scale: float) -> str:
        controller.scale = scale
        return ""

    listed: list[float] = []
    monkeypatch.setattr(controller, "reprompt", reprompt)
    monkeypatch.setattr(controller, "groups", lambda: listed.append(controller.scale))
    assert "scale" not in desk.SLOW
    assert desk.do(asked("scale", 0.25))["said"] == "Scale 0.25."
    assert (controller.scale, listed, len(later)) == (0.25, [], 1)
    controller.scale = 0.5  # another one has come meanwhile
    later[0]()
    assert listed == []


def test_while_objects_are_looked_for_no_number_means_another(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of another scale is gone at once, and what was asked by its numbers is refused."""
    desk, _ = open_desk(ply)
    later: list[Callable[[], object]] = []
    frames: list[bytes | str] = []
    desk.listen(frames.extend, later.append)
    controller = desk.controller
    found = {controller._group_scale}
    monkeypatch.setattr(type(controller), "_group_scale", property(lambda self: round(self.scale, 4)))
    found.add(controller._group_scale)
    monkeypatch.setattr(type(controller), "_knows_groups", property(lambda self: self._group_scale in found))
    groups = type(controller).groups

    def find() -> Any:
        if controller.scale == 0.75:
            raise GsegError("too few Gaussians for clusters")
        found.add(controller._group_scale)
        return groups(controller)

    monkeypatch.setattr(controller, "groups", find)
    ids = [one["id"] for one in desk._state["objects"]]
    assert ids
    for scale in (0.25, 0.3):  # the second comes before the objects of the first are found
        assert desk.do(asked("scale", scale))["well"]
    assert (desk._state["objects"], desk._state["listed"], len(later)) == ([], False, 2)
    assert not any(desk.picture.frames[ROWS][16:])
    before = controller.state()
    for name, values in (("pick", [ids[0]]), ("picks", ["set", *ids]), ("eye", [ids[0]]), ("name", [ids[0], "mug"])):
        answer = desk.do(asked(name, *values))
        assert (answer["well"], "not listed yet" in answer["said"]) == (False, True), name
    assert not desk.do(asked("look", ids[0]))["well"]
    assert controller.state() is before
    frames.clear()
    for relist in later:
        relist()
    assert [one["id"] for one in desk._state["objects"]] == ids
    assert desk.do(asked("pick", ids[0]))["well"]
    # The state comes after what is drawn: pictures of objects wait for it.
    assert isinstance(frames[0], bytes)
    assert isinstance(frames[-1], str)

    # What cannot be listed is told.
    state = heard(desk)
    desk._beside = later.append
    assert desk.do(asked("scale", 0.75))["well"]
    later[-1]()
    assert (state["said"], state["well"]) == ("too few Gaussians for clusters", False)


def test_an_end_waits_for_what_has_begun(ply: Path) -> None:
    desk, _ = open_desk(ply)
    pages = PageServer(desk, {}, PageDoor("127.0.0.1"))
    begun = threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        threading.Event().wait(0.05)
        done.append("first")

    pages._slow.submit(work)
    pages._slow.submit(done.append, "second")
    assert begun.wait(20)
    pages.close()
    assert done == ["first"]


def test_a_mark_loads_the_method_before_the_session_is_held(ply: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, _ = open_desk(ply)
    free: list[bool] = []

    def whole() -> Any:
        def other() -> None:
            free.append(desk._session.acquire(timeout=1))
            desk._session.release()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        raise GsegError("enough")

    monkeypatch.setattr(desk.controller.model, "whole", whole)
    with pytest.raises(GsegError, match="enough"):
        desk.controller.mark(None, 1, 1, True, lambda picture, points: picture)  # type: ignore[arg-type]
    assert free == [True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 99_999}, "ports are numbers"),
        ({"port": -1}, "ports are numbers"),
        ({"nerfstudio": True, "up": "z"}, "of the page"),
        ({"nerfstudio": True, "open": False}, "of the page"),
    ],
)
def test_what_cannot_be_is_one_message(options: dict[str, Any], said: str, ply: Path) -> None:
    from gseg_ns.cli.view import ViewRun

    with pytest.raises(GsegError, match=said):
        ViewRun(ply, **options).main()


def test_any_token_is_one(tmp_path: Path) -> None:
    from websockets.datastructures import Headers

    from gseg_ns.viewer.entrance import in_address

    token = "a b;c&d=é\r\nX: y#%41"
    door = PageDoor("127.0.0.1", token=token, cookie="c", paths=frozenset({"/"}))
    here = Headers(Host="127.0.0.1:1")
    taken = door.answer(f"/?token={in_address(token)}", here)
    assert taken is not None
    assert taken[0] == 303
    cookie = dict(taken[1])["Set-Cookie"]
    assert cookie.count(";") == 3
    assert cookie.isprintable()
    assert door.answer("/", Headers(Host="127.0.0.1:1", Cookie=cookie.partition(";")[0])) is None
    assert door.answer("/", Headers(Host="127.0.0.1:1", Cookie="c=a"))[0] == 401  # type: ignore[index]
