"""Several threads at once leave what the same operations leave one after another."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from constructed_run import set_affinities, set_identities
from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate, Hide, Isolate, Recolor, Remove, SetOpacity, ShowAll, Transform
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.models.saga import SagaModelConfig
from gseg_ns.viewer.controller import SegmentController
from three_balls import BALL, FakeSam, build_model, pixel_of, rows, view

THREADS, EACH = 4, 30

Call = Callable[[SegmentController], Any]


class Recording:
    """A lock that notes in which order operations took it, and lets others in between two of its uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken: list[Any] = []
        self.now = threading.local()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.taken.append(getattr(self.now, "call", None))

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        threading.Event().wait(0.0005)


def search(text: str) -> torch.Tensor:
    return rows(len(text) % 3)


def draw(chance: random.Random) -> tuple[str, Call]:
    """An operation of the tab with random arguments, and its name."""
    ball, group = chance.randrange(3), chance.randrange(1, 4)
    mode: Any = chance.choice(("set", "add", "remove", "intersect"))
    positive, name = chance.random() < 0.7, f"kept {chance.randrange(3)}"
    corner = (pixel_of(ball)[0] - 14, 10.0), (pixel_of(ball)[0] + 14, 54.0)
    place = tuple(chance.uniform(-1, 1) for _ in range(3))
    kind: Any = chance.choice((Hide, Isolate, Remove))
    change: Any = chance.choice(("none", "all", "invert", "grow", "shrink", "clean", "largest"))
    value = round(chance.random(), 2)
    camera = to_camera(view())
    made: dict[str, Call] = {
        "click": lambda c: c.click(camera, *pixel_of(ball), positive),
        "drag": lambda c: c.drag(camera, *corner, mode, positive),
        "find": lambda c: c.find("x" * ball, search, mode),
        "change": lambda c: c.change(change),
        "undo": lambda c: c.undo(),
        "redo": lambda c: c.redo(),
        "keep": lambda c: c.keep(name),
        "recall": lambda c: c.recall(name, mode),
        "select group": lambda c: c.select_group(group, mode),
        "label": lambda c: c.label(group, name),
        "reprompt": lambda c: c.reprompt(scale=value) if positive else c.reprompt(threshold=value),
        "edit": lambda c: c.edit_selection(kind),
        "edit group": lambda c: c.edit_selection(kind, group),
        "recolor": lambda c: c.edit_selection(lambda mask: Recolor(mask, (0.1, value, 0.9))),
        "opacity": lambda c: c.edit_selection(lambda mask: SetOpacity(mask, value)),
        "move": lambda c: c.edit_selection(lambda mask: Transform(mask, translation=place)),
        "copy": lambda c: c.edit_selection(lambda mask: Duplicate(mask, place)),
        "swap": lambda c: c.swap(name),
        "show all": lambda c: c.edit(ShowAll()),
        "summary": lambda c: c.summary(),
        "groups": lambda c: c.groups(),
        "names": lambda c: c.names,
        "selected": lambda c: c.selected.tolist(),
    }
    chosen = chance.choice(sorted(made))
    return chosen, made[chosen]


def answer(controller: SegmentController, call: Call) -> Any:
    """What an operation answers, without the time that it took."""
    try:
        said = call(controller)
    except GsegError as error:
        said = str(error)
    return re.sub(r"\([\d.]+ m?s\)", "", said) if isinstance(said, str) else said


def outcome(controller: SegmentController) -> Any:
    session = controller._session
    states = [session.state]
    while session.undo():
        states.append(session.state)
    return states, controller.scale, controller.threshold


@pytest.fixture(params=["gaga", "saga"])
def model(request: pytest.FixtureRequest) -> Any:
    model = build_model(GagaModelConfig() if request.param == "gaga" else SagaModelConfig())
    with torch.no_grad():
        (set_identities if request.param == "gaga" else set_affinities)(model, BALL + 1)
    return model


@pytest.mark.parametrize("seed", range(3))
def test_threads_leave_what_a_serial_replay_leaves(model: Any, seed: int) -> None:
    """Each operation takes the lock once, so that the order of the locks is the order in which all is replayed."""
    lock = Recording()
    controller = SegmentController(model, lock)
    scripts = [[draw(random.Random(f"{seed} {thread} {n}")) for n in range(EACH)] for thread in range(THREADS)]
    answers: dict[tuple[int, int], Any] = {}
    failures: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def work(thread: int) -> None:
        try:
            start.wait()
            for number, (_, call) in enumerate(scripts[thread]):
                lock.now.call = thread, number
                answers[thread, number] = answer(controller, call)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert len(answers) == THREADS * EACH
    twice = {scripts[thread][number][0] for thread, number in lock.taken if lock.taken.count((thread, number)) != 1}
    assert not twice

    serial = SegmentController(model, threading.Lock())
    for key in lock.taken:
        name, call = scripts[key[0]][key[1]]
        assert answer(serial, call) == answers[key], name
    assert outcome(controller) == outcome(serial)


@contextmanager
def between(controller: SegmentController, act: Callable[[], object]) -> Any:
    """Do something as soon as the lock is free for the first time, as another browser would."""
    lock: Any = controller._lock
    done = False

    class Intruding:
        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            nonlocal done
            lock.release()
            if not done:
                done = True
                act()

    controller._lock = Intruding()
    yield
    controller._lock = lock


def test_what_is_edited_is_what_was_selected_at_that_time(model: Any) -> None:
    controller = SegmentController(model)
    controller.select_group(1)
    controller.edit_selection(lambda mask: Duplicate(mask, (0.0, 1.0, 0.0)))
    with between(controller, controller.undo):
        controller.edit_selection(Remove)
    assert [type(operation) for operation in controller._session.state.operations] == [Duplicate]
    with between(controller, controller.undo):
        controller.select_group(2)
    assert int(controller.selected.sum()) == int(rows(0).sum())


def test_marks_of_two_browsers_belong_together(model: Any) -> None:
    """SAM answers without the lock: clicks wait for one another, and a change meanwhile is not undone."""
    controller, sam = SegmentController(model), FakeSam()
    threads = [
        threading.Thread(target=controller.mark, args=(view(), *pixel_of(ball), True, sam)) for ball in (0, 1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(len(points.positive) for _, points in sam.asked) == [1, 2, 3]
    assert torch.equal(controller.selected, rows(0, 1, 2))
