"""`gseg select`: what a prompt on a view means in 3D, without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from gseg_ns.cli.options import Frame, Granular
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP, VoteOptions
from gseg_ns.lifting.thresholds import SAME_THING

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.photographs import Photograph
    from gseg_ns.runs.run import Run
    from gseg_ns.selection.prompts import Prompt
    from gseg_ns.selection.shapes import Box

Points = Annotated[tuple[tuple[float, float], ...], tyro.conf.UseAppendAction]
Lines = Annotated[tuple[tuple[float, ...], ...], tyro.conf.UseAppendAction]
Spheres = Annotated[tuple[tuple[float, float, float, float], ...], tyro.conf.UseAppendAction]


_FARTHEST = 1e6
"""Pixels that a point of an outline may lie away."""


@dataclass
class Select(Granular):
    """Select Gaussians by marks on a view, a text, shapes, colors or ranges, and write the selection.

    Options of different kinds narrow each other: a point and a size select what the object has of that size. What is
    given several times is joined, and so are polygons, lassos and strokes. With --start the result meets a selection
    that was written before. Pixels are those of the photograph unless --frame says otherwise; lengths and places in
    space are those of the run, which exports have too unless they are in another frame.
    """

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a PLY; with --track one without labels, too"""
    output: Path
    """.npz: a named selection for the viewer; .ply: the selected Gaussians; .png: the selection seen in --view; .gseg:
    everything, with the selection as a new object, called --name"""
    view: str | None = None
    """Name of the image (with or without folder and suffix) whose view is prompted"""
    point: Points = ()
    """A pixel x y of what is wanted; may be given several times"""
    negative: Points = ()
    """A pixel x y of what is not; may be given several times"""
    scribble: Path | None = None
    """PNG drawn on the photograph: 1 where it is wanted, 2 where not, 0 elsewhere"""
    mask: Path | None = None
    """PNG drawn on the photograph, not 0 where the object is"""
    polygon: Lines = ()
    """Pixels x y x y ... of the corners of a polygon around what is wanted; may be given several times"""
    lasso: Path | None = None
    """JSON [[x, y], ...] with the pixels of a line drawn around what is wanted"""
    brush: Lines = ()
    """Pixels x y x y ... of a stroke over what is wanted; may be given several times"""
    brush_radius: float = 10.0
    """Of the brush, in pixels"""
    through: bool = False
    """Take what lies under --polygon, --lasso and --brush all the way through, also what is hidden in the view"""
    in_front: bool = False
    """Of what other options select, such as --sphere, --color and --size, take what --view shows alone"""
    sphere: Spheres = ()
    """Centre x y z and radius of a sphere; may be given several times"""
    box: Lines = ()
    """Centre x y z and edges x y z of a box, and if it is turned its quaternion w x y z; may be given several times"""
    flood: Points = ()
    """A pixel x y: what is connected with it by neighbours of its color; may be given several times"""
    color: tuple[float, float, float] | None = None
    """Red, green, blue in 0..1: what is of that color"""
    color_at: Points = ()
    """A pixel x y: everything of the color that it shows; may be given several times"""
    tolerance: float = 20.0
    """How far colors may be from that of --flood, --color and --color-at: distance in CIELAB, in which 2 is hardly seen
    and black and white are 100 apart"""
    size: tuple[float, float] | None = None
    """Least and largest size: the longest standard deviation of a Gaussian"""
    opacity: tuple[float, float] | None = None
    """Least and largest opacity, in 0..1"""
    start: str | None = None
    """A selection to change: an .npz, with #NAME where it has several"""
    mode: Literal["add", "remove", "intersect"] = "add"
    """How what is selected meets that of --start"""
    frame: Frame = "photograph"
    """Whose pixels marks and a .png have: the photograph's, or those of the undistorted view that the run trains on;
    the same where the lens does not distort"""
    sam: Path | None = None
    """SAM checkpoint, or a model of transformers (SAM 2.1, EdgeTAM, SAM 3) by name or folder: the points are given to
    it, and its mask is the prompt"""
    track: str | None = None
    """Video model that carries the mask of the points (its own, that of --sam, or --mask) through pictures around the
    object, which are lifted: no groups are needed. SAM 2.1, EdgeTAM or SAM 3, by name or folder, such as
    facebook/sam2.1-hiera-tiny"""
    text: str | None = None
    """What is wanted, in words (needs the extra `text`, and a method with features)"""
    clip: str | None = None
    """CLIP model for --text: a name or a folder; the paper's (laion/CLIP-ViT-B-16-laion2B-s34B-b88K) unless given"""
    votes: VoteOptions = field(default_factory=VoteOptions)
    """How masks vote on --text"""
    threshold: float | Literal["adaptive"] = SAME_THING
    """Least cosine with what was marked, for methods that answer by features. adaptive: SAGA's first version, the mean
    of all Gaussians'; with --sam, and a run of saga-v1 that SAM has guided, the mean plus the standard deviation of dot
    products with SAM's own features"""
    largest: bool = False
    """Keep the largest connected piece alone: what no mask ever showed, hidden background for one, may be taken for
    the object, but does not touch it"""
    clean: bool = False
    """Drop outliers of the selection, and take in what lies between its Gaussians"""
    name: str = "selection"
    """Name of the selection in an .npz"""
    overwrite: bool = False
    """Replace a NAME.gseg that is there already; other files are replaced anyway"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run. Of a PLY: a scene in its
    coordinates, such as `gseg views` makes, whose views are meant"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Select."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.runs.keeping import check_takes_objects
        from gseg_ns.runs.run import load_run
        from gseg_ns.selection.neighbourhood import largest_component, middle_extents
        from gseg_ns.selection.postprocess import clean_up

        if self.output.suffix not in (".npz", ".ply", ".png", ".gseg"):
            raise GsegError(f"{self.output} has no known suffix: name a .npz, .ply, .png or .gseg")
        if self.output.suffix == ".gseg" and self.output.exists() and not self.overwrite:
            raise GsegError(f"{self.output} is there already: name another one or add --overwrite")
        marks = bool(self.point or self.negative or self.scribble or self.mask)
        drawn = bool(self.polygon or self.lasso or self.brush)
        picked = bool(self.flood or self.color_at)
        ranges = self.color is not None or self.size is not None or self.opacity is not None
        if marks and self.text is not None:
            raise GsegError("Give either marks on a view (--point, --scribble, --mask) or a --text")
        if not (marks or self.text is not None or drawn or picked or ranges or self.sphere or self.box):
            raise GsegError(
                "Say what to select: marks on a view (--point, --scribble, --mask), a --text, what is drawn on a view "
                "(--polygon, --lasso, --brush), a --sphere or --box, a --flood, --color or --color-at, a --size or "
                "--opacity"
            )
        if self.view is None and (marks or drawn or picked or self.output.suffix == ".png"):
            raise GsegError("Name the view with --view: marks, and a picture of the selection, are of one image")
        if self.in_front and self.view is None:
            raise GsegError("Name the view with --view: --in-front takes what one image shows")
        if self.in_front and self.through:
            raise GsegError("Give either --in-front or --through: one leaves out what the other takes")
        if self.sam is not None and not self.point:
            raise GsegError("--sam needs at least one --point")
        if self.track is not None and not (self.point or self.mask):
            raise GsegError("--track needs at least one --point on what is wanted, or its --mask")
        if self.track is not None and self.scribble:
            raise GsegError("--track follows points or a --mask: leave --scribble out")
        if self.track is not None and self.mask and (self.point or self.negative or self.sam is not None):
            raise GsegError(
                "--track follows a --mask as it is: leave out either that, or --point, --negative and --sam"
            )
        if self.sam is not None and (self.mask or self.scribble):
            raise GsegError(
                "--sam makes the mask of its points itself: leave out either that, or --mask and --scribble"
            )
        if self.threshold == "adaptive" and (not marks or self.track is not None):
            raise GsegError(
                "--threshold adaptive is for --point, --scribble and --mask that features answer: leave it out with "
                "--text and --track, and where no mark is given"
            )
        # A tracker asks no groups.
        run = load_run(self.load_config, self.data, self.allow_unfinished or self.track is not None)
        self.granularity(run)  # refused before anything is asked
        self._check_threshold(run)
        if self.output.suffix == ".gseg":
            check_takes_objects(run)
        view = None if self.view is None else self._view(run, self.view)
        found = []
        if self.text is not None:
            found.append(self._by_text(run))
        elif marks:
            assert view is not None
            found.append(self._by_marks(run, *view))
        if view is not None and (drawn or picked):
            found += self._on_view(run, *view)
        found += self._in_space(run)
        if self.in_front:
            assert view is not None
            found.append(self._in_front(run, view[1]))
        chosen = self._meet(found, run)
        if self.largest:
            chosen = largest_component(run.model.means, chosen, middle_extents(run.model.scales))
        if self.clean:
            chosen = clean_up(run.model.means, chosen)
        if not bool(chosen.any()):
            remedy = ": lower --threshold, or try another --scale" if marks or self.text is not None else ""
            CONSOLE.print(f"[yellow]Nothing is selected{remedy}.")
        self._write(run, view, chosen)
        CONSOLE.print(f"Selected {int(chosen.sum())} of {len(chosen)} Gaussians: {self.output}")

    def _check_threshold(self, run: Run) -> None:
        """Refuse `--threshold adaptive` where groups answer, and say of a number that it changes nothing.

        Raises:
            GsegError: it is adaptive, and no features answer.
        """
        from gseg_ns import terminal

        asked = bool(self.point or self.negative or self.scribble or self.mask) and self.track is None
        if self.threshold == SAME_THING or (asked and run.model.prompts_by_feature):
            return
        if self.threshold == "adaptive":
            raise GsegError("--threshold adaptive is a cosine of features, and groups answer here: leave it out")
        terminal.warn("--threshold changes nothing: it is for --point, --scribble and --mask that features answer.")

    def _view(self, run: Run, name: str) -> tuple[Photograph, Cameras]:
        """The photograph of `--view`, and the camera [1] that is prompted: of all of it, or of the view trained on."""
        view = run.view(name)
        if self.frame == "view":
            return view.photograph.of_view(), view.camera
        return view.photograph.whole(view.camera)

    def _prompt(self, photograph: Photograph) -> Prompt:
        from gseg_ns import terminal
        from gseg_ns.masks import read_label_map
        from gseg_ns.masks.orientation import MaskOfPhotograph, lie_upright
        from gseg_ns.selection.prompts import Prompt

        def drawn(path: Path | None, outlined: bool) -> Tensor | None:
            if path is None:
                return None
            labels = read_label_map(path)
            size = labels.shape[0], labels.shape[1]
            marks = MaskOfPhotograph(size, photograph.path, photograph.size, lambda: labels, outlined)
            upright = self.frame == "photograph" and lie_upright([marks], terminal.warn)
            return photograph.to_view(labels, path, upright)

        mask = drawn(self.mask, outlined=True)
        return Prompt(
            positive=_points_on_view(photograph, self.point),
            negative=_points_on_view(photograph, self.negative),
            scribble=drawn(self.scribble, outlined=False),
            mask=None if mask is None else mask != 0,
        )

    def _by_marks(self, run: Run, photograph: Photograph, camera: Cameras) -> Tensor:
        import torch

        from gseg_ns.runs.prompting import Prompter
        from gseg_ns.selection.prompts import Prompt
        from gseg_ns.selection.prompts_sam import load_predictor, sam_embedding, sam_mask

        model, prompt, embedding = run.model, self._prompt(photograph), None
        if self.track is not None:
            return self._by_track(run, camera, prompt)
        if self.sam is not None:
            picture = (model.get_outputs_for_camera(camera)["rgb"] * 255).round().to(torch.uint8)
            predictor = load_predictor(self.sam, model.device)
            prompt = Prompt(mask=sam_mask(picture, prompt, predictor))
            embedding = sam_embedding(predictor)
        threshold = None if self.threshold == "adaptive" else self.threshold
        return Prompter(model).select(
            camera, prompt, self.granularity(run), threshold, mask_by_sam=self.sam is not None, embedding=embedding
        )

    def _by_track(self, run: Run, camera: Cameras, prompt: Prompt) -> Tensor:
        """What a mask of the view means that a tracker carries around the object: bool [N]."""
        import torch

        from gseg_ns.runs.tracking import TrackedClicks
        from gseg_ns.selection.prompts_sam import load_predictor, sam_mask
        from gseg_ns.terminal import say

        assert self.track is not None
        clicks, mask = TrackedClicks(run.model), prompt.mask
        if mask is None:
            picture = (run.model.picture(camera) * 255).round().to(torch.uint8)
            if self.sam is not None:
                mask = sam_mask(picture, prompt, load_predictor(self.sam, run.model.device))
            else:
                mask = clicks.mask(self.track, picture, prompt)
        if not bool(mask.any()):
            raise GsegError("The model finds nothing at these points: click elsewhere, or give a --mask")
        found = clicks.carry(self.track, camera, mask)
        say(f"{found.believed} of {len(found.views)} pictures around it agree on what it is.")
        return found.selected.to(run.model.device)

    def _on_view(self, run: Run, photograph: Photograph, camera: Cameras) -> list[Tensor]:
        """What is drawn on the view, flooded from it, or of a color seen in it: a bool [N] a kind."""
        import torch

        from gseg_ns.data.cameras import to_camera
        from gseg_ns.selection import colors
        from gseg_ns.selection.outlines import Outline, Stroke, drawn_over
        from gseg_ns.selection.picking import pick

        splats = run.model.splats()
        shown = to_camera(run.model.corrected(camera)).to(splats.device)
        found = []
        drawn: list[Outline | Stroke] = [Outline(_pairs(line, "--polygon")) for line in self.polygon]
        if self.lasso is not None:
            drawn.append(Outline(_read_line(self.lasso)))
        drawn += [Stroke(_pairs(line, "--brush"), self.brush_radius) for line in self.brush]
        if drawn:
            found.append(drawn_over(splats, shown, drawn, not self.through, to_drawn=photograph.points_to_photo))
        for name, given in (("flood", self.flood), ("color_at", self.color_at)):
            joined = torch.zeros(len(splats), dtype=torch.bool, device=splats.device)
            for x, y in _points_on_view(photograph, given).tolist():
                hit = pick(splats, shown, x, y)
                color = colors.color_at(splats, hit)
                if name == "flood":
                    joined |= colors.flood(splats, hit.top, color, self.tolerance)
                else:
                    joined |= colors.of_color(splats, color, self.tolerance)
            if given:
                found.append(joined)
        return found

    def _in_front(self, run: Run, camera: Cameras) -> Tensor:
        """What the view shows: bool [N]."""
        import torch

        from gseg_ns.data.cameras import to_camera
        from gseg_ns.selection.shapes import in_front

        splats = run.model.splats()
        everything = torch.ones(len(splats), dtype=torch.bool, device=splats.device)
        return in_front(everything, splats, to_camera(run.model.corrected(camera)).to(splats.device))

    def _in_space(self, run: Run) -> list[Tensor]:
        """What lies in the spheres and in the boxes, has the color, and is in the ranges: a bool [N] a kind."""
        import torch

        from gseg_ns.selection.colors import of_color
        from gseg_ns.selection.shapes import in_range, inside_box, inside_sphere, longest_extents

        splats = run.model.splats()
        found = []
        if self.sphere:
            inside = [inside_sphere(splats.means, (x, y, z), radius) for x, y, z, radius in self.sphere]
            found.append(torch.stack(inside).any(dim=0))
        if self.box:
            found.append(torch.stack([inside_box(splats.means, _box(numbers)) for numbers in self.box]).any(dim=0))
        if self.color is not None:
            found.append(of_color(splats, self.color, self.tolerance))
        if self.size is not None:
            found.append(in_range(longest_extents(splats), *self.size))
        if self.opacity is not None:
            found.append(in_range(splats.opacities.sigmoid(), *self.opacity))
        return found

    def _meet(self, found: list[Tensor], run: Run) -> Tensor:
        """What all kinds have in common, and how that meets the selection of `--start`: bool [N]."""
        from gseg_ns.selection.selection import Selection
        from gseg_ns.selection.store import Fingerprint, load_selections

        chosen = Selection(found[0])
        for mask in found[1:]:
            chosen = chosen.intersect(mask)
        if self.start is None:
            return chosen.mask
        file, _, name = self.start.partition("#")
        saved = load_selections(Path(file), Fingerprint.of(run.model.means))
        if name not in saved and (name or len(saved) != 1):
            known = ", ".join(sorted(saved)) or "none"
            raise GsegError(f"Name a selection of {file} as --start {file}#NAME: it has {known}")
        before = saved[name or next(iter(saved))].unpack(chosen.mask.device)
        return Selection(before).resized(len(chosen)).combine(chosen, self.mode).mask

    def _by_text(self, run: Run) -> Tensor:
        from gseg_ns.runs.text_search import TextSearch

        assert self.text is not None
        search = TextSearch(run.model, run.datamanager, run.folder, options=self.votes)
        return search.find(self.text, self.clip or CLIP)

    def _write(self, run: Run, view: tuple[Photograph, Cameras] | None, chosen: Tensor) -> None:
        from PIL import Image

        from gseg_ns.files import atomic_path
        from gseg_ns.runs.answering import selection_in_view
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.selection.store import Fingerprint, save_selections
        from gseg_ns.splats.ply import write_ply

        if self.output.suffix == ".npz":
            save_selections(self.output, {self.name: chosen}, Fingerprint.of(run.model.means))
        elif self.output.suffix == ".gseg":
            from gseg_ns.runs.keeping import keep_as_object
            from gseg_ns.runs.packing import pack_run

            keep_as_object(run, chosen, self.name)
            pack_run(run, self.output, overwrite=self.overwrite)
        elif self.output.suffix == ".ply":
            splats = run.model.splats().subset(chosen).to("cpu")
            write_ply(self.output, splats, comments=EditedRun(run).header.comments())
        else:
            assert view is not None
            photograph, camera = view

            def drawn(camera: Cameras) -> dict[str, Tensor]:
                return {"seen": selection_in_view(run.model, camera, chosen)}

            seen = photograph.draw(camera, drawn)["seen"]
            with atomic_path(self.output) as temporary:
                Image.fromarray((seen.cpu().numpy() * 255).astype("uint8")).save(temporary, format="PNG")


def _points_on_view(photograph: Photograph, given: Points) -> Tensor:
    """Points of the photograph as points [P, 2] of its view.

    Raises:
        GsegError: the view does not show one.
    """
    import torch

    found = photograph.points_to_view(torch.tensor(given, dtype=torch.float32).reshape(-1, 2))
    for point, place in zip(given, found, strict=True):
        if not bool(place.isfinite().all()):
            raise GsegError(f"The point {point[0]:g} {point[1]:g} lies outside of what the view shows")
    return found


def _pairs(numbers: tuple[float, ...], option: str) -> list[tuple[float, float]]:
    if len(numbers) % 2:
        raise GsegError(f"{option} takes pixels x y x y ...: {len(numbers)} numbers are no pairs")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_line(path: Path) -> list[tuple[float, float]]:
    """The points of a file of `--lasso`."""
    from gseg_ns.reading import number, read_json, reading

    about = ("an outline", "It is JSON with a list of pixels: [[x, y], ...].")
    document = read_json(path, *about, missing=f"There is no file {path}.")
    with reading(path, *about):
        return [(number(x, -_FARTHEST, _FARTHEST), number(y, -_FARTHEST, _FARTHEST)) for x, y in document]


def _box(numbers: tuple[float, ...]) -> Box:
    from gseg_ns.selection.shapes import Box

    if len(numbers) not in (6, 10):
        raise GsegError(
            f"--box takes 6 numbers (centre x y z, edges x y z), or 10 with a quaternion w x y z, not {len(numbers)}"
        )
    if len(numbers) == 10 and not any(numbers[6:]):
        raise GsegError("The quaternion of --box is zero, which is no rotation: 1 0 0 0 turns nothing")
    centre, size = (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])
    return (
        Box(centre, size) if len(numbers) == 6 else Box(centre, size, (numbers[6], numbers[7], numbers[8], numbers[9]))
    )
