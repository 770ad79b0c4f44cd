"""`gseg masks`: 2D masks of every photograph of a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gseg_ns.cli.options import WithSources
from gseg_ns.cluster import connected
from gseg_ns.errors import GsegError
from gseg_ns.masks import check as checking
from gseg_ns.masks import generate as generating
from gseg_ns.masks.generate import ImageResult, Job
from gseg_ns.masks.images import SceneImage, in_path_order, read_frames, scene_images
from gseg_ns.masks.preview import contact_sheet
from gseg_ns.masks.sources.base import SourceConfig, is_in_sequence
from gseg_ns.masks.sources.entity import EntityConfig

_LINES = 20
"""Findings of one kind that are listed one by one."""


@dataclass
class Masks(WithSources):
    """Make 2D masks of every photograph of a scene, as SA-1B JSON with scores; look at them; check a folder of them.

    A run can be stopped or killed at any moment: the same command goes on where it was. Several processes or machines
    share a scene with --shard.
    """

    data: Path
    """The scene: a Nerfstudio folder (transforms.json) or a COLMAP folder."""
    output_dir: Path = Path("masks")
    """Where masks are written, relative to the scene."""
    images_dir: str = "images"
    """Folder of photographs of a COLMAP scene, relative to it."""
    max_side: int = 0
    """Shrink photographs first, so that their longer side has at most this many pixels; their masks are of that size,
    and resized when read. 0: as they are."""
    embeddings: bool = False
    """Also keep the image embedding of each photograph (sam, sam2), in a folder <output-dir>_embeddings."""
    dask: str | None = None
    """Dask scheduler whose workers make the masks, such as tcp://host:8786; they must see the scene under the same
    path. local: processes of this machine."""
    workers: int = 1
    """Processes on this machine. Each loads the source for itself."""
    shard: str = "1/1"
    """Do only a share of the images: 2/4 is the second of four. Start all four, anywhere, at any time."""
    overwrite: bool = False
    """Make masks again that are there already, also those of other settings."""
    preview: bool = False
    """Write a contact sheet, <output-dir>_preview.png: photographs with their masks drawn."""
    preview_images: int = 24
    """Images on the contact sheet, at most."""
    check: Path | None = None
    """Make nothing; read this folder of masks (relative to the scene), or file for all images, and report which tool's
    format it is, and what is missing, empty, of the wrong size, corrupt or duplicated."""

    def main(self) -> None:
        """Run the command.

        Raises:
            GsegError: bad input, some image failed, or the checked folder has faults.
        """
        console = Console()
        images = scene_images(self.data, self.images_dir)
        root = self.data if self.data.is_dir() else self.data.parent
        if self.check is not None:
            self._check(console, images, root / self.check)
            return
        output = root / self.output_dir
        self._refuse_training_masks(root, output)
        source = self.chosen_source()
        if isinstance(source, EntityConfig):
            source = source.placed_on(images, lambda text: console.print(f"[yellow]{escape(text)}", highlight=False))
        if self.embeddings and not source.embeds:
            raise GsegError(f"The source {source.name} has no image embeddings. Leave --embeddings out.")
        share, shares = generating.parse_shard(self.shard)
        if self.overwrite and shares > 1:
            raise GsegError(f"--overwrite with --shard would remove what other shards did. Remove {output} by hand.")
        if self.workers < 1:
            raise GsegError(f"--workers is {self.workers}; it must be 1 or more.")
        if is_in_sequence(source):
            if shares > 1 or self.workers > 1 or self.dask is not None:
                raise GsegError(
                    f"{source.name} follows things from picture to picture: leave --shard, --workers and --dask out."
                )
            images = in_path_order(self.data, images)
        job = Job(
            source=source,
            output=output,
            max_side=self.max_side,
            embeddings=output.with_name(output.name + "_embeddings") if self.embeddings else None,
            device=self.device,
        )
        if source.name == "classical":
            console.print("Masks without weights (classical): good enough to try things out, no substitute for SAM.")
        generating.prepare(job, images, self.overwrite)
        mine = images[share - 1 :: shares]
        generating.sweep(job, mine)
        results = self._run(console, job, mine)
        generating.sweep(job, mine)
        _print_results(console, output, results)
        if self.preview:
            self._preview(console, images, output)
        failures = sum(result.error is not None for result in results)
        if failures:
            raise GsegError(
                f"{failures} of {len(results)} images have no masks (see above). Mend them and run the same command "
                "again: it does only those."
            )

    def chosen_source(self) -> SourceConfig:
        """The source that `--source` names, or that the other options speak for."""
        return self.configs()[self.asked() or "classical"]

    def _refuse_training_masks(self, root: Path, output: Path) -> None:
        """Nerfstudio scenes may keep masks of what to train on in a folder `masks`; those are not ours to mix with."""
        transforms = root / "transforms.json"
        if not transforms.is_file():
            return
        for frame in read_frames(transforms):
            if "mask_path" in frame and (root / frame["mask_path"]).resolve().is_relative_to(output.resolve()):
                raise GsegError(
                    f"{output} holds this scene's own training masks ({frame['mask_path']} in transforms.json). "
                    "Choose another --output-dir."
                )

    def _run(self, console: Console, job: Job, images: list[SceneImage]) -> list[ImageResult]:
        results = []
        with _progress(console, "Masks", len(images)) as advance:
            todo = []
            for image in images:
                done = generating.finished(job, image)
                if done is None:
                    todo.append(image)
                    continue
                results.append(done)
                advance(len(results))
            if todo and is_in_sequence(job.source):  # all or nothing
                todo, results = list(images), []
            with nullcontext() if self.dask is None or not todo else connected(self.dask) as cluster:
                for result in generating.run(job, todo, self.workers, cluster):
                    results.append(result)
                    if result.error is not None:
                        console.print(f"[red]{escape(f'{result.image.name}: {result.error}')}[/red]", highlight=False)
                    advance(len(results))
        return results

    def _preview(self, console: Console, images: list[SceneImage], folder: Path) -> None:
        path = folder.with_name(folder.name + "_preview.png")
        with _progress(console, "Contact sheet", min(len(images), self.preview_images)) as advance:
            drawn = contact_sheet(images, folder, path, count=self.preview_images, progress=advance)
        console.print(f"{path}: {drawn} images", soft_wrap=True, markup=False)

    def _check(self, console: Console, images: list[SceneImage], folder: Path) -> None:
        with _progress(console, "Checking", len(images)) as advance:
            report = checking.check(folder, images, progress=advance)
        table = Table(title=f"{folder}: {report.files} mask files for {report.images} images")
        table.add_column("finding")
        table.add_column("files", justify="right")
        table.add_column("what it means")
        kinds = {
            "missing": "images without masks: training leaves them out",
            "empty": "no mask in the file",
            "resized": "another size, same proportions: resized when read",
            "turned": "of a copy of a photograph that was turned by its EXIF tag: turned back when read",
            "wrong_size": "other proportions than the image: another picture, or turned",
            "corrupt": "cannot be read",
            "duplicated": "same name, same image, or same masks as another file",
            "extra": "belong to no image: not used",
        }
        for kind, meaning in kinds.items():
            table.add_row(kind.replace("_", " "), str(len(getattr(report, kind))), meaning)
        console.print(table)
        if report.dialects:
            seen = sorted(report.dialects.items(), key=lambda entry: -entry[1])
            console.print(
                "Read as " + "; ".join(f"{dialect} ({count} images)" for dialect, count in seen),
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        if report.masks:
            mean = sum(report.masks) / len(report.masks)
            covered = sum(report.coverage) / len(report.coverage)
            console.print(
                f"{mean:.1f} masks an image ({min(report.masks)} to {max(report.masks)}), {covered:.1%} covered"
            )
        for kind in kinds:
            lines = getattr(report, kind)
            for line in lines[:_LINES]:
                console.print(f"{kind.replace('_', ' ')}: {line}", highlight=False, soft_wrap=True, markup=False)
            if len(lines) > _LINES:
                console.print(f"... and {len(lines) - _LINES} more {kind.replace('_', ' ')}")
        if self.preview:
            self._preview(console, images, folder)
        if not report.ok:
            raise GsegError(f"{folder} has faults (see above). Make those files again.")


def _print_results(console: Console, output: Path, results: list[ImageResult]) -> None:
    made = [result for result in results if result.seconds is not None]
    good = [result for result in results if result.error is None]
    table = Table(title=str(output))
    for column in ("images", "made now", "done before", "failed", "masks an image", "coverage", "s an image"):
        table.add_column(column, justify="right")
    counts = [result.masks for result in good]
    seconds = [result.seconds for result in made if result.seconds is not None]
    table.add_row(
        str(len(results)),
        str(len(made)),
        str(len(good) - len(made)),
        str(len(results) - len(good)),
        f"{sum(counts) / len(counts):.1f} ({min(counts)}-{max(counts)})" if counts else "-",
        f"{sum(result.coverage for result in good) / len(good):.1%}" if good else "-",
        f"{sum(seconds) / len(seconds):.2f}" if seconds else "-",
    )
    console.print(table)
    bare = sorted(result.image.name.as_posix() for result in good if result.masks == 0)
    if bare:
        shown = ", ".join(bare[:_LINES]) + (" ..." if len(bare) > _LINES else "")
        console.print(f"{len(bare)} images have no masks at all: {shown}", highlight=False, markup=False)


@contextmanager
def _progress(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal; elsewhere (a log) a line for every tenth."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    tenth = 0

    def advance(done: int) -> None:
        nonlocal tenth
        if total and done * 10 // total > tenth:
            tenth = done * 10 // total
            console.print(f"{title}: {done} of {total}", highlight=False)

    yield advance
