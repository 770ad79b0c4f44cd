"""`gseg edit`: change objects of a run without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from gseg_ns.editing.operations import Operation
    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.selection.store import Fingerprint

Kind = Literal["recolour", "opacity", "transform", "duplicate", "swap", "remove", "hide", "isolate", "show-all"]


@dataclass
class Edit:
    """Add an edit to a run's list, or apply the list: the run itself is never changed.

    Edits are kept in edits.json beside config.yml, where the viewer finds them. `--output scene.ply` writes the edited
    scene; `gseg isolate --edits` makes a run of it.
    """

    load_config: Path
    """config.yml of the run"""
    do: Kind | None = None
    """What to do to the Gaussians that --groups and --selection name; nothing: use the list as it is"""
    groups: list[int] = field(default_factory=list)
    """Ids of groups"""
    selection: str | None = None
    """Name of a selection saved in the viewer"""
    scale: float | None = None
    """Granularity in [0, 1] at which the groups are meant, for methods that have scales"""
    colour: tuple[float, float, float] = (0.9, 0.2, 0.2)
    """For recolour: red, green, blue in 0..1"""
    factor: float = 0.5
    """For opacity: multiplies it"""
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """For transform and duplicate: shift in scene units"""
    turn: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """For transform and duplicate: quaternion w x y z about the object's own centre"""
    size: float = 1.0
    """For transform and duplicate: factor about the object's own centre"""
    other: str | None = None
    """For swap: a saved selection or the path of a PLY that takes the object's place"""
    edits: Path | None = None
    """The edit list; edits.json beside config.yml unless given"""
    undo: int = 0
    """Drop this many edits from the end of the list first"""
    output: Path | None = None
    """Write the edited scene as a 3DGS PLY"""
    overwrite: bool = False
    """Replace the file that --output names"""

    def main(self) -> None:
        """Edit."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.editing.edit_list import EDITS_FILE, describe, load_edits, save_edits
        from gseg_ns.editing.operations import bake, evaluate
        from gseg_ns.models.runs import load_run
        from gseg_ns.selection.store import Fingerprint
        from gseg_ns.splats.ply import write_ply

        if self.output is not None and self.output.exists() and not self.overwrite:
            raise GsegError(f"{self.output} is there already: name another file or add --overwrite")
        run = load_run(self.load_config)
        splats = run.model.splats()
        fingerprint = Fingerprint.of(splats.means)
        path = self.edits or self.load_config.parent / EDITS_FILE
        operations = load_edits(path, fingerprint) if path.exists() else []
        if self.undo > len(operations):
            raise GsegError(f"{path} has {len(operations)} edits, so --undo {self.undo} is too many")
        operations = operations[: len(operations) - self.undo]
        if self.do is not None:
            operations.append(self._operation(run.model, fingerprint))
            evaluate(splats, operations)  # an edit that cannot be applied is not saved
        if self.do is not None or self.undo:
            save_edits(path, operations, fingerprint)
        for number, operation in enumerate(operations, start=1):
            CONSOLE.print(f"{number:3d}  {describe(operation)}")
        if self.output is not None:
            edited = bake(splats, operations)
            write_ply(self.output, edited.to("cpu"))
            CONSOLE.print(f"Wrote {len(edited)} Gaussians to {self.output}")

    def _operation(self, model: SegmentationModel, fingerprint: Fingerprint) -> Operation:
        from gseg_ns.editing import operations as kinds
        from gseg_ns.selection.packed import PackedMask
        from gseg_ns.selection.selection import Selection
        from gseg_ns.selection.store import SELECTIONS_FILE, load_selections

        if self.do == "show-all":
            return kinds.ShowAll()
        file = self.load_config.parent / SELECTIONS_FILE
        saved = load_selections(file, fingerprint) if file.exists() else {}
        chosen = Selection.none(fingerprint.count)
        if self.groups:
            chosen = Selection.from_groups(model.gaussian_groups(self.scale).cpu(), self.groups)
        if self.selection is not None:
            if self.selection not in saved:
                raise GsegError(f"{file} has no selection {self.selection!r}. It has: {', '.join(saved) or 'none'}")
            chosen = chosen.add(saved[self.selection].unpack())
        if not chosen.count:
            raise GsegError("There is nothing to edit: name Gaussians with --groups or --selection")
        mask = chosen.pack()
        if self.do == "recolour":
            return kinds.Recolour(mask, self.colour)
        if self.do == "opacity":
            return kinds.SetOpacity(mask, self.factor)
        if self.do == "transform":
            return kinds.Transform(mask, self.turn, self.move, self.size)
        if self.do == "duplicate":
            return kinds.Duplicate(mask, self.move, self.turn, self.size)
        if self.do == "swap":
            if not self.other:
                raise GsegError("Name what takes the object's place: --other SELECTION or --other FILE.ply")
            other: PackedMask | str = saved.get(self.other) or str(Path(self.other).absolute())
            return kinds.Swap(mask, other)
        if self.do == "remove":
            return kinds.Remove(mask)
        return kinds.Hide(mask) if self.do == "hide" else kinds.Isolate(mask)
