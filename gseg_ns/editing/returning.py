"""Taking an object back that was moved in another program: which one it is, and where it went."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.editing.operations import Edited, Operation, Remove, Swap, Transform, centre_of
from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask
from gseg_ns.splats import Placement, Splats, transform
from gseg_ns.splats.ply_header import PlyHeader
from gseg_ns.splats.transform import rotation_to_quaternion

_SAME = 1e-3
"""How far opacities (logits) and constant colors of the same Gaussian may be apart in two files."""
_FITS = 2e-3
"""How far Gaussians may be, for the size of their object, from where a similarity puts them."""
_FEWEST = 4
"""Pairs of Gaussians that say where an object went."""
_SHARE = 0.3
"""Of a file's Gaussians: as many have to be an object's for the file to be that object."""


@dataclass(frozen=True)
class Similarity:
    """p -> scale * rotation @ p + translation, float64."""

    rotation: Tensor  # [3, 3]
    translation: Tensor  # [3]
    scale: float

    def of(self, points: Tensor) -> Tensor:
        """Points [n, 3] where they go to."""
        return self.scale * points.double() @ self.rotation.T + self.translation

    def describe(self) -> str:
        """For people: how far, how much turned, how much larger."""
        angle = np.degrees(np.arccos(np.clip((float(self.rotation.trace()) - 1) / 2, -1, 1)))
        return f"turned by {angle:.2f} degrees, scaled by {self.scale:.4g}"


@dataclass(frozen=True)
class Returned:
    """What a file is, seen from the scene that it came from."""

    rows: Tensor  # bool [N]
    """The scene's Gaussians that it stands for."""
    group: int
    """Their label."""
    pairs: Tensor  # int64 [m, 2]
    """Gaussians that are the same: row in the scene, row in the file."""
    moved: Similarity | None
    """From where they are in the scene to where the file has them; None: no similarity takes them there."""
    count: int
    """Gaussians of the file."""
    unchanged: bool
    """Whether nothing but the place of what the file has is different: the scene's own Gaussians can be moved, with
    view-dependent colors that other programs do not turn, and columns that they do not know."""

    @property
    def gone(self) -> Tensor:
        """The scene's Gaussians that the file has no more: bool [N]."""
        gone = self.rows.clone()
        gone[self.pairs[:, 0]] = False
        return gone


def fit_similarity(before: Tensor, after: Tensor) -> Similarity:
    """The similarity that takes points nearest to others (Umeyama 1991), whatever a few of them do.

    Args:
        before: [n, 3].
        after: [n, 3], their counterparts.

    Raises:
        ValueError: the points are fewer than three, or all in one place.
    """
    before, after = before.double(), after.double()
    used = torch.ones(len(before), dtype=torch.bool)
    found = _umeyama(before, after)
    for _ in range(10):
        away = (found.of(before) - after).norm(dim=1)
        closer = away <= max(4 * float(away[used].median()), 1e-9 * float(after.abs().max()))
        if torch.equal(closer, used) or int(closer.sum()) < _FEWEST:
            break
        used = closer
        found = _umeyama(before[used], after[used])
    return found


def _umeyama(before: Tensor, after: Tensor) -> Similarity:
    middle, target = before.mean(dim=0), after.mean(dim=0)
    one, other = before - middle, after - target
    spread = float(one.square().sum())
    if len(before) < 3 or spread <= 0:
        raise ValueError("a similarity needs three points that are apart")
    u, s, vt = torch.linalg.svd(other.T @ one)
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(sign) @ vt
    scale = float((s * sign).sum()) / spread
    return Similarity(rotation, target - scale * rotation @ middle, scale)


def recognise(
    scene: Splats, groups: Tensor, file: Splats, header: PlyHeader | None = None, group: int | None = None
) -> Returned:
    """Find out what came back.

    The object is the one that is named, else the one that the file's header names, else the one that most Gaussians of
    the file are taken from. Gaussians are known again by opacity and constant color, which no move changes; where
    these were changed, by their order, if there are as many as before.

    Args:
        scene: N Gaussians, in the coordinates that the file was exported in (see `from_file`).
        groups: int [N], 0 for none.
        file: what came back.
        header: what its comments say.
        group: the object, if it is known.

    Raises:
        GsegError: no object of the scene is in the file, or there is none of that number.
    """
    groups = groups.to("cpu", torch.int64)
    scene, file = scene.to("cpu"), file.to("cpu")
    if group is None and header is not None and header.group is not None and bool((groups == header.group).any()):
        group = header.group
    if group is None:
        pairs = _alike(scene, file)
        labels = groups[pairs[:, 0]]
        labels = labels[labels > 0]
        if len(labels) < max(_FEWEST, _SHARE * len(file)):
            raise GsegError(
                "The file says of no object that it is, and its Gaussians are not those of one: give the number of the "
                "object that it stands for."
            )
        group = int(labels.mode().values)
    rows = groups == group
    if group <= 0 or not bool(rows.any()):
        raise GsegError(f"The scene has no object {group}.")
    own = rows.nonzero()[:, 0]
    before = scene.subset(own)
    pairs = _alike(before, file)
    moved = _moved(before, file, pairs)
    if moved is None and len(before) == len(file):
        ordered = torch.arange(len(file))[:, None].expand(-1, 2)
        moved = _moved(before, file, ordered)
    if moved is None:
        return Returned(rows, group, torch.zeros(0, 2, dtype=torch.int64), None, len(file), False)
    pairs = _placed_alike(before, file, moved)
    unchanged = len(pairs) == len(file) and _same_but_placed(before, file, pairs, moved)
    pairs = torch.stack([own[pairs[:, 0]], pairs[:, 1]], dim=1)
    return Returned(rows, group, pairs, moved, len(file), unchanged)


def from_file(scene: Placement, file: Placement, splats: Splats) -> Splats:
    """A file's Gaussians in the coordinates of another file of the same run."""
    turn = scene.rotation @ file.rotation.T
    scale = scene.scale / file.scale
    shift = scene.translation - scale * turn @ file.translation
    if scale == 1 and torch.equal(turn, torch.eye(3, dtype=torch.float64)) and not bool(shift.any()):
        return splats
    return transform(splats, turn, shift, scale)


def merged(scene: Splats, labels: Tensor, file: Splats, back: Returned) -> tuple[Splats, Tensor]:
    """The scene with what came back in it, and the labels of that.

    Args:
        scene: N Gaussians on the CPU.
        labels: int [N].
        file: in the scene's coordinates.
        back: see `recognise`.
    """
    if back.unchanged and back.moved is not None:
        own = back.pairs[:, 0].sort().values
        moved = transform(scene.subset(own), back.moved.rotation, back.moved.translation, back.moved.scale)
        result = scene.clone()
        for name in ("means", "quats", "scales", "sh"):
            getattr(result, name)[own] = getattr(moved, name)
        return result.subset(~back.gone), labels[~back.gone]
    known = {name: column for name, column in file.extra.items() if name in scene.extra}
    kept = scene.subset(~back.rows)
    result = Splats.cat([kept, replace(file, extra=known)])
    return result, torch.cat([labels[~back.rows], labels.new_full((len(file),), back.group)])


def _alike(scene: Splats, file: Splats) -> Tensor:
    """Pairs [m, 2] of Gaussians with the same opacity and constant color, where only one of the scene has these."""
    from scipy.spatial import cKDTree

    tree = cKDTree(_fixed(scene))
    if len(scene) < 2:
        return torch.zeros(0, 2, dtype=torch.int64)
    away, nearest = tree.query(_fixed(file), k=2)
    sure = (away[:, 0] < _SAME) & (away[:, 1] > 4 * away[:, 0] + 1e-6)
    return torch.from_numpy(np.stack([nearest[sure, 0], sure.nonzero()[0]], axis=1).astype(np.int64))


def _fixed(splats: Splats) -> NDArray[np.float64]:
    """What no move changes: [n, 4]."""
    return torch.cat([splats.opacities[:, None], splats.sh[:, 0]], dim=1).double().nan_to_num().numpy()


def _moved(before: Splats, file: Splats, pairs: Tensor) -> Similarity | None:
    if len(pairs) < max(_FEWEST, _SHARE * min(len(before), len(file))):
        return None
    one, other = before.means[pairs[:, 0]], file.means[pairs[:, 1]]
    try:
        found = fit_similarity(one, other)
    except ValueError:
        return None
    if not found.scale > 0:
        return None
    size = _size(other)
    fits = (found.of(one) - other).norm(dim=1) < _FITS * size
    return found if float(fits.double().mean()) > 0.5 else None


def _placed_alike(before: Splats, file: Splats, moved: Similarity) -> Tensor:
    """Pairs [m, 2] of Gaussians that a similarity takes to each other, one to one."""
    from scipy.spatial import cKDTree

    places = moved.of(before.means).numpy()
    there = file.means.double().numpy()
    size = _size(file.means)
    # Places first; of several in one place, the one of the same opacity and color.
    weight = _FITS * size / _SAME / 100
    tree = cKDTree(np.concatenate([places, weight * _fixed(before)], axis=1))
    _, nearest = tree.query(np.concatenate([there, weight * _fixed(file)], axis=1))
    near = np.linalg.norm(places[nearest] - there, axis=1) < _FITS * size
    chosen, first = np.unique(nearest[near], return_index=True)
    return torch.from_numpy(np.stack([chosen, near.nonzero()[0][first]], axis=1).astype(np.int64))


def _same_but_placed(before: Splats, file: Splats, pairs: Tensor, moved: Similarity) -> bool:
    one, other = before.subset(pairs[:, 0]), file.subset(pairs[:, 1])
    fixed = bool((np.abs(_fixed(one) - _fixed(other)) < _SAME).all())
    # Blender moves points, and knows nothing of their sizes and turns.
    sizes = other.scales.double() - one.scales
    return fixed and any(bool(((sizes - by).abs() < 0.01).all()) for by in (float(np.log(moved.scale)), 0.0))


def _size(means: Tensor) -> float:
    means = means.double()
    return max(float((means - means.median(dim=0).values).norm(dim=1).median()), 1e-12)


def told(back: Returned) -> str:
    """What came back, in a sentence for people."""
    gone = int(back.gone.sum())
    text = f"Object {back.group}: {len(back.pairs)} of {int(back.rows.sum())} Gaussians are known again"
    if back.moved is None:
        return f"{text}; it was not moved as a whole, and is taken as it lies in the file"
    text = f"{text}, {back.moved.describe()}"
    if back.unchanged:
        return f"{text}; {gone} are gone" if gone else text
    return f"{text}; it was changed otherwise too, and is taken as it lies in the file"


def moves(back: Returned, file: Splats, path: str, frame: Placement, scene: Edited) -> list[Operation]:
    """The edits that do to a scene what was done to the object elsewhere.

    Args:
        back: see `recognise`.
        file: in the scene's coordinates.
        path: of the file.
        frame: from the scene's coordinates to those that the file was exported in.
        scene: as it is before these edits.
    """
    mask = PackedMask.pack(back.rows)
    if back.unchanged and back.moved is not None:
        done: list[Operation] = [Remove(PackedMask.pack(back.gone))] if bool(back.gone.any()) else []
        x, y, z = back.moved.translation.tolist()
        return [*done, Transform(mask, _quaternion(back.moved.rotation), (x, y, z), back.moved.scale, (0.0, 0.0, 0.0))]
    swap = Swap(mask, path, match_size=False)
    there = swap(scene)
    new = torch.zeros(len(there), dtype=torch.bool, device=there.splats.device)
    new[len(scene) :] = True
    # A swap puts centre on centre, and takes the file's axes and lengths for the scene's.
    extent = (file.means.double() - file.means.double().mean(dim=0)).square().sum().sqrt()
    now = there.splats.means[new].double().cpu()
    size = float(extent / (now - now.mean(dim=0)).square().sum().sqrt().clamp_min(1e-12))
    goal = centre_of(file, torch.ones(len(file), dtype=torch.bool)).double().cpu()
    x, y, z = (goal - centre_of(there.splats, new).double().cpu()).tolist()
    return [swap, Transform(PackedMask.pack(new), _quaternion(frame.rotation.T), (x, y, z), size)]


def _quaternion(rotation: Tensor) -> tuple[float, float, float, float]:
    w, x, y, z = rotation_to_quaternion(rotation).tolist()
    return w, x, y, z
