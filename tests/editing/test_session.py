from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.editing.edit_list import EDITS_FILE, save_edits
from gseg_ns.editing.operations import (
    Duplicate,
    Hide,
    Isolate,
    Operation,
    Recolor,
    Remove,
    SetOpacity,
    Show,
    ShowAll,
    Swap,
    Transform,
    evaluate,
)
from gseg_ns.editing.session import Loaded, Session
from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import GROUP_NAMES_FILE, SELECTIONS_FILE, load_selections
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply

COUNT = 37
BOTH = Loaded(("selections", "edits"))
"""What loading says when nobody has named a group."""


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
        Recolor(packed, (rng.random(), rng.random(), rng.random()), keep_shading=rng.random() < 0.5),
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
    assert session.scene.appended_by[-4:].tolist() == [1] * 4
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
    assert other.load(tmp_path) == BOTH
    assert other.state.operations == session.state.operations
    assert other.named == session.named
    assert other.selection == session.selection
    assert int(other.scene.drawn.sum()) == COUNT - 4


def test_load_of_another_run_changes_nothing(tmp_path: Path) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.label(3, "mug")
    session.save(tmp_path)
    for stranger in (Session(make_splats(seed=1)), Session(make_splats(COUNT + 1))):
        before = stranger.state
        loaded = stranger.load(tmp_path)
        assert loaded is not None
        assert loaded.parts == ()
        assert [problem.count("made for") for problem in loaded.problems] == [1, 1, 1]
        assert stranger.state is before
    assert Session(make_splats()).load(tmp_path / "nothing") is None


@pytest.mark.parametrize("damaged", [SELECTIONS_FILE, EDITS_FILE, GROUP_NAMES_FILE])
def test_what_can_be_read_is_read_and_the_rest_is_kept(tmp_path: Path, damaged: str) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.keep("mug")
    session.edit(Remove(session.state.selection))
    session.label(3, "mug")
    session.save(tmp_path)
    (tmp_path / damaged).write_text("years of work")

    other = Session(make_splats())
    loaded = other.load(tmp_path)
    assert loaded is not None
    assert len(loaded.problems) == 1
    assert damaged in loaded.problems[0]
    assert len(loaded.parts) == 2
    assert (other.named == session.named) == (damaged != SELECTIONS_FILE)
    assert (other.state.operations == session.state.operations) == (damaged != EDITS_FILE)
    assert (other.state.labels == session.state.labels) == (damaged != GROUP_NAMES_FILE)
    assert other.save(tmp_path) == (tmp_path / f"{damaged}.bak",)
    assert (tmp_path / f"{damaged}.bak").read_text() == "years of work"
    assert other.save(tmp_path) == ()
    assert len(list(tmp_path.iterdir())) == 4
    again = Session(make_splats()).load(tmp_path)
    assert again is not None
    assert again.problems == ()


def test_nothing_that_the_session_does_not_have_is_overwritten(tmp_path: Path) -> None:
    """Files that were never loaded, loaded in part, or written by another program since."""
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.edit(Duplicate(session.state.selection, (1.0, 0.0, 0.0)))
    session.keep("copy")
    session.save(tmp_path)
    assert {path.name for path in Session(make_splats()).save(tmp_path)} == {
        f"{SELECTIONS_FILE}.bak",
        f"{EDITS_FILE}.bak",
    }

    for name in (SELECTIONS_FILE, EDITS_FILE):
        (tmp_path / f"{name}.bak").replace(tmp_path / name)
    save_edits(tmp_path / EDITS_FILE, [], session.fingerprint)
    other = Session(make_splats())
    loaded = other.load(tmp_path)
    assert loaded is not None
    assert loaded.left_out == ("copy",)
    assert other.save(tmp_path) == (tmp_path / f"{SELECTIONS_FILE}.bak",)
    assert "copy" in load_selections(tmp_path / f"{SELECTIONS_FILE}.bak", other.fingerprint).stale

    save_edits(tmp_path / EDITS_FILE, session.state.operations, session.fingerprint)
    assert other.save(tmp_path) == (tmp_path / f"{EDITS_FILE}.bak",)
    # when training changed the number of Gaussians, what was saved before may still be of use to a checkpoint
    other.rebase(make_splats(COUNT + 1))
    assert other.save(tmp_path) == (tmp_path / f"{SELECTIONS_FILE}.bak2", tmp_path / f"{EDITS_FILE}.bak2")


def test_copies_are_saved_with_the_selections_that_hold_them(tmp_path: Path) -> None:
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.keep("mug")
    session.edit(Duplicate(session.state.selection, (1.0, 0.0, 0.0)))
    session.keep("copy")
    session.select(torch.arange(COUNT + 4) == 2, "add")
    session.save(tmp_path)
    other = Session(make_splats())
    assert other.load(tmp_path) == BOTH
    assert other.selection == session.selection
    assert other.recall("copy") == 4
    assert other.selection.mask.nonzero()[:, 0].tolist() == list(range(COUNT, COUNT + 4))
    assert other.recall("mug") == 4
    assert int(other.selection.mask[COUNT:].sum()) == 0


@pytest.mark.parametrize("duplicated", [0, 3])
def test_copies_of_other_edits_are_left_out(tmp_path: Path, duplicated: int) -> None:
    """The list of edits was changed from the command line: the rows of the copies are no more, or others."""
    session = Session(make_splats())
    session.select(torch.arange(COUNT) < 4)
    session.keep("mug")
    session.edit(Duplicate(session.state.selection, (1.0, 0.0, 0.0)))
    session.keep("copy")
    session.save(tmp_path)
    operations = [Duplicate(PackedMask.pack(torch.arange(COUNT) >= COUNT - 2 * duplicated), (1.0, 0.0, 0.0))]
    save_edits(tmp_path / EDITS_FILE, operations[: duplicated and 1], session.fingerprint)
    other = Session(make_splats())
    assert other.load(tmp_path) == Loaded(("selections", "edits"), ("copy",))
    assert list(other.named) == ["mug"]
    assert other.selection.count == 0


def test_names_of_groups_are_saved_for_their_scale(tmp_path: Path) -> None:
    session = Session(make_splats())
    session.label(3, "mug", 0.5)
    session.label(3, "handle", 0.1)
    session.label(4, "gone")
    session.label(4, " ")
    with pytest.raises(GsegError, match="cannot name"):
        session.label(5, "a/b")
    session.save(tmp_path)
    other = Session(make_splats())
    assert other.load(tmp_path) == Loaded(("selections", "edits", "names of groups"))
    assert other.labels(0.5) == {3: "mug"}
    assert other.labels(0.1) == {3: "handle"}
    assert other.labels() == {}
    other.label(3, "", 0.5)
    other.label(3, "", 0.1)
    other.save(tmp_path)
    third = Session(make_splats())
    third.load(tmp_path)
    assert third.state.labels == ()


def test_an_object_of_another_run_moves_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "swapped").mkdir(parents=True)
    newcomer = tmp_path / "a" / "swapped" / "mug.ply"
    write_ply(newcomer, make_splats(5))
    session = Session(make_splats())
    session.edit(Swap(PackedMask.pack(torch.arange(COUNT) < 4), str(newcomer)))
    session.save(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    other = Session(make_splats())
    assert other.load(tmp_path / "b") == BOTH
    assert len(other.scene) == COUNT + 5
    assert torch.equal(other.scene.splats.means, session.scene.splats.means)


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


def test_undo_says_what_and_what_is_removed_is_not_selected(tmp_path: Path) -> None:
    splats = make_splats(30)
    session, some = Session(splats), torch.arange(30) < 10
    assert session.undoes is session.redoes is None
    session.select(some, did="select the mug")
    session.label(3, "mug")
    session.set_metres(0.5)
    session.edit(Remove(PackedMask.pack(some)))
    assert not session.selection.count
    said = []
    while session.undoes is not None:
        said.append(session.undoes)
        session.undo()
        assert session.redoes == said[-1]
    assert said == ["remove 10 Gaussians", "set the unit", "name group 3 “mug”", "select the mug"]
    while session.redo():
        pass
    session.save(tmp_path)
    again = Session(splats)
    loaded = again.load(tmp_path)
    assert loaded is not None
    assert "the unit" in loaded.parts
    assert again.state == session.state
    assert again.state.metres == 0.5
    for wrong in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(GsegError, match="cannot be"):
            session.set_metres(wrong)


def test_show_takes_back_what_hide_did_to_some() -> None:
    splats = make_splats(20)
    first, second = (PackedMask.pack(torch.arange(20) // 5 == part) for part in (0, 1))
    scene = evaluate(splats, [Hide(first), Hide(second), Show(first)])
    assert torch.equal(scene.hidden, second.unpack())
