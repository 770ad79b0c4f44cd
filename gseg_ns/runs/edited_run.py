"""A run with edits applied, and what names mean in it: groups, their names, saved selections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gseg_ns.editing.edit_list import EDITS_FILE, load_edits
from gseg_ns.editing.operations import Operation, evaluate
from gseg_ns.errors import GsegError
from gseg_ns.files import slug
from gseg_ns.folders import newest
from gseg_ns.models.base import SegmentationModel
from gseg_ns.objects.fringes import Alone
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.runs.result_folder import SUFFIX
from gseg_ns.runs.run import Run, load_run
from gseg_ns.selection.store import (
    GROUP_NAMES_FILE,
    SELECTIONS_FILE,
    UNITS_FILE,
    Fingerprint,
    SavedSelections,
    load_group_names,
    load_selections,
    load_units,
    names_at,
)
from gseg_ns.splats import Placement
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.ply_header import PlyHeader

SWAPPED = "swapped"
"""Folder beside a list of edits with the objects that were taken from other runs."""


MOSTLY = 0.5
"""A group is taken out of a scene if more than this part of it is."""


class EditedRun:
    """A run's Gaussians after a list of edits: M rows, the run's N and then the copies that edits appended.

    Copies belong to the group of what they are copies of. A saved selection is exactly the rows that it was made of.
    """

    alone: Alone
    """The rows of the scene as objects have them on their own; other than there once `clean_borders` was called."""

    def __init__(
        self, run: Run, operations: Sequence[Operation] | Path | None = None, scale: float | None = None
    ) -> None:
        """Apply the edits.

        Args:
            run: see `load_run`.
            operations: the edits, or the file that lists them; None for none.
            scale: in [0, 1], at which groups are meant, for methods that have scales; the method's default unless
                given.

        Raises:
            GsegError: the edits cannot be read, or are those of another run.
        """
        model = run.model
        self.run = run
        self.splats = model.splats()
        self.fingerprint = Fingerprint.of(self.splats.means)
        if isinstance(operations, Path):
            operations = load_edits(operations, self.fingerprint)
        self._operations = operations or ()
        self.scene = evaluate(self.splats, self._operations)
        self.alone = Alone.of(self.scene.splats)
        self.scale: float | None = None
        if model.has_scales:
            self.scale = round(model.default_scale if scale is None else scale, 4)

    @property
    def folder(self) -> Path:
        """Where the run's `config.yml` is, and what was saved with it."""
        return self.run.folder

    @cached_property
    def groups(self) -> Tensor:
        """The group of each row: int64 [M], 0 for none and for what came from elsewhere."""
        groups = self.run.model.gaussian_groups(self.scale).to(self.scene.source.device)
        return torch.where(self.scene.source >= 0, groups[self.scene.source.clamp_min(0)], 0)

    def clean_borders(
        self,
        rows: Tensor,
        track: Callable[[list[int], str], Iterable[int]] = lambda ids, _: ids,
        among: Collection[int] | None = None,
    ) -> int:
        """Let objects end where the training views show that they do (see `gseg_ns.objects.fringes`).

        `alone` then has what objects look like on their own: the rows of `scene`, fitted before the edits were
        applied. `scene` stays as it is.

        Args:
            rows: bool [M], what is taken out of the scene: groups that are mostly in it are fitted.
            track: wraps a list while it is worked through, for a progress bar, with what is done.
            among: the groups that are wanted, of these; all unless given.

        Returns:
            How many groups.

        Raises:
            GsegError: there are no views to ask, or no group is to be fitted.
        """
        from gseg_ns.runs.fringes import after_edits, clean_groups

        self.run.require_scene()
        there = torch.where(self.scene.removed, 0, self.groups)
        taken = torch.bincount(there[rows], minlength=int(there.max()) + 1)
        mostly = torch.nonzero(taken > MOSTLY * torch.bincount(there))[:, 0].tolist()
        wanted = [name for name in mostly if name > 0 and (among is None or name in among)]
        if not wanted:
            raise GsegError(
                "There are no borders to clean: what is taken is not most of any object that gets a file. Take whole "
                "groups, or leave out --clean-borders"
            )
        cleaned, names = clean_groups(self.run, self.scale, wanted, track)
        self.alone = after_edits(cleaned, self._operations, self.splats)
        return len(names)

    @cached_property
    def names(self) -> dict[int, str]:
        """What groups were called in the viewer, and the others by the words of their masks.

        Raises:
            GsegError: the file cannot be read, or is that of another run.
        """
        given = names_at(load_group_names(self.folder / GROUP_NAMES_FILE, self.fingerprint), self.scale)
        return {**self.run.model.group_names(self.scale), **given}

    @cached_property
    def meters_per_unit(self) -> float | None:
        """Length of a unit of the run in metres, where one was measured and saved with the run.

        Raises:
            GsegError: the file cannot be read.
        """
        return load_units(self.folder / UNITS_FILE)

    @property
    def header(self) -> PlyHeader:
        """What a PLY says of Gaussians that lie where the run has them."""
        return PlyHeader(Placement(meters_per_unit=self.meters_per_unit), self.fingerprint.digest)

    @cached_property
    def selections(self) -> SavedSelections:
        """The selections saved with the run.

        Raises:
            GsegError: the file cannot be read, or is that of another run.
        """
        file = self.folder / SELECTIONS_FILE
        if not file.exists():
            return SavedSelections({}, file)
        return load_selections(file, self.fingerprint, self.scene.source[len(self.splats) :])

    def rows(self, groups: Sequence[int] = (), selection: str | None = None) -> Tensor:
        """The rows of groups and of a saved selection, together: bool [M]. What edits removed is in none of them.

        Raises:
            GsegError: a group or a selection that the run does not have.
        """
        chosen = torch.zeros_like(self.scene.removed)
        if groups:
            missing = sorted({group for group in groups if group <= 0} | set(groups) - set(self.groups.tolist()))
            if missing:
                raise GsegError(
                    f"The run has no group {', '.join(map(str, missing))}. `gseg info {self.run.source}` lists them"
                )
            chosen |= torch.isin(self.groups, torch.tensor(list(groups), device=chosen.device))
        if selection is not None:
            chosen |= self.selections.take(selection).resized(len(self.scene)).unpack(chosen.device)
        return chosen & ~self.scene.removed

    def model(self, rows: Tensor | None = None) -> SegmentationModel:
        """The run's model with some rows and nothing else: bool [M], what is drawn unless given."""
        model, drawn = self.run.model, self.scene.drawn if rows is None else rows
        if len(self.scene) == len(self.splats) and bool(drawn.all()) and self.scene.splats is self.splats:
            return model
        _ = self.groups  # what a method makes of all its Gaussians (clusters), it must not make of a part of them
        return with_gaussians(model, self.scene.splats.subset(drawn), self.scene.source[drawn])

    def object(self, name: str) -> Tensor:
        """The rows of what a user calls `name`: bool [M].

        Args:
            name: the number of a group, a saved selection, or what a group was called in the viewer.

        Raises:
            GsegError: there is nothing of that name, or edits removed all of it.
        """
        if name.isdecimal():
            rows = self.rows(groups=[int(name)])
        elif name in self.selections or name in self.selections.stale:
            rows = self.rows(selection=name)
        else:
            named = [group for group, label in self.names.items() if label == name]
            if not named:
                known = ", ".join([*self.selections, *self.names.values()])
                raise GsegError(
                    f"{self.run.source} has no object {name!r}: give the number of a group, or one of its "
                    f"selections and named groups ({known or 'there are none'})."
                )
            rows = self.rows(groups=named)
        if not bool(rows.any()):
            raise GsegError(f"Nothing is left of {name!r} in {self.run.source}: its edits removed it.")
        return rows


def saved_edits(run: Run) -> Path | None:
    """The list of edits that the viewer saved with a run, if there is one."""
    file = run.folder / EDITS_FILE
    return file if newest(file).exists() else None


def take_object(source: str, folder: Path) -> Path:
    """Take an object out of another run, with that run's saved edits, and keep it as a PLY.

    It is kept because a list of edits is replayed at every start, and loading a run each time would take seconds.

    Args:
        source: `CONFIG.yml#OBJECT`, the object as `EditedRun.object` takes it.
        folder: where the list of edits is; the PLY is written to `SWAPPED` in it.

    Returns:
        The PLY, whose name changes with its content.

    Raises:
        GsegError: no object is named, the run cannot be loaded, or has no such object.
    """
    config, _, name = source.partition("#")
    if not name.strip():
        raise GsegError(
            f"Say which object of {config}: {config}#3 for a group, {config}#mug for a selection or a named group."
        )
    # A checkpoint brings the state of chance with it, and the caller may be in training.
    with torch.random.fork_rng(devices=[]):
        run = load_run(Path(config).expanduser())
    edited = EditedRun(run, saved_edits(run))
    splats = edited.scene.splats.subset(edited.object(name.strip())).to("cpu")
    about = slug(f"{run.config.experiment_name} {name}")
    path = folder / SWAPPED / f"{about}-{splats.digest(4)}.ply"
    write_ply(path, splats)
    return path.absolute()


def is_run(source: str) -> bool:
    """Whether the source of an object names a run and not a PLY or a saved selection."""
    path, hash_, _ = source.partition("#")
    return path.endswith((".yml", ".yaml", SUFFIX)) or bool(hash_ and path.endswith(".ply"))
