"""`gseg export`: every object as a splat of its own, and all of them with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gseg_ns.choices import ExportFormat, ProxyKind, UpAxis
from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError

if TYPE_CHECKING:
    from torch import Tensor

    from gseg_ns.objects import Evidence
    from gseg_ns.runs.edited_run import EditedRun
    from gseg_ns.runs.run import Run
    from gseg_ns.splats import Splats
    from gseg_ns.splats.mesh import Proxy
    from gseg_ns.splats.objects import Proxies, Standing
    from gseg_ns.splats.placement import Placement


@dataclass
class Export(Granular):
    """Write one splat file an object, and one of everything (PLY: with an integer `label` a splat)."""

    load_config: Path
    """config.yml of the run, a folder NAME.gseg, or a labelled PLY"""
    output_dir: Path
    """Folder to write to: scene.ply, objects/group_0001.ply, ..., objects.json. Files of groups that were named in the
    viewer carry the name. For html also the file itself, NAME.html"""
    format: ExportFormat = "ply"
    """3DGS PLY, exact, which every splat tool reads; SPZ for the web: lossy, a tenth of the size, without labels; glTF
    with KHR_gaussian_splatting, exact; OpenUSD, exact: a stage and a layer an object, or all in a .usdz; or html, a
    page to send to others: one file, page.html, that shows the scene and its objects in a browser without a network"""
    groups: list[int] = field(default_factory=list)
    """Export only these groups; all of them unless given"""
    selection: str | None = None
    """Only this selection, saved in the viewer beside config.yml (with groups: both together)"""
    edits: Path | None = None
    """Edit list to bake in (edits.json of the viewer or of `gseg edit`); what it removes is left out"""
    drop_unlabelled: bool = False
    """Leave out Gaussians that are in no group"""
    frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates: the run's normalised ones (as ns-export), or those of the capture's own poses"""
    up: UpAxis | None = None
    """Which way is up in the files: z unless given (as ns-export); in glTF and SPZ always y. `y-down` is for PLY only:
    SuperSplat, Spark and other web viewers expect it so"""
    unit: float | None = None
    """Length of a unit of the run in metres: PLY, SPZ and glTF are then in metres, and USD says it (metersPerUnit). The
    one that was measured and saved with the run unless given"""
    tileset: bool = False
    """With --format glb, write tileset.json (3D Tiles, for Cesium) around the scene"""
    proxy: ProxyKind | None = None
    """Give each object a mesh to touch: a GLB beside its file, in USD also a child with CollisionAPI. `pieces` needs
    the extra [physics]"""
    proxy_vertices: int | None = None
    """Most vertices of a mesh to touch; 64 unless given, of `mesh` 2000"""
    density: float | None = None
    """Kilograms per cubic metre, for the mass of what is touched; needs the length of a unit"""
    min_gaussians: int = 20
    """Groups with fewer Gaussians get no file of their own"""
    keep_floaters: bool = False
    """Leave in objects what floats: Gaussians that are called an object and are no part of what the training views show
    of it. Otherwise they are in no object (scene files have them, with the label 0)"""
    clean_borders: bool = False
    """Let objects end in their own files where the training views show that they do: their Gaussians are fitted so that
    each object alone covers its pixels, without a rim of floor. Seconds an object. The scene's file has them as they
    are (but USD, whose stage is made of the objects)"""
    title: str | None = None
    """Of the page (html)"""
    description: str | None = None
    """Text below the title of the page (html)"""
    attribution: str | None = None
    """Who captured the scene and how it may be used, below the description (html)"""
    max_splats: int | None = None
    """Most Gaussians in the page (html): what the training views see least of is left out"""
    sh_degree: int | None = None
    """Degree of view-dependent color that the page keeps, 0 to 3 (html); unless given, as much as fits in 10 MB"""
    exact: bool = False
    """Keep all numbers in the page as they are, in place of SPZ's 8 to 24 bits: several times the size (html)"""
    overwrite: bool = False
    """Write into a folder that already has files"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Export."""
        import torch
        from rich.markup import escape

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.objects import Alone, find_floaters, object_records
        from gseg_ns.runs.edited_run import EditedRun
        from gseg_ns.runs.evidence import parents, run_evidence, tree_table
        from gseg_ns.runs.run import load_run
        from gseg_ns.splats.objects import placement_in, write_objects
        from gseg_ns.splats.scene import objects_of
        from gseg_ns.terminal import track

        form = self.format
        if form == "html":
            self._check_file()
        elif not self.overwrite and self.output_dir.exists() and any(self.output_dir.iterdir()):
            raise GsegError(f"{self.output_dir} already has files: name another folder or add --overwrite")
        self._check_up()
        self._check_proxies()
        self._check_page()
        if self.unit is not None and not 1e-6 <= self.unit <= 1e6:
            raise GsegError(f"--unit {self.unit:g}: a unit of a run is longer than a micrometre and below 1000 km")
        run = load_run(self.load_config, allow_unfinished=self.allow_unfinished)
        if self.clean_borders:
            run.require_scene()
        scale = self.granularity(run)
        edited = EditedRun(run, self.edits, scale)
        everything = not self.groups and self.selection is None
        rows = ~edited.scene.removed if everything else edited.rows(self.groups, self.selection)
        if self.drop_unlabelled:
            rows = rows & (edited.groups > 0)
        rows = rows & edited.scene.splats.exportable()
        splats, groups = edited.scene.splats.subset(rows).to("cpu"), edited.groups[rows].cpu()
        if len(splats) == 0:
            raise GsegError("Nothing to export: no visible Gaussian of the run is chosen")
        try:
            names = edited.names
        except GsegError as error:  # names are an ornament: without them everything can be written
            CONSOLE.print(f"[yellow]Groups are written without names: {escape(str(error))}")
            names = {}
        placement = self._placement(run, edited.meters_per_unit if self.unit is None else self.unit)
        if self.density is not None and placement.meters_per_unit is None:
            raise GsegError("--density needs the length of a unit: give --unit METRES, or measure it in the viewer")
        evidence = run_evidence(run, scale, lambda ids: track(ids, "Asking views"))
        seen = None if evidence is None else evidence.to("cpu").rows(edited.scene.source.cpu()[rows.cpu()])
        floating, chosen = torch.zeros(len(splats), dtype=torch.bool), None
        if not self.keep_floaters and seen is not None:  # a guess by distance alone is not made for the user
            floating = find_floaters(splats, groups, seen)
            chosen = torch.ones_like(floating) if everything and not self.drop_unlabelled else ~floating
            groups = torch.where(floating, 0, groups)
            splats, groups = splats.subset(chosen), groups[chosen]
            seen = seen.rows(torch.nonzero(chosen)[:, 0])
        if form == "html":
            self._write_page(run, splats, groups, seen, names, placement)
            if everything and not bool((edited.groups > 0).any()):
                run.model.require_groups()
            return
        alone = Alone.of(splats)
        if self.clean_borders:
            large = torch.nonzero(torch.bincount(groups) >= self.min_gaussians)[:, 0].tolist()
            cleaned = edited.clean_borders(rows, track, large)
            CONSOLE.print(f"Cleaned the borders of {cleaned} objects")
            alone = edited.alone.subset(rows).to("cpu")
            alone = alone if chosen is None else alone.subset(chosen)
        placed = placement_in(form, placement)
        units = self._units(placed)
        parent_scale, larger = parents(run.model, scale)
        if larger is not None:
            source = edited.scene.source[rows]
            larger = torch.where(source < 0, 0, larger[source.clamp_min(0)]).cpu()
            larger = larger if chosen is None else larger[chosen]
        records = object_records(
            placed.of(alone.splats),
            groups[alone.source],
            None if seen is None else seen.shared(alone.source),
            names,
            torch.zeros(len(alone.splats), dtype=torch.bool),
            units,
            None if larger is None else larger[alone.source],
            up=placed.up_vector().numpy(),
        )
        left_out = torch.bincount(edited.groups[rows].cpu()[floating])
        written = torch.nonzero(rows)[:, 0]
        written = written if chosen is None else written[chosen.to(written.device)]
        details = {record.id: record.as_dict() for record in records}
        for group, count in enumerate(left_out.tolist()):
            if group in details:
                details[group]["floaters"] = count
        touched = objects_of(groups, min_gaussians=self.min_gaussians)  # without any there is nothing to ask views for
        listed = write_objects(
            self.output_dir,
            splats,
            groups,
            form,
            self.min_gaussians,
            names,
            track=lambda ids: track(ids, "Writing objects"),
            placement=placement,
            run=edited.fingerprint.digest,
            tileset=self.tileset,
            proxies=self._proxies(edited, written, alone.source) if touched else None,
            about={
                "views_asked": None if evidence is None else evidence.num_views,
                "parent_scale": parent_scale,
                "tree": tree_table(run.model),
            },
            details=details,
            alone=(alone.splats, alone.source) if self.clean_borders else None,
        )
        [scene] = self.output_dir.glob("scene.*")
        CONSOLE.print(
            f"Wrote {len(splats)} Gaussians to {scene} and {len(listed)} objects to {self.output_dir / 'objects'}"
        )
        if bool(floating.any()):
            CONSOLE.print(f"{int(floating.sum())} floaters are in no object; --keep-floaters keeps them")
        if everything and not bool((edited.groups > 0).any()):
            run.model.require_groups()

    def _units(self, placed: Placement) -> str:
        return "m" if placed.meters_per_unit == 1 else "capture" if self.frame == "original" else "scene"

    def _page(self) -> Path:
        """The file of `--format html`."""
        return self.output_dir if self.output_dir.suffix.lower() == ".html" else self.output_dir / "page.html"

    def _write_page(
        self,
        run: Run,
        splats: Splats,
        groups: Tensor,
        seen: Evidence | None,
        names: dict[int, str],
        placement: Placement,
    ) -> None:
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.page import View, Words, write_page
        from gseg_ns.runs.opening import opening_view
        from gseg_ns.splats.objects import placement_in

        opening = opening_view(run, splats, groups)
        written = write_page(
            self._page(),
            splats,
            groups,
            names,
            words=Words(self.title or Words.title, self.description or "", self.attribution or ""),
            placement=placement,
            view=None if opening is None else View(*opening),
            evidence=seen,
            units=self._units(placement_in("spz", placement)),
            min_gaussians=self.min_gaussians,
            max_splats=self.max_splats,
            sh_degree=self.sh_degree,
            exact=self.exact,
        )
        CONSOLE.print(
            f"Wrote {written.splats} Gaussians and {written.objects} objects to {self._page()}, "
            f"{written.size / 1e6:.1f} MB: open it in a browser, or send it"
        )
        if written.splats < written.all_splats:
            by = "the training views show" if seen is not None else "opacities and sizes promise"
            CONSOLE.print(
                f"Left out {written.all_splats - written.splats} Gaussians that are seen least: "
                f"{100 * written.given_up:.2g} % of what {by}"
            )
        if written.sh_degree < written.full_sh_degree:
            CONSOLE.print(
                f"Colors change with the view to degree {written.sh_degree} of {written.full_sh_degree}; "
                f"--sh-degree {written.full_sh_degree} keeps all, in a larger file"
            )

    def _check_file(self) -> None:
        page = self._page()
        if page.is_dir():
            raise GsegError(f"{page} is a folder: name another file")
        if page.exists() and not self.overwrite:
            raise GsegError(f"{page} is there already: name another file or add --overwrite")

    def _check_page(self) -> None:
        options = ("title", "description", "attribution", "max_splats", "sh_degree")
        given = [name for name in options if getattr(self, name) is not None] + ["exact"] * self.exact
        if given and self.format != "html":
            raise GsegError(f"--{given[0].replace('_', '-')} is about a page: choose --format html")
        if self.format == "html" and (self.tileset or self.proxy is not None):
            raise GsegError("A page has no --tileset and no --proxy: choose another --format")
        if self.format == "html" and self.clean_borders:
            raise GsegError(
                "--clean-borders is about files of single objects, and a page has none: choose --format ply"
            )
        if self.max_splats is not None and self.max_splats < 1:
            raise GsegError(f"--max-splats {self.max_splats}: a page shows at least 1")
        if self.sh_degree is not None and not 0 <= self.sh_degree <= 3:
            raise GsegError(f"--sh-degree {self.sh_degree}: degrees are 0, 1, 2 and 3")

    def _proxies(self, edited: EditedRun, rows: Tensor, source: Tensor) -> Proxies | None:
        """How proxies are made.

        Args:
            edited: the run.
            rows: int64, of its scene, that are written.
            source: int64, which of these the Gaussians of objects' own files are.
        """
        from gseg_ns.proxies import make_proxy
        from gseg_ns.runs.pixels import training_pixel
        from gseg_ns.runs.sights import Sighted, run_sights
        from gseg_ns.splats.objects import Proxies
        from gseg_ns.terminal import track

        kind = self.proxy
        if kind is None:
            return None
        pixel_at = training_pixel(edited.run)
        sights = run_sights(edited.run, edited.scale, lambda ids: track(ids, "Asking views how far they see"))
        sighted = Sighted(sights, edited, rows[source.to(rows.device)])

        def make(standing: Standing) -> Proxy:
            there = standing.placement
            middle = standing.splats.means.median(dim=0).values.double().cpu()
            place = there.rotation.T @ (middle - there.translation) / there.scale
            pixel = 0.0 if pixel_at is None else there.scale * pixel_at(place)
            return make_proxy(
                standing.splats,
                standing.up,
                standing.surrounds,
                kind,
                self.proxy_vertices,
                pixel,
                sighted.seen(standing),
            )

        return Proxies(make, self.density)

    def _check_proxies(self) -> None:
        if self.proxy is None and not (self.proxy_vertices is None and self.density is None):
            raise GsegError("--proxy-vertices and --density are about what is touched: say which with --proxy")
        if self.proxy_vertices is not None and self.proxy_vertices < 4:
            raise GsegError(f"--proxy-vertices {self.proxy_vertices}: a body has at least 4")
        if self.density is not None and not 0 < self.density < 1e6:
            raise GsegError(f"--density {self.density:g}: give kilograms per cubic metre, above 0")

    def _check_up(self) -> None:
        if self.format in ("glb", "spz", "html") and self.up not in (None, "y"):
            name = {"glb": "glTF", "spz": "SPZ", "html": "HTML"}[self.format]
            raise GsegError(f"In {name} files y is up, always: leave out --up {self.up}, or choose another --format")
        if self.format in ("usd", "usdz") and self.up == "y-down":
            raise GsegError("A USD stage has y or z up: choose --up y or --up z")

    def _placement(self, run: Run, unit: float | None) -> Placement:
        """From the run's coordinates to those of the files."""
        from gseg_ns.splats.placement import Placement, original_placement

        if self.frame == "nerfstudio":
            placement = Placement(meters_per_unit=unit)
        else:
            frame = run.frame()
            if frame is None:
                raise GsegError(
                    f"{run.folder} has no dataparser_transforms.json and its scene is gone: the frame of "
                    "the capture is not known. Export with --frame nerfstudio"
                )
            placement = original_placement(*frame, unit)
        if self.up is None:
            return placement
        return placement.with_up("-y" if self.up == "y-down" else self.up)
