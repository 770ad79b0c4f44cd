"""`gseg edit`: change objects of a run without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gseg_ns.choices import EditKind
from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP

if TYPE_CHECKING:
    from gseg_ns.editing.operations import Edited, Operation
    from gseg_ns.runs.edited_run import EditedRun
    from gseg_ns.runs.run import Run
    from gseg_ns.selection.packed import PackedMask

TOLD = 0.01
"""Holes are told from this part on of the pixels that showed what is removed."""


GUESS = 0.005
"""Difference of mean cosines below which the next best word would do as well: CLIP's cosines of one mask with unlike
words differ by some hundredths."""


@dataclass
class Edit(Granular):
    """Add an edit to a run's list, apply the list, or name groups: the run itself is never changed.

    Edits are kept in edits.json beside config.yml, where the viewer finds them. `--output scene.ply` writes the edited
    scene; `gseg isolate --edits` makes a run of it.
    """

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a labelled PLY"""
    do: EditKind | None = None
    """What to do to the Gaussians that --groups and --selection name; nothing: use the list as it is"""
    groups: list[int] = field(default_factory=list)
    """Ids of groups"""
    selection: str | None = None
    """Name of a selection saved in the viewer"""
    color: tuple[float, float, float] = (0.9, 0.2, 0.2)
    """For recolor: red, green, blue in 0..1"""
    factor: float = 0.5
    """For opacity: multiplies it"""
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """For transform and duplicate: shift in scene units"""
    turn: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """For transform and duplicate: quaternion w x y z about the object's own centre"""
    size: float = 1.0
    """For transform and duplicate: factor about the object's own centre"""
    other: str | None = None
    """For swap, what takes the object's place: a saved selection, the path of a PLY, or an object of another run as
    CONFIG.yml#3 (a group) or CONFIG.yml#NAME (a selection or a named group)"""
    back: bool = False
    """For swap with a PLY that is this object, moved or changed in another program: it goes where that program put it.
    The object is known by the file's lines or its Gaussians where --groups is not given"""
    exported: Path | None = None
    """With --back, the PLY as it was exported, where the other program dropped the lines that say where it lay"""
    edits: Path | None = None
    """The edit list; edits.json beside config.yml unless given"""
    name_by: list[str] = field(default_factory=list)
    """Words, such as mug "table lamp" floor: groups without a name are called what their masks look most like of them
    (needs the extra `text`). The names are shown, and kept beside config.yml as those that people give"""
    clip: str = CLIP
    """CLIP model for --name-by: a name or a folder"""
    undo: int = 0
    """Drop this many edits from the end of the list first"""
    output: Path | None = None
    """Write the edited scene as a 3DGS PLY"""
    overwrite: bool = False
    """Replace the file that --output names"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Edit."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.editing.edit_list import EDITS_FILE, describe, load_edits, save_edits
        from gseg_ns.editing.operations import bake
        from gseg_ns.folders import newest
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.runs.run import load_run
        from gseg_ns.selection.store import Fingerprint
        from gseg_ns.splats.ply import write_ply

        if self.output is not None and self.output.exists() and not self.overwrite:
            raise GsegError(f"{self.output} is there already: name another file or add --overwrite")
        if self.back and (self.do != "swap" or not (self.other or "").endswith(".ply")):
            raise GsegError("--back goes with --do swap and --other FILE.ply, the object as it came back")
        run = load_run(self.load_config, allow_unfinished=self.allow_unfinished)
        scale = self.granularity(run)
        splats = run.model.splats()
        fingerprint = Fingerprint.of(splats.means)
        path = self.edits or run.folder / EDITS_FILE
        needed = self.edits is not None and self.do is None  # else a list may begin here
        operations = load_edits(path, fingerprint) if needed or newest(path).exists() else []
        if self.undo > len(operations):
            raise GsegError(f"{path} has {len(operations)} edits, so --undo {self.undo} is too many")
        operations = operations[: len(operations) - self.undo]
        if self.do is not None:
            edited = EditedRun(run, operations, scale)
            added = self._taken_back(edited) if self.back else [self._operation(edited, path.parent)]
            scene = edited.scene
            for operation in added:
                scene = operation(scene)  # an edit that cannot be applied is not saved
            operations += added
        if self.do is not None or self.undo:
            save_edits(path, operations, fingerprint)
        if self.do is not None:
            self._tell_holes(run, edited.scene, scene)  # of what is saved: views may not be there to be asked
        if self.name_by:
            self._name_groups(EditedRun(run, (), scale))
        for number, operation in enumerate(operations, start=1):
            CONSOLE.print(f"{number:3d}  {describe(operation)}")
        if self.output is not None:
            baked = bake(splats, operations)
            write_ply(self.output, baked.to("cpu"), comments=EditedRun(run, (), self.scale).header.comments())
            CONSOLE.print(f"Wrote {len(baked)} Gaussians to {self.output}")

    def _name_groups(self, edited: EditedRun) -> None:
        """Call groups without a name what their masks look most like of `--name-by`."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.lifting.naming import numbered
        from gseg_ns.runs.text_search import TextSearch
        from gseg_ns.selection.store import GROUP_NAMES_FILE, load_group_names, save_group_names

        run = edited.run
        run.require_scene()
        proposed = TextSearch(run.model, run.datamanager, run.folder).propose(self.name_by, self.clip)
        sizes = {group: count for group, count in enumerate(edited.groups.bincount().tolist()) if count and group}
        free = {group: name for group, name in proposed.items() if group in sizes and group not in edited.names}
        names = numbered({group: name.word for group, name in free.items()}, sizes, set(edited.names.values()))
        path = run.folder / GROUP_NAMES_FILE
        known = load_group_names(path, edited.fingerprint)
        added = {(group, edited.scale): name for group, name in names.items()}
        if added:
            save_group_names(path, {**known, **added}, edited.fingerprint)
        for group in sorted(names, key=lambda group: -sizes[group]):
            sure = "a guess" if free[group].margin < GUESS else f"{free[group].margin:.3f} ahead of the next word"
            CONSOLE.print(f"group {group}: {names[group]} ({sure})", markup=False)
        CONSOLE.print(f"Named {len(names)} of {len(sizes)} groups; {len(sizes.keys() & edited.names.keys())} had names")

    def _tell_holes(self, run: Run, before: Edited, after: Edited) -> None:
        """Say what is not behind an object that is removed."""
        from rich.markup import escape

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.holes import find_holes

        if self.do != "remove":
            return
        try:
            holes = find_holes(run, before, after.removed & ~before.removed)
        except GsegError as error:
            CONSOLE.print(f"[yellow]Whether it leaves holes is not known: {escape(str(error))}")
            return
        if holes is not None and holes.part >= TOLD:
            CONSOLE.print(
                f"[yellow]It leaves holes: {holes.part:.0%} of the pixels that showed it in {holes.views} training "
                "views show next to nothing without it, since no photograph shows what is behind."
            )

    def _operation(self, edited: EditedRun, folder: Path) -> Operation:
        from gseg_ns.editing import operations as kinds
        from gseg_ns.selection.packed import PackedMask

        if self.do == "show-all":
            return kinds.ShowAll()
        rows = edited.rows(self.groups, self.selection)
        if not bool(rows.any()):
            raise GsegError("There is nothing to edit: name Gaussians with --groups or --selection")
        mask = PackedMask.pack(rows)
        if self.do == "recolor":
            return kinds.Recolor(mask, self.color)
        if self.do == "opacity":
            return kinds.SetOpacity(mask, self.factor)
        if self.do == "transform":
            return kinds.Transform(mask, self.turn, self.move, self.size)
        if self.do == "duplicate":
            return kinds.Duplicate(mask, self.move, self.turn, self.size)
        if self.do == "swap":
            return kinds.Swap(mask, self._newcomer(edited, folder))
        if self.do == "remove":
            return kinds.Remove(mask)
        if self.do == "show":
            return kinds.Show(mask)
        return kinds.Hide(mask) if self.do == "hide" else kinds.Isolate(mask)

    def _taken_back(self, edited: EditedRun) -> list[Operation]:
        """The edits that move an object to where a file has it."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.editing.returning import from_file, moves, recognise, told
        from gseg_ns.splats.placement import Placement
        from gseg_ns.splats.ply import read_ply
        from gseg_ns.splats.ply_header import read_header

        path = Path(self.other or "").expanduser().absolute()
        file, header = read_ply(path, drop_invalid=True), read_header(path)
        if len(file) == 0:
            raise GsegError(f"{path} has no Gaussian that can be drawn.")
        if header.placement is None and self.exported is not None:
            header = read_header(self.exported)
        if header.run and header.run != edited.fingerprint.digest:
            raise GsegError(f"{path} is an object of another run.")
        frame = header.placement or Placement()
        file = from_file(Placement(), frame, file)
        if len(self.groups) > 1 or self.selection is not None:
            raise GsegError("--back takes one object: name it with --groups N, or leave that to the file")
        # What edits removed is no longer an object, nor is what they brought.
        groups = edited.groups.masked_fill(edited.scene.removed, 0)
        back = recognise(edited.scene.splats, groups, file, header, self.groups[0] if self.groups else None)
        CONSOLE.print(told(back))
        return moves(back, file, str(path), frame, edited.scene)

    def _newcomer(self, edited: EditedRun, folder: Path) -> PackedMask | str:
        """What `Swap` takes for --other; what has to be kept for it is kept beside the list, in `folder`."""
        from gseg_ns.runs.edited_run import is_run, take_object

        if not self.other:
            raise GsegError(
                "Name what takes the object's place: --other SELECTION, --other FILE.ply, or --other CONFIG.yml#OBJECT"
            )
        if is_run(self.other):
            return str(take_object(self.other, folder))
        if self.other.endswith(".ply"):
            return str(Path(self.other).expanduser().absolute())
        return edited.selections.take(self.other)
