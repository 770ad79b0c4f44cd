"""One user's work on one scene: selection, named selections and edits, with undo and redo of all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from gseg_ns.editing.edit_list import EDITS_FILE, describe, load_edits, save_edits
from gseg_ns.editing.operations import Duplicate, Edited, Operation, Remove, Swap, begin, evaluate
from gseg_ns.errors import GsegError
from gseg_ns.files import name_aside
from gseg_ns.folders import atomic_folder, newest, settle
from gseg_ns.selection.history import History
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Mode, Selection
from gseg_ns.selection.store import (
    GROUP_NAMES_FILE,
    SELECTIONS_FILE,
    UNITS_FILE,
    Fingerprint,
    GroupKey,
    SavedSelections,
    check_group,
    check_metres,
    check_name,
    load_group_names,
    load_selections,
    load_units,
    names_at,
    save_group_names,
    save_selections,
    save_units,
)
from gseg_ns.splats import Splats

CURRENT = "current"
"""Name under which `Session.save` keeps the unnamed present selection."""


@dataclass(frozen=True)
class State:
    """Everything that undo restores. Immutable; a few kB."""

    selection: PackedMask
    """Over the rows of the edited scene."""
    operations: tuple[Operation, ...] = ()
    named: tuple[tuple[str, PackedMask], ...] = ()
    """Named selections in the order in which they were made."""
    labels: tuple[tuple[GroupKey, str], ...] = ()
    """Names that the user gave to groups."""
    metres: float | None = None
    """Length of a unit of the scene in metres, where the user has measured one."""
    did: str = field(default="", compare=False)
    """What made this of the state before it, in a few words."""

    @property
    def nbytes(self) -> int:
        """Memory of what this state may hold alone (operations and names are shared with its neighbours)."""
        last = self.operations[-1].nbytes if self.operations else 0
        return 256 + self.selection.nbytes + last + sum(mask.nbytes for _, mask in self.named[-1:])


@dataclass(frozen=True)
class Loaded:
    """What `Session.load` found."""

    parts: tuple[str, ...]
    """What was read: some of "selections", "edits", "names of groups", "the unit"."""
    left_out: tuple[str, ...] = ()
    """Names of selections that hold copies which the edits do not make (the list was changed since, or not read)."""
    problems: tuple[str, ...] = ()
    """Why other parts were not read."""


@dataclass(frozen=True)
class Unsaved:
    """What `Session` has at one time."""

    state: State
    fingerprint: Fingerprint
    appended: Tensor
    known: dict[Path, tuple[int, int, int]]

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write selections, edits, names of groups and the unit beside a run's `config.yml`, all of them in one step.

        A file there whose content is not all in the session's history, because it could not be read or because another
        program wrote it, is not lost: it is kept under another name.

        Returns:
            What files were kept as.

        Raises:
            GsegError: a file cannot be written.
        """
        masks = {**dict(self.state.named), CURRENT: self.state.selection}
        labels = dict(self.state.labels)
        settle(folder)
        kept = []
        with atomic_folder(folder) as staging:
            save_selections(staging / SELECTIONS_FILE, masks, self.fingerprint, self.appended)
            save_edits(staging / EDITS_FILE, self.state.operations, self.fingerprint, folder)
            if labels or (folder / GROUP_NAMES_FILE).exists():
                save_group_names(staging / GROUP_NAMES_FILE, labels, self.fingerprint)
            if self.state.metres is not None or (folder / UNITS_FILE).exists():
                save_units(staging / UNITS_FILE, self.state.metres)
            written = [folder / path.name for path in staging.iterdir()]
            for path in written:
                if path.exists() and _stamp(path) != self.known.get(path):
                    kept.append(name_aside(path))
                    shutil.copy2(path, staging / kept[-1].name)
        self.known.update((path, _stamp(path)) for path in written)
        return tuple(sorted(kept, key=lambda path: path.name, reverse=True))


class Session:
    """Selection and edits of one scene. Never writes to the scene's tensors.

    Not thread safe: a caller with several threads holds a lock around each call.
    """

    def __init__(self, splats: Splats) -> None:
        """Start with nothing selected and nothing edited."""
        self._splats = splats
        self._fingerprint: Fingerprint | None = None
        self._evaluated: list[tuple[tuple[Operation, ...], Edited]] = [((), begin(splats))]
        self._known: dict[Path, tuple[int, int, int]] = {}
        """Files whose whole content the history has, as `_stamp` saw them."""
        self.history: History[State] = History(State(PackedMask.empty(len(splats))), lambda state: state.nbytes)

    # ---- what there is

    @property
    def state(self) -> State:
        """The present state."""
        return self.history.present

    @property
    def splats(self) -> Splats:
        """The scene as it is without edits."""
        return self._splats

    @property
    def fingerprint(self) -> Fingerprint:
        """Which Gaussians this is about."""
        if self._fingerprint is None:
            self._fingerprint = Fingerprint.of(self._splats.means)
        return self._fingerprint

    @property
    def scene(self) -> Edited:
        """The edited scene, all rows kept. Computed once for each list of operations, building on what is known."""
        operations = self.state.operations
        known, scene = max(
            ((done, scene) for done, scene in self._evaluated if operations[: len(done)] == done),
            key=lambda entry: len(entry[0]),
        )
        if len(known) == len(operations):
            return scene
        for operation in operations[len(known) :]:
            scene = operation(scene)
        self._evaluated = [self._evaluated[0], *self._evaluated[1:][-3:], (operations, scene)]
        return scene

    @property
    def selection(self) -> Selection:
        """The selected rows of `scene`, on its device."""
        return Selection(self.state.selection.unpack(self._splats.device))

    @property
    def named(self) -> dict[str, PackedMask]:
        """Named selections."""
        return dict(self.state.named)

    def labels(self, scale: float | None = None) -> dict[int, str]:
        """Names of groups at a scale (None for methods without scales)."""
        return names_at(dict(self.state.labels), scale)

    def rebase(self, splats: Splats) -> bool:
        """Go on over new values of the same Gaussians, as training produces them.

        Returns:
            False when their number has changed: then rows mean other Gaussians, and everything starts anew.
        """
        same = len(splats) == len(self._splats)
        self._splats = splats
        self._fingerprint = None
        self._evaluated = [((), begin(splats))]
        if not same:
            self.history.reset(State(PackedMask.empty(len(splats)), metres=self.state.metres))
            self._known.clear()
        return same

    # ---- what can be done

    def select(self, mask: Tensor | Selection, mode: Mode = "set", did: str = "change the selection") -> int:
        """Change the selection.

        Args:
            mask: bool [M] over the rows of `scene`.
            mode: how it meets the present selection.
            did: what this is, in a few words; see `undone`.

        Returns:
            The number of Gaussians selected now.
        """
        selection = self.selection.combine(mask, mode)
        self._push(replace(self.state, selection=selection.pack(), did=did))
        return selection.count

    def invert(self) -> int:
        """Select what is drawn and not selected. Returns the number of Gaussians selected now."""
        return self.select(self.selection.invert().mask & self.scene.drawn, did="invert the selection")

    def edit(self, operation: Operation, did: str | None = None) -> None:
        """Add an operation to the list. What `Duplicate` and `Swap` put into the scene becomes the selection, what is
        removed leaves it.

        Args:
            operation: what to do.
            did: what this is, in a few words; the operation's own description unless given.

        Raises:
            GsegError: the operation cannot be applied; nothing changes then.
        """
        before = len(self.scene)
        scene = operation(self.scene)
        operations = (*self.state.operations, operation)
        self._evaluated = [self._evaluated[0], *self._evaluated[1:][-3:], (operations, scene)]
        selection = self.state.selection.resized(len(scene))
        if isinstance(operation, Duplicate | Swap):
            selection = PackedMask.pack(torch.arange(len(scene)) >= before)
        elif isinstance(operation, Remove):
            selection = PackedMask.pack(selection.unpack(self._splats.device) & ~scene.removed)
        did = describe(operation) if did is None else did
        self._push(replace(self.state, operations=operations, selection=selection, did=did))

    def keep(self, name: str) -> str:
        """Keep the present selection under a name. An old one of that name is replaced. Returns the cleaned name.

        Raises:
            GsegError: a name that cannot be one, or nothing selected.
        """
        name = check_name(name)
        if name == CURRENT:
            raise GsegError(f"{CURRENT!r} is the name of the selection that is being made. Choose another.")
        if not self.selection.count:
            raise GsegError("Nothing is selected. Select something before you name it.")
        named = {**self.named, name: self.state.selection}
        self._push(replace(self.state, named=tuple(named.items()), did=f"keep the selection as “{name}”"))
        return name

    def recall(self, name: str, mode: Mode = "set") -> int:
        """Bring a named selection back. Returns the number of Gaussians selected now.

        Raises:
            GsegError: there is none of that name.
        """
        if name not in self.named:
            raise GsegError(f"There is no selection {name!r}. There are: {', '.join(self.named) or 'none'}.")
        mask = self.named[name].resized(len(self.scene)).unpack(self._splats.device)
        return self.select(mask, mode, f"bring back “{name}”")

    def forget(self, name: str) -> None:
        """Drop a named selection, if there is one of that name."""
        named = {key: mask for key, mask in self.named.items() if key != name}
        self._push(replace(self.state, named=tuple(named.items()), did=f"forget “{name}”"))

    def label(self, group: int, name: str, scale: float | None = None) -> None:
        """Name a group; an empty name takes the name away.

        Args:
            group: its id.
            name: see `check_name`.
            scale: at which the group has this id; None for methods without scales.

        Raises:
            GsegError: a name or a group that cannot be one.
        """
        check_group(group)
        labels = {key: value for key, value in self.state.labels if key != (group, scale)}
        if name.strip():
            labels[group, scale] = check_name(name)
        did = f"name group {group} “{name.strip()}”" if name.strip() else f"take the name of group {group} away"
        self._push(replace(self.state, labels=tuple(labels.items()), did=did))

    def set_metres(self, metres: float | None) -> None:
        """Say how long a unit of the scene is.

        Args:
            metres: per unit; None: not known.

        Raises:
            GsegError: no length.
        """
        self._push(replace(self.state, metres=None if metres is None else check_metres(metres), did="set the unit"))

    def undo(self) -> bool:
        """Take back the last change. Returns whether there was one."""
        return self.history.undo()

    def redo(self) -> bool:
        """Repeat what was undone. Returns whether there was something."""
        return self.history.redo()

    @property
    def undoes(self) -> str | None:
        """What `undo` would take back, in a few words; None: there is nothing."""
        return self.state.did if self.history.undo_steps else None

    @property
    def redoes(self) -> str | None:
        """What `redo` would repeat, in a few words; None: there is nothing."""
        upcoming = self.history.upcoming
        return None if upcoming is None else upcoming.did

    # ---- on disk

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write what there is beside a run's `config.yml`; see `Unsaved.write`."""
        return self.unsaved().write(folder)

    def unsaved(self) -> Unsaved:
        """What there is now, to be written later, from another thread if need be."""
        return Unsaved(self.state, self.fingerprint, self.scene.source[len(self._splats) :], self._known)

    def load(self, folder: Path) -> Loaded | None:
        """Read what `save` wrote, as one step that can be undone: each file for itself, as far as it can be read.

        Returns:
            What was read and what was not; None when there is nothing to read.
        """
        with suppress(GsegError):  # what cannot be put in place is read where it is
            settle(folder)
        selections, edits, names, units = (
            folder / name for name in (SELECTIONS_FILE, EDITS_FILE, GROUP_NAMES_FILE, UNITS_FILE)
        )
        files = {selections: "selections", edits: "edits", names: "names of groups", units: "the unit"}
        present = _present(files)
        if not present:
            return None
        read: list[Path] = []
        problems: list[str] = []

        @contextmanager
        def reading(path: Path) -> Iterator[None]:
            try:
                yield
            except GsegError as error:
                problems.append(str(error))
            else:
                read.append(path)
                self._known[path] = present[path][1]

        operations: tuple[Operation, ...] = ()
        scene = begin(self._splats)
        if edits in present:
            with reading(edits):
                listed = tuple(load_edits(edits, self.fingerprint))
                operations, scene = listed, evaluate(self._splats, listed)
        saved = SavedSelections({}, selections)
        if selections in present:
            with reading(selections):
                saved = load_selections(selections, self.fingerprint, scene.source[len(self._splats) :])
        labels: dict[GroupKey, str] = {}
        if names in present:
            with reading(names):
                labels = load_group_names(names, self.fingerprint)
        metres: float | None = None
        if units in present:
            with reading(units):
                metres = load_units(units)
        if _present(files) != present:  # another program has saved meanwhile: these may be parts of two saves
            return self.load(folder)
        left_out = tuple(name for name in saved.stale if name != CURRENT)
        if left_out:
            del self._known[selections]
        if read:
            masks = dict(saved)
            self._evaluated = [self._evaluated[0], (operations, scene)]
            current = masks.pop(CURRENT, PackedMask.empty(len(self._splats))).resized(len(scene))
            did = "bring back what was saved"
            self._push(State(current, operations, tuple(masks.items()), tuple(labels.items()), metres, did))
        return Loaded(tuple(name for path, name in files.items() if path in read), left_out, tuple(problems))

    def _push(self, state: State) -> None:
        if state != self.state:
            self.history.push(state)


def _present(files: Iterable[Path]) -> dict[Path, tuple[Path, tuple[int, int, int]]]:
    """Which of the files there are: where each lies now, and its stamp."""
    found = {}
    for file in files:
        with suppress(FileNotFoundError):
            where = newest(file)
            found[file] = where, _stamp(where)
    return found


def _stamp(path: Path) -> tuple[int, int, int]:
    """Differs from what it was when a file has been written again."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
