"""Fringes: what an object drags along when it is taken out of its scene, and what it leaves behind there.

Nothing asks Gaussians in a scene to end where an object does. A bit of floor and a bit of stool are in one of them, so
that the stool alone has a rim of floor, or lacks a rim of itself, which the floor's Gaussians drew. What mends that is
in the training views: an object's Gaussians are fitted so that they, alone, cover the pixels that are called the object
and no others, in the photographs' colors. Pixels where something else is in front ask for nothing.

The other Gaussians stay as they are, and so does the scene: what is fitted is for an object that leaves it. To give a
Gaussian to the neighbor that views show it as was tried, and gains nothing: there are few, and floaters are left out of
exports anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, composite, rasterization
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import near_of, project_splats
from gseg_ns.splats.transform import rotation_matrices

FEWEST = 10
"""Pixels that a view shows of an object at least; fewer say little of where it ends."""

PAD = 8
"""Pixels around what is shown of an object that belong to the window on it, so that what sticks out is in it."""

LARGEST = 160
"""Sides of a window in a step at most, around a pixel of the object's border where there is more."""

FAINT = 0.01
"""Less than that of an object alone is nothing that could be hidden."""

AT_ONCE = 32
"""Objects whose shares of a view are composited together."""

OUTSIDE = 2.0
"""What a pixel beside the object asks for, beside one of the object, which asks for a color, too."""

BAND = 3
"""Pixels on either side of an object's border that are near it."""

BORDER = 0.1
"""A Gaussian is split if more than this part of what it shows is near the border"""

LONG = 1.0
"""and its longest axis has a standard deviation of so many pixels: halves of a shorter one look the same."""

HALF = 0.8
"""From a Gaussian's centre to those of its halves, in standard deviations; they are as much narrower."""

STAYING = 0.25
"""What is hidden stays as it is: so much a pixel asks for that, beside one that shows what should be there."""

EPS = 1e-3
"""Of Adam, beside gradients of a loss that is summed over pixels: what hardly shows hardly moves."""


@dataclass(frozen=True)
class FringeOptions:
    """How objects are fitted to what is shown of them."""

    steps: int = 300
    """Steps for each object at least, a window of a view in each"""
    rounds: int = 6
    """So many times each view is asked at least"""
    opacity_rate: float = 0.3
    """Adam's rates, which fall to a tenth: of the logit of opacities"""
    scale_rate: float = 0.06
    """of the logarithm of scales"""
    quat_rate: float = 0.012
    """of rotations"""
    color_rate: float = 0.06
    """of the constant coefficient of colors"""
    mean_rate: float = 0.12
    """of centres, in pixels of the views"""
    seed: int = 0
    """Of the windows"""


@dataclass(frozen=True)
class Alone:
    """Gaussians as objects have them on their own: of each as many as the scene has, or two halves."""

    splats: Splats
    """[N + K]: those of the scene, in their order, and then second halves."""
    split: Tensor  # [K] int64
    """Which of the N each of the second halves is of."""

    @classmethod
    def of(cls, splats: Splats) -> Alone:
        """Gaussians of which none is split."""
        return cls(splats, torch.zeros(0, dtype=torch.int64, device=splats.device))

    @property
    def source(self) -> Tensor:
        """Which of the N each is, or is a half of: int64 [N + K]."""
        count = len(self.splats) - len(self.split)
        return torch.cat([torch.arange(count, device=self.split.device), self.split])

    def subset(self, rows: Tensor) -> Alone:
        """Some of the N, bool [N], and their second halves."""
        rows = rows.to(self.split.device)
        places = rows.cumsum(0) - 1
        return Alone(self.splats.subset(rows[self.source]), places[self.split[rows[self.split]]])

    def to(self, device: torch.device | str) -> Alone:
        """The same on a device."""
        return Alone(self.splats.to(device), self.split.to(device))


class Shown(NamedTuple):
    """A view: what it shows."""

    camera: Camera
    labels: Tensor  # [H, W] int
    """The group of each pixel, 0 = none."""
    photograph: Tensor | None  # [H, W, 3] uint8


class Sight(NamedTuple):
    """The part of a view with an object."""

    view: int
    box: tuple[int, int, int, int]
    """Left, upper, right and lower end."""
    share: Tensor  # [h, w] uint8
    """What the object gives to each pixel, in 255ths; on the CPU."""


class Window(NamedTuple):
    """What an object is fitted to in a step: a part of a view."""

    camera: Camera
    shown: Tensor  # [h, w] bool
    """Pixels that are called the object."""
    asked: Tensor  # [h, w] float32
    """How much a pixel says, in 0..1: little where most of the object is hidden behind something."""
    before: Tensor  # [h, w] float32
    """Alpha of the object alone, as it was."""
    photograph: Tensor | None  # [h, w, 3] uint8


class Fringes:
    """What the views of a scene show of its objects."""

    @torch.no_grad()
    def __init__(
        self, splats: Splats, groups: Tensor, views: Iterable[Shown], wanted: Sequence[int] | None = None
    ) -> None:
        """Ask the views.

        Args:
            splats: N Gaussians.
            groups: int [N], 0 = none.
            views: what they show.
            wanted: the groups that are asked about; all unless given.
        """
        self._splats = splats
        self._groups = groups.to(splats.device, torch.int64)
        self._near = near_of(splats.means)
        self._views: list[Shown] = []
        self._sights: dict[int, list[Sight]] = {}
        asked = None if wanted is None else set(wanted)
        small = not len(self._groups) or int(self._groups.max()) <= torch.iinfo(torch.int16).max
        for camera, labels, photograph in views:
            camera, labels = camera.to(splats.device), labels.to(splats.device)
            meta = project_splats(splats, camera)
            names, counts = labels[labels > 0].unique(return_counts=True)
            names = [name for name in names[counts >= FEWEST].tolist() if asked is None or name in asked]
            for start in range(0, len(names), AT_ONCE):
                few = torch.tensor(names[start : start + AT_ONCE], device=splats.device)
                shares = composite(meta, (self._groups[:, None] == few).float())
                for place, name in enumerate(few.tolist()):
                    share = (shares[..., place] * 255).round().clamp(0, 255).to(torch.uint8)
                    box = _box((share > 0) | (labels == name))
                    share = _taken(share, box).clone().cpu()
                    self._sights.setdefault(name, []).append(Sight(len(self._views), box, share))
            # A hundred large views are kept while objects are fitted.
            labels = labels.to("cpu", torch.int16 if small else torch.int32)
            self._views.append(Shown(camera, labels, None if photograph is None else photograph.cpu()))

    @property
    def names(self) -> list[int]:
        """The groups that views show."""
        return sorted(self._sights)

    def rows(self, group: int) -> Tensor:
        """The Gaussians of a group: bool [N]."""
        return self._groups == group

    def clean(self, group: int, options: FringeOptions | None = None) -> Alone:
        """Fit the Gaussians of a group to what is shown of it.

        Those that are long and show much of its border are split first, so that it can be bent. On the CPU the same
        for a seed.

        Args:
            group: its number.
            options: of the fit.

        Returns:
            Its Gaussians in the order of the scene. What no view shows stays as it is.
        """
        options = options or FringeOptions()
        alone = replace(self._splats.subset(self.rows(group)), extra={})
        sights = self._sights.get(group, [])
        if not sights or not len(alone):
            return Alone.of(alone)
        before = [self._alpha(alone, sight) for sight in sights]
        colored = all(self._views[sight.view].photograph is not None for sight in sights)

        def window(number: int, generator: torch.Generator) -> Window:
            return self._window(group, sights[number], before[number], generator)

        pixel, generator = self._pixel(alone, sights), torch.Generator().manual_seed(options.seed)
        split = alone.scales.amax(dim=1).exp() > LONG * pixel
        shown = _borders(alone, (window(number, generator) for number in range(len(sights))), self._near)
        split = torch.nonzero(split & (shown > BORDER))[:, 0]
        halves = _halved(alone, split)
        return Alone(_fitted(halves, len(sights), window, colored, self._near, pixel, options), split)

    @torch.no_grad()
    def _alpha(self, alone: Splats, sight: Sight) -> Tensor:
        """Of an object alone in its part of a view: float16 [h, w] on the CPU."""
        camera = _cropped(self._views[sight.view].camera, sight.box)
        return _draw(alone, camera, self._near)[1].to("cpu", torch.float16)

    def _window(self, group: int, sight: Sight, before: Tensor, generator: torch.Generator) -> Window:
        """What a view asks of an object: pixels that show something else before it ask for nothing."""
        view, device = self._views[sight.view], self._splats.device
        shown = _taken(view.labels, sight.box) == group
        part = _within(shown, generator)
        shown, share = _taken(shown, part).to(device), _taken(sight.share, part).to(device)
        alpha = _taken(before, part).to(device, torch.float32)
        seen = (share / 255 / alpha.clamp_min(FAINT)).clamp(0, 1)
        asked = torch.where(shown | (alpha < FAINT), 1.0, seen)
        photograph = None if view.photograph is None else _taken(_taken(view.photograph, sight.box), part).to(device)
        return Window(_cropped(_cropped(view.camera, sight.box), part), shown, asked, alpha, photograph)

    def _pixel(self, alone: Splats, sights: list[Sight]) -> float:
        """Length of a pixel where an object is, in the middle one of the views."""
        place = alone.means.median(dim=0).values
        cameras = [self._views[sight.view].camera for sight in sights]
        depths = [
            float((camera.viewmat[2, :3] @ place + camera.viewmat[2, 3]).abs() / camera.K[0, 0]) for camera in cameras
        ]
        return sorted(depths)[len(depths) // 2]


def _borders(alone: Splats, windows: Iterable[Window], near: float) -> Tensor:
    """Which part of what each Gaussian shows of an object alone is near its border, in 0..1: [N]."""
    found = alone.means.new_zeros(2, len(alone))
    for window in windows:
        # What hides the object has a border of its own, which says nothing of this one.
        inside, beside = (
            torch.nn.functional.max_pool2d(part[None], 2 * BAND + 1, 1, BAND)[0]
            for part in (window.shown.float(), torch.where(window.shown, 0.0, window.asked))
        )
        band = torch.minimum(inside, beside) * window.asked
        weights = alone.means.new_ones(len(alone), 1).requires_grad_()
        with torch.enable_grad():
            drawn = _draw(alone, window.camera, near, weights=weights)[0][..., 0]
        for place, of in enumerate((band, torch.ones_like(band))):
            (share,) = torch.autograd.grad(drawn, weights, of, retain_graph=place == 0)
            found[place] += share[:, 0]
    return found[0] / found[1].clamp_min(FAINT)


def _halved(alone: Splats, split: Tensor) -> Splats:
    """Gaussians of which some became two beside each other along their longest axis, with the same mean and variance.

    Args:
        alone: n of them.
        split: int64 [k], which.

    Returns:
        n, and then the second halves of those k.
    """
    old = alone.subset(split)
    axis = torch.nn.functional.one_hot(old.scales.argmax(dim=1), 3).to(old.scales)
    step = HALF * (rotation_matrices(old.quats) @ (axis * old.scales.exp())[:, :, None])[:, :, 0]
    narrow = math.sqrt(1 - HALF**2)
    scales = old.scales + math.log(narrow) * axis
    opacities = torch.logit(old.opacities.sigmoid() / (2 * narrow), eps=EPS)
    first, second = (
        replace(old, means=old.means + sign * step, scales=scales, opacities=opacities) for sign in (1, -1)
    )
    whole = alone.clone()
    for name in ("means", "scales", "opacities"):
        getattr(whole, name)[split] = getattr(first, name)
    return Splats.cat([whole, second])


def _fitted(
    alone: Splats,
    count: int,
    windows: Callable[[int, torch.Generator], Window],
    colored: bool,
    near: float,
    pixel: float,
    options: FringeOptions,
) -> Splats:
    """The Gaussians that, alone, show what the windows ask for.

    Args:
        alone: as they are.
        count: of views.
        windows: (which of the views, what parts of large windows are drawn with) -> a window on it.
        colored: whether colors are fitted, too.
        near: distance of the nearest plane.
        pixel: length of a pixel where they are.
        options: of the fit.
    """
    rates = {
        "means": options.mean_rate * pixel,
        "quats": options.quat_rate,
        "scales": options.scale_rate,
        "opacities": options.opacity_rate,
    }
    values = {name: getattr(alone, name).detach().clone() for name in rates}
    values["constant"] = alone.sh[:, :1].detach().clone()
    if colored:
        rates["constant"] = options.color_rate
    fitted = [{"params": [values[name].requires_grad_()], "lr": rate, "first": rate} for name, rate in rates.items()]
    optimizer = torch.optim.Adam(fitted, eps=EPS)
    optimizer.param_groups[0]["eps"] = EPS / max(pixel, 1e-12)  # gradients of centres are in units of the scene
    generator = torch.Generator().manual_seed(options.seed)
    order: list[int] = []
    steps = max(options.steps, options.rounds * count)
    with torch.enable_grad():
        for step in range(steps):
            order = order or torch.randperm(count, generator=generator).tolist()
            window = windows(order.pop(), generator)
            for parameters in optimizer.param_groups:
                parameters["lr"] = parameters["first"] * 0.1 ** (step / steps)
            optimizer.zero_grad()
            _loss(_with(alone, values), window, near, colored, torch.rand(3, generator=generator)).backward()
            optimizer.step()
    return _with(alone, {name: value.detach() for name, value in values.items()})


def _with(alone: Splats, values: dict[str, Tensor]) -> Splats:
    return replace(
        alone,
        means=values["means"],
        quats=values["quats"],
        scales=values["scales"],
        opacities=values["opacities"],
        sh=torch.cat([values["constant"], alone.sh[:, 1:]], dim=1),
    )


def _loss(splats: Splats, window: Window, near: float, colored: bool, background: Tensor) -> Tensor:
    """Sum over pixels of how far what is drawn is from what is shown, over a background.

    Colors are asked for where the object is: what sticks out has to go, and what is hidden keeps its own.
    """
    colors, alpha = _draw(splats, window.camera, near, colored)
    wrong = window.asked * (alpha - window.shown.float()).abs()
    loss = torch.where(window.shown, wrong, OUTSIDE * wrong).sum()
    loss = loss + STAYING * ((1 - window.asked) * (alpha - window.before).abs()).sum()
    if not colored or window.photograph is None:
        return loss
    drawn = colors + (1 - alpha[..., None]) * background.to(colors)
    wanted = window.photograph.to(colors.device).float() / 255
    return loss + (window.shown * (drawn - wanted).abs().mean(dim=-1)).sum()


def _draw(
    splats: Splats, camera: Camera, near: float, colored: bool = False, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Colors [h, w, D], or composited weights [N, 1], and alpha [h, w] of Gaussians alone."""
    plain = splats.means.new_zeros(len(splats), 1) if weights is None else weights
    colors, alpha, _ = rasterization(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        splats.opacities.sigmoid(),
        splats.sh if colored else plain,
        camera.viewmat[None].to(splats.means),
        camera.K[None].to(splats.means),
        camera.width,
        camera.height,
        near_plane=near,
        sh_degree=splats.sh_degree if colored else None,
        packed=False,
        rasterize_mode=splats.rasterize_mode,
    )
    return colors[0], alpha[0, ..., 0]


def _within(shown: Tensor, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A window [h, w], or a part of a large one around a pixel of the object's border, as `_box`."""
    height, width = shown.shape
    if max(height, width) <= LARGEST:
        return 0, 0, width, height
    border = torch.zeros_like(shown)
    border[1:] |= shown[1:] != shown[:-1]
    border[:, 1:] |= shown[:, 1:] != shown[:, :-1]
    places = border.flatten().nonzero()[:, 0]
    if not len(places):
        places = shown.flatten().nonzero()[:, 0]
    place = int(places[int(torch.randint(len(places), (1,), generator=generator))])
    x0, x1 = _span(place % width, width)
    y0, y1 = _span(place // width, height)
    return x0, y0, x1, y1


def _span(middle: int, size: int) -> tuple[int, int]:
    """Begin and end of at most `LARGEST` pixels around one of `size`."""
    begin = min(max(middle - LARGEST // 2, 0), max(size - LARGEST, 0))
    return begin, min(begin + LARGEST, size)


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """Left, upper, right and lower end of what is set in a mask [H, W], and `PAD` pixels around it."""
    height, width = mask.shape
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    x0, x1 = max(int(columns[0]) - PAD, 0), min(int(columns[-1]) + 1 + PAD, width)
    y0, y1 = max(int(rows[0]) - PAD, 0), min(int(rows[-1]) + 1 + PAD, height)
    return x0, y0, x1, y1


def _taken(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    x0, y0, x1, y1 = box
    return image[y0:y1, x0:x1]


def _cropped(camera: Camera, box: tuple[int, int, int, int]) -> Camera:
    """The camera of a part of its picture."""
    x0, y0, x1, y1 = box
    K = camera.K.clone()
    K[:2, 2] -= K.new_tensor([x0, y0])
    return Camera(camera.viewmat, K, x1 - x0, y1 - y0)
