"""`gseg segment`: from a bare splat, a scene or a run to named objects, in one command."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from gseg_ns.cli.options import WithSources
from gseg_ns.errors import GsegError
from gseg_ns.masks.sources.base import is_in_sequence
from gseg_ns.masks.sources.classical import ClassicalConfig
from gseg_ns.masks.sources.entity import EntityConfig
from gseg_ns.masks.sources.registry import SOURCES, WORDED

if TYPE_CHECKING:
    from gseg_ns.masks.sources.base import SourceConfig
    from gseg_ns.objects import ObjectRecord
    from gseg_ns.runs.packing import Packed
    from gseg_ns.runs.run import Run
    from gseg_ns.splats import Splats

_MASKS = Path("masks")


@dataclass(frozen=True)
class _Input:
    """What is segmented."""

    name: str
    """What results are called."""
    geometry: Path
    """A splat, or a run."""
    scene: Path | None
    """Its photographs; None: there are none, and views are made."""
    in_capture: bool
    """Whether the splat lies in the coordinates of the scene's own poses."""


@dataclass
class Segment(WithSources):
    """Find the objects of a splat: views where there are no photographs, masks, labels, names; all in one command.

    Writes a folder NAME.gseg that stands alone, and a PLY of each object, and prints a table of them. Without words
    everything is divided into objects; with words, the objects that they name. What is done already is not done again
    when the same command is started once more.
    """

    what: tyro.conf.Positional[Path]
    """A splat (3DGS PLY or SPZ), a folder NAME.gseg, a run (its config.yml or folder), or a scene with --splat"""
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What to find, such as: mug "red chair". Masks have to say what they show: those given with --masks, or of a
    source that takes words"""
    output_dir: Path | None = None
    """Where to: NAME.gseg, objects/, and what led to them; NAME-objects unless given"""
    splat: Path | None = None
    """The splat of a scene that is given: a PLY, an SPZ file or a run"""
    splat_frame: Literal["nerfstudio", "original"] = "original"
    """Coordinates of a splat whose scene is given: those of the scene's own poses, or Nerfstudio's normalised ones (as
    ns-export writes)"""
    scene: Path | None = None
    """The photographs of a splat that is given: a Nerfstudio or COLMAP folder in the splat's coordinates"""
    masks: Path | None = None
    """Masks that are there already: a folder, relative to the scene. Else those in its folder `masks`, else they are
    made"""
    association: Literal["auto", "consensus", "memory-bank", "tree", "given", "tracks"] = "auto"
    """How masks of different views find together, see `gseg lift`; auto: tracks of masks that `gseg masks` or this made
    with a video source, else consensus, and no tree, which `gseg lift` may grow: tree asks for one"""
    views: int = 32
    """Pictures to take of a bare splat"""
    width: int = 512
    """Their width in pixels; they are three quarters as high"""
    up: tuple[float, float, float] | None = None
    """Which way is up in a bare splat: three numbers; estimated unless given"""
    kind: Literal["auto", "room", "ground", "object", "focus"] = "auto"
    """What a bare splat is: rooms, to be seen from within; things on open ground; one thing; what photographs were
    taken of, amid what they show by the way (focus)"""
    min_gaussians: int = 20
    """Groups with fewer Gaussians get no file of their own"""
    overwrite: bool = False
    """Replace a result that is there, and views that were made with other options"""
    classical: ClassicalConfig = field(default_factory=lambda: ClassicalConfig(work_side=384), kw_only=True)
    """Options of the source without weights; on pictures of splats, which are soft, few pixels tell as much"""

    def main(self) -> None:
        """Segment, print the table, and say where things are."""
        from time import perf_counter

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cli.info import object_table
        from gseg_ns.runs.packing import pack_run
        from gseg_ns.runs.result_folder import SUFFIX
        from gseg_ns.runs.run import load_run
        from gseg_ns.terminal import duration, say, track

        started = perf_counter()
        given = self._input()
        folder = self.output_dir or Path(f"{given.name}-objects")
        result = folder / f"{given.name}{SUFFIX}"
        if result.exists() and not self.overwrite:
            raise GsegError(f"{result} is there already: name another --output-dir or add --overwrite")
        bare = given.scene is None
        unused = [
            f"--{name}" for name in ("views", "width", "up", "kind") if getattr(self, name) != getattr(Segment, name)
        ]
        if not bare and unused:
            raise GsegError(f"{', '.join(unused)}: {given.scene} has its photographs, of which this changes nothing")
        if self.masks is None and (bare or self.asked() is not None):
            self.chosen_source()  # what cannot be answered is told before pictures are taken
        if bare:
            given = replace(given, geometry=_as_file(given.geometry, folder / "splat.ply"))
        scene = self._views(given.geometry, folder / "views") if given.scene is None else given.scene
        masks = self._masks(scene, bare)
        config = self._lift(given, scene, masks, folder / "lift", bare)
        run = load_run(config)
        groups = self._wanted(run)
        if groups is not None:
            _keep_only(run, groups)
        say("Describing the objects.")
        packed = pack_run(run, result, None, True, {"words": list(self.words)}, lambda ids: track(ids, "Asking views"))
        records = packed.records
        if not records:
            raise GsegError(f"No object was found; {result} is there all the same")
        self._write_objects(run, packed, folder / "objects")
        CONSOLE.print(object_table(records), soft_wrap=False)
        CONSOLE.print(
            f"{_counted(records, self.words)} in {duration(perf_counter() - started)}.\n  {result}\n"
            f"  {folder / 'objects'}\n  gseg view {result}",
            markup=False,
            highlight=False,
        )

    # ---------------------------------------------------------------------------------------------- what is given

    def _input(self) -> _Input:
        """What the path is.

        Raises:
            GsegError: it is nothing that can be segmented, or options contradict it.
        """
        from gseg_ns.files import slug
        from gseg_ns.models.trained_geometry import is_splat_file
        from gseg_ns.runs.result_folder import FRAME, MANIFEST, SPLATS, is_result
        from gseg_ns.runs.scene import is_scene

        path = self.what
        if not path.exists():
            raise GsegError(f"{path} does not exist: give a splat (PLY or SPZ), a scene with --splat, or a run")
        if path.name == MANIFEST and is_result(path):
            path = path.parent
        name = slug(path.stem if path.is_file() else path.resolve().name.removesuffix(path.suffix)) or "splat"
        is_run = path.suffix.lower() in (".yml", ".yaml") or (path.is_dir() and (path / "config.yml").is_file())
        if is_run:
            return self._of_run(path / "config.yml" if path.is_dir() else path)
        if is_result(path) or is_splat_file(path):
            if self.splat is not None:
                raise GsegError(f"{path} is a splat itself: leave --splat out")
            original = self.splat_frame == "original"
            if is_result(path):
                # What was packed from a run lies where the run does.
                return _Input(name, path / SPLATS, self.scene, original and not (path / FRAME).is_file())
            return _Input(name, path, self.scene, original)
        if path.is_dir() and is_scene(path):
            if self.splat is None:
                raise GsegError(
                    f"{path} is a scene: name the splat that was trained on it with --splat (a PLY, an SPZ file or a "
                    f"run), or train one: ns-train gaga --data {path}"
                )
            return _Input(name, self.splat, path, self.splat_frame == "original")
        raise GsegError(f"{path} is no splat (PLY or SPZ), no run, no .gseg folder and no scene")

    def _of_run(self, config_path: Path) -> _Input:
        from gseg_ns.data.said_scene import said_scene
        from gseg_ns.files import slug
        from gseg_ns.runs.safe_config import read_config
        from gseg_ns.runs.scene import find_scene

        config = read_config(config_path)
        scene = find_scene(config_path, said_scene(config), self.scene)
        return _Input(slug(config.experiment_name or config_path.parent.name) or "run", config_path, scene, False)

    # -------------------------------------------------------------------------------------------------- the steps

    def _views(self, geometry: Path, folder: Path) -> Path:
        """Take pictures of a bare splat, unless those are there that would be taken."""
        from gseg_ns import gpu
        from gseg_ns.cli.views import chosen_views
        from gseg_ns.models.trained_geometry import load_geometry
        from gseg_ns.reading import read_json
        from gseg_ns.terminal import say, track
        from gseg_ns.views import ViewOptions, write_views
        from gseg_ns.views.folder import ABOUT

        splats: Splats = load_geometry(geometry, "nerfstudio", {})
        asked = {
            "of": splats.digest(), "views": self.views, "width": self.width,
            "up": None if self.up is None else list(self.up), "kind": self.kind,
        }  # fmt: skip
        if (folder / ABOUT).is_file():
            if read_json(folder / ABOUT, "what views were made of").get("asked") == asked:
                say(f"Views are there: {folder}")
                return folder
            if not self.overwrite:
                raise GsegError(
                    f"{folder} has views of another splat or with other options: name another --output-dir, or add "
                    "--overwrite"
                )
        options = ViewOptions(
            self.views, self.width, self.width * 3 // 4, up=self.up, kind=None if self.kind == "auto" else self.kind
        )

        plan = chosen_views(splats.to(gpu.best_device()), options)
        say(f"No photographs: {len(plan.cameras)} pictures are taken of {len(splats)} Gaussians ({plan.kind}).")
        for stale in folder.glob("masks*"):  # of other pictures
            shutil.rmtree(stale)
        write_views(
            folder,
            splats.to(gpu.best_device()),
            plan.cameras,
            {"splat": geometry.name, "kind": plan.kind, "up": list(plan.up), "asked": asked},
            background=1.0 if plan.kind == "object" else 0.0,
            near=plan.near,
            overwrite=True,
            progress=track(range(len(plan.cameras)), "Taking pictures"),
        )
        return folder

    def _masks(self, scene: Path, bare: bool) -> Path:
        """The folder of masks, relative to the scene; they are made where there are none."""
        from gseg_ns.files import slug
        from gseg_ns.masks import MaskFolder
        from gseg_ns.masks import generate as generating
        from gseg_ns.masks.images import in_path_order, scene_images
        from gseg_ns.terminal import say, track

        root = scene if scene.is_dir() else scene.parent
        if self.masks is not None:
            if not (root / self.masks).exists():
                raise GsegError(f"The masks {root / self.masks} do not exist")
            return self.masks.absolute() if (not (root / self.masks).is_relative_to(root)) else self.masks
        images = scene_images(scene)
        there = not bare and (root / _MASKS).is_dir()
        if there and self.asked() is None:
            files = MaskFolder(root / _MASKS).match([image.path for image in images])
            if (root / _MASKS / generating.SETTINGS_FILE).exists() and None in files:
                raise GsegError(
                    f"{root / _MASKS} has no masks of {files.count(None)} of {len(images)} photographs: run its "
                    "`gseg masks` again to its end, or name a source or other masks (--source, --masks)"
                )
            say(f"Masks are there: {root / _MASKS}")
            return _MASKS
        config = self.chosen_source()
        name = Path(f"masks-{slug(' '.join(self.words))[:40]}") if self.words else _MASKS
        if there:
            name = Path(f"{name}-{config.name}")
        output = root / name
        if isinstance(config, EntityConfig):
            config = config.placed_on(images, say)
        if config.name == "classical":
            say("Masks without weights (classical): good enough to try things out, no substitute for SAM.")
        job = generating.Job(config, output, device=self.device)
        generating.prepare(job, images, overwrite=self.overwrite and (bare or name != _MASKS))
        generating.sweep(job, images)
        todo = [image for image in images if generating.finished(job, image) is None]
        if todo and is_in_sequence(config):  # all or nothing
            todo = in_path_order(scene, images)
        failed = [
            result for result in track(generating.run(job, todo), "Making masks", len(todo)) if result.error is not None
        ]
        if failed:
            raise GsegError(
                f"{len(failed)} of {len(images)} pictures have no masks, {failed[0].image.name}: {failed[0].error}"
            )
        return name

    def chosen_source(self) -> SourceConfig:
        """The source that `--source` names, or that the other options speak for.

        Raises:
            GsegError: options of several are given, or words where masks cannot say any.
        """
        name = self.asked() or "classical"
        config: Any = self.configs()[name]
        if name in WORDED:
            return replace(config, words=self.words or config.words)
        if self.words:
            raise GsegError(
                f"Masks of {name} do not say what they show, so that {self.words[0]!r} cannot be found among them: "
                f"take --source {' or '.join(WORDED)}, give masks with words (--masks DIR, of Grounded-SAM-2, LabelMe, "
                "CVAT or another tool), or leave the words out and look at the table"
            )
        return config

    def _lift(self, given: _Input, scene: Path, masks: Path, output: Path, bare: bool) -> Path:
        """Label the splat. Returns the config.yml of the run that this makes."""
        from gseg_ns.masks.generate import recorded_source
        from gseg_ns.method_configs.gaga import gaga
        from gseg_ns.runs.lifted import lift_run

        config = copy.deepcopy(gaga.config)
        config.data, config.output_dir, config.experiment_name = scene, output, given.name
        datamanager: Any = config.pipeline.datamanager
        model: Any = config.pipeline.model
        datamanager.masks_dir = masks
        if not given.in_capture and not bare:
            model.geometry_frame = "nerfstudio"
        else:
            # The result lies where the splat does.
            datamanager.dataparser = replace(
                datamanager.dataparser, orientation_method="none", center_method="none", auto_scale_poses=False
            )
            model.geometry_frame = "nerfstudio" if bare else "original"
        model.geometry = given.geometry
        root = scene if scene.is_dir() else scene.parent
        follows = is_in_sequence(SOURCES.get(recorded_source(root / masks)))
        model.association = self.association if self.association != "auto" else "tracks" if follows else "consensus"
        # On pictures of the splat itself there is next to nothing to fit, and it takes as long as all the rest.
        model.use_strengths = not bare
        return lift_run(config).config_path

    def _write_objects(self, run: Run, packed: Packed, folder: Path) -> None:
        """A PLY an object, without what floats, and one of everything."""
        import torch

        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.splats.objects import write_objects
        from gseg_ns.terminal import track

        model, edited = run.model, EditedRun(run)
        splats = model.splats().to("cpu")
        rows = splats.exportable()
        groups = torch.where(packed.floating, 0, model.gaussian_groups().cpu())
        write_objects(
            folder,
            splats.subset(rows),
            groups[rows],
            "ply",
            self.min_gaussians,
            edited.names,
            track=lambda ids: track(ids, "Writing objects"),
            run=edited.fingerprint.digest,
            details={record.id: record.as_dict() for record in packed.records},
        )

    def _wanted(self, run: Run) -> list[int] | None:
        """The groups that the words mean; None where there are no words.

        Raises:
            GsegError: no group is called so.
        """
        from gseg_ns.masks.words import clean_word

        if not self.words:
            return None
        known = getattr(run.model, "group_words", {})
        asked = {clean_word(word).casefold(): word for word in self.words}
        found = [group for group, (word, _) in sorted(known.items()) if word.casefold() in asked]
        called = {known[group][0].casefold() for group in found}
        lacking = [word for key, word in asked.items() if key not in called]
        if not found:
            names = ", ".join(sorted({word for word, _ in known.values()})) or "none: its masks have no words"
            raise GsegError(f"Nothing is called {' or '.join(map(repr, self.words))}. What masks call objects: {names}")
        if lacking:
            from gseg_ns.terminal import warn

            warn(f"Nothing is called {' or '.join(map(repr, lacking))}.")
        return found


def _as_file(geometry: Path, path: Path) -> Path:
    """A splat as a file: what is a run is written, in its own coordinates, for it has no scene to be placed in."""
    from gseg_ns.models.trained_geometry import is_splat_file, load_geometry
    from gseg_ns.splats.ply import write_ply

    if is_splat_file(geometry):
        return geometry
    write_ply(path, load_geometry(geometry, "nerfstudio", {}))
    return path


def _keep_only(run: Run, groups: Sequence[int]) -> None:
    """Leave the Gaussians of other groups without one."""
    import torch

    from gseg_ns.models.gaga import GagaModel

    model = run.model
    assert isinstance(model, GagaModel)
    labels = model.gaussian_groups()
    kept = torch.isin(labels, torch.tensor(list(groups), device=labels.device))
    model.take_labels(torch.where(kept, labels, 0), model.group_confidence())


def _counted(records: Sequence[ObjectRecord], words: Sequence[str]) -> str:
    """How many objects were found."""
    objects = f"{len(records)} object{'' if len(records) == 1 else 's'}"
    return f"{objects} of {json.dumps(list(words), ensure_ascii=False)[1:-1]}" if words else objects
