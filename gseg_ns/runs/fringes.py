"""What the training views of a run show of the borders of its objects: see `gseg_ns.objects.fringes`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from gseg_ns.data.cameras import spread_views, to_camera
from gseg_ns.data.photographs import view_colors
from gseg_ns.editing.operations import Operation, evaluate
from gseg_ns.errors import GsegError
from gseg_ns.objects.fringes import Alone, Fringes, Shown
from gseg_ns.splats import Splats

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run

Cleaned = tuple[Alone, list[int]]
"""A scene's Gaussians with objects' borders cleaned, and the groups of which they were."""

MOST_VIEWS = 100
"""So many views are asked at most, evenly drawn."""

LONGEST = 1024
"""Pixels of the longer side in which they are asked at most; what they show is kept while objects are fitted."""


@torch.no_grad()
def find_fringes(
    run: Run,
    scale: float | None = None,
    wanted: Sequence[int] | None = None,
    track: Callable[[list[int]], Iterable[int]] = iter,
) -> Fringes:
    """Ask the training views of a run what they show of its objects, before any edits.

    Args:
        run: of any method.
        scale: at which groups are meant, for methods that have scales.
        wanted: the groups that are asked about; all unless given.
        track: wraps the list of views while it is worked through, for a progress bar.

    Raises:
        GsegError: there are no views to ask.
    """
    run.require_scene()
    model, data = run.model, run.datamanager
    chosen = spread_views(len(data.names("train")), MOST_VIEWS)

    def views() -> Iterator[Shown]:
        for view in track(chosen):
            camera = copy.deepcopy(data.camera(view))
            longest = max(int(camera.width.max()), int(camera.height.max()))
            if longest > LONGEST:
                camera.rescale_output_resolution(LONGEST / longest)
            camera = model.corrected(camera).to(model.device)
            labels = model.label_image(camera, scale)
            yield Shown(to_camera(camera), labels, view_colors(data, view, *labels.shape))

    return Fringes(model.splats(), model.gaussian_groups(scale), views(), wanted)


def clean_groups(
    run: Run,
    scale: float | None,
    wanted: Sequence[int],
    track: Callable[[list[int], str], Iterable[int]] = lambda ids, _: ids,
) -> Cleaned:
    """A run's Gaussians, those of some groups fitted so that each group ends alone where the views show that it does.

    Args:
        run: of any method.
        scale: at which groups are meant, for methods that have scales.
        wanted: the groups.
        track: wraps a list while it is worked through, for a progress bar, with what is done.

    Returns:
        all N Gaussians and the second halves of some, and the groups that views show, which were fitted.

    Raises:
        GsegError: there are no views to ask.
    """
    fringes = find_fringes(run, scale, wanted, lambda views: track(views, "Asking views"))
    cleaned = run.model.splats().clone()
    parts, split = [cleaned], [torch.zeros(0, dtype=torch.int64, device=cleaned.device)]
    for name in track(fringes.names, "Cleaning borders"):
        own, alone = torch.nonzero(fringes.rows(name))[:, 0], fringes.clean(name)
        for part in ("means", "quats", "scales", "opacities", "sh"):
            getattr(cleaned, part)[own] = getattr(alone.splats, part)[: len(own)]
        parts.append(alone.splats.subset(torch.arange(len(own), len(alone.splats))))
        split.append(own[alone.split])
    return Alone(Splats.cat(parts), torch.cat(split)), fringes.names


def after_edits(alone: Alone, operations: Sequence[Operation], measured: Splats) -> Alone:
    """Fitted Gaussians after edits of their scene.

    Args:
        alone: of a scene of N.
        operations: what is done to it.
        measured: the scene's N Gaussians, by whose centres and sizes objects are moved.

    Returns:
        Of the edited scene's M rows.
    """
    count = len(alone.splats) - len(alone.split)
    first = evaluate(alone.splats.subset(torch.arange(count)), operations, measured)
    seconds = torch.arange(count, device=alone.split.device)
    seconds[alone.split] = count + torch.arange(len(alone.split), device=alone.split.device)
    second = evaluate(alone.splats.subset(seconds), operations, measured).splats
    known = torch.zeros(count + 1, dtype=torch.bool, device=alone.split.device)
    known[alone.split] = True  # the last stands for what came from elsewhere
    split = torch.nonzero(known[torch.where(first.source < 0, count, first.source)])[:, 0]
    return Alone(Splats.cat([first.splats, second.subset(split)]), split)


def saying(
    say: Callable[[str], None], is_over: Callable[[], bool] = lambda: False
) -> Callable[[list[int], str], Iterator[int]]:
    """What wraps a list for `clean_groups`, where there is no progress bar: says now and then how far it is.

    Args:
        say: shows a line.
        is_over: whether nobody waits for it any more; then a `GsegError` ends it.
    """

    def track(ids: list[int], what: str) -> Iterator[int]:
        every = max(len(ids) // 8, 1)
        for place, one in enumerate(ids):
            if is_over():
                raise GsegError("The program was ended before borders were cleaned: nothing was written.")
            if place % every == 0:
                say(f"{what}: {place + 1} of {len(ids)} …")
            yield one

    return track
