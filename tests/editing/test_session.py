from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.editing.operations import (
    Duplicate,
    Hide,
    Isolate,
    Operation,
    Recolour,
    Remove,
    SetOpacity,
    ShowAll,
    Swap,
    Transform,
)
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask
from gseg_ns.splats import Splats

COUNT = 37


def make_splats(count: int = COUNT, seed: int = 0) -> Splats:
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) * 0.3 - 3,
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, 16, 3, generator=g) * 0.2,
    )


def random_action(session: Session, rng: random.Random):
    """An action, with everything random in it already drawn, that can be run on any session in this state."""
    rows = len(session.scene)
    mask = torch.tensor([rng.random() < 0.3 for _ in range(rows)])
    mask[rng.randrange(rows)] = True
    packed = PackedMask.pack(mask)
    kind = rng.randrange(12)
    edits: list[Operation] = [
        Recolour(packed, (rng.random(), rng.random(), rng.random()), keep_shading=rng.random() < 0.5),
        Remove(packed),
        Hide(packed),
        Isolate(packed),
        ShowAll(),
        Transform(packed, (rng.random() + 0.1, rng.random(), 0.0, 0.2), (rng.random(), 0.0, 0.0), 0.5 + rng.random()),
        SetOpacity(packed, rng.random()),
    ]
    if rows < 60:  # keep the scene small
        edits.append(Duplicate(PackedMask.pack(mask & (torch.rand(rows) < 0.2)), (0.0, 0.1, 0.0)))
    if kind < 5:
        mode = rng.choice(["set", "add", "remove", "intersect"])
        return lambda s: s.select(mask, mode)
    if kind == 5:
        return lambda s: s.invert()
    if kind == 6:
        name = rng.choice("abc")
        return lambda s: s.keep(name)
    if kind == 7:
        name = rng.choice("abc")
        return lambda s: s.recall(name)
    if kind == 8:
        return lambda s: s.label(3, "mug")
    operation = rng.choice(edits)
    return lambda s: s.edit(operation)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32))
def test_a_thousand_random_operations_equal_their_replay(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed % 2**31)
    session = Session(make_splats())
    done: list = []  # actions in effect
    undone: list = []
    for _ in range(1000):
        draw = rng.random()
        if draw < 0.25:
            assert session.undo() == bool(done)
            if done:
                undone.append(done.pop())
        elif draw < 0.4:
            assert session.redo() == bool(undone)
            if undone:
                done.append(undone.pop())
        else:
            action = random_action(session, rng)
            before = session.state
            try:
                action(session)
            except GsegError:  # nothing selected, no such name: nothing may have changed
                assert session.state is before
                continue
            if session.state is not before:
                done.append(action)
                undone.clear()
    replay = Session(make_splats())
    for action in done:
        action(replay)
    assert replay.state == session.state
    a, b = session.scene, replay.scene
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(a.splats, name), getattr(b.splats, name)), name
    assert torch.equal(a.drawn, b.drawn)
    assert torch.equal(a.source, b.source)


def test_undo_and_redo_restore_exactly() -> None:
    session = Session(make_splats())
    first = torch.arange(COUNT) < 5
    session.select(first)
    session.select(torch.arange(COUNT) == 9, "add")
    session.undo()
    assert torch.equal(session.selection.mask, first)
    session.redo()
    assert session.selection.count == 6
    assert not session.redo()


def test_duplicate_selects_the_copy_and_undo_takes_it_away() -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.edit(Duplicate(session.state.selection, (1.0, 0.0, 0.0)))
    assert len(session.scene) == COUNT + 4
    assert session.selection.mask.nonzero()[:, 0].tolist() == list(range(COUNT, COUNT + 4))
    assert session.scene.piece[-4:].tolist() == [1] * 4
    session.undo()
    assert len(session.scene) == COUNT
    assert session.selection.count == 4


def test_save_and_load(tmp_path: Path) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.keep("mug")
    session.edit(Remove(session.state.selection))
    session.save(tmp_path)
    other = Session(make_splats())
    assert other.load(tmp_path)
    assert other.state.operations == session.state.operations
    assert other.named == session.named
    assert other.selection == session.selection
    assert int(other.scene.drawn.sum()) == COUNT - 4


def test_load_of_another_run_changes_nothing(tmp_path: Path) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.save(tmp_path)
    for stranger in (Session(make_splats(seed=1)), Session(make_splats(COUNT + 1))):
        before = stranger.state
        with pytest.raises(GsegError, match="made for"):
            stranger.load(tmp_path)
        assert stranger.state is before
    assert not Session(make_splats()).load(tmp_path / "nothing")


def test_rebase_keeps_the_selection_while_the_number_stays() -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    moved = make_splats()
    moved.means = moved.means + 1
    assert session.rebase(moved)
    assert session.selection.count == 4
    assert torch.equal(session.scene.splats.means, moved.means)
    assert not session.rebase(make_splats(COUNT + 5))
    assert session.selection.count == 0
    assert not session.undo()


@pytest.mark.parametrize("name", ["a/b", "..", "", "  ", "x" * 65, "a\\b", "a\nb"])
def test_bad_names(name: str) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    with pytest.raises(GsegError, match="cannot name"):
        session.keep(name)


def test_a_failing_edit_changes_nothing() -> None:
    session = Session(make_splats())
    before = session.state
    with pytest.raises(GsegError, match="Nothing is selected"):
        session.edit(Duplicate(PackedMask.empty(COUNT), (1.0, 0.0, 0.0)))
    with pytest.raises(GsegError, match="Nothing is selected"):
        session.edit(Swap(PackedMask.empty(COUNT), PackedMask.empty(COUNT)))
    with pytest.raises(GsegError, match="another run"):
        session.edit(Remove(PackedMask.empty(COUNT + 1)))
    assert session.state is before
