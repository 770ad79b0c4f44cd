"""Panoptic quality of a scene: the pixels of all views are one image, so that ids must agree between views."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.evaluation.overlap import IdMaps, as_ids, count_overlaps, resize_nearest

MESSY_ROOMS_SIZE = (512, 512)
"""Height and width at which Messy Rooms is scored."""
MESSY_ROOMS_MIN_SHARE = 0.005
"""Classes with a smaller share of the ground-truth pixels are not scored on Messy Rooms."""


@dataclass(frozen=True)
class ClassPanoptic:
    """Panoptic quality of one class, in percent."""

    pq: float
    """sq * rq: sum of matched IoU / (TP + FP / 2 + FN / 2)."""
    sq: float
    """Mean IoU of matched segments."""
    rq: float
    """F1 of segments."""
    true_positives: int
    """Matched pairs: same class, IoU > 0.5."""
    false_positives: int
    """Predicted segments without a match."""
    false_negatives: int
    """Ground-truth segments without a match."""


@dataclass(frozen=True)
class PanopticScores:
    """Means over classes, in percent."""

    pq: float
    sq: float
    rq: float
    classes: dict[int, ClassPanoptic]
    """Per class that has a segment in either map."""


def panoptic_quality(
    pred_semantic: IdMaps,
    pred_instance: IdMaps,
    gt_semantic: IdMaps,
    gt_instance: IdMaps,
    things: Collection[int],
    stuffs: Collection[int],
    min_share: float = 0.0,
) -> PanopticScores:
    """Scene-level PQ (Kirillov et al., CVPR 2019, over the pixels of all views as one image: Siddiqui et al., 2023).

    Segments of the same class match when their IoU is above 0.5. Pixels of other ground-truth classes are void: they
    belong to no segment, and a predicted segment that lies mostly on void is not held against the prediction. Pixels
    of other predicted classes are unlabelled: they belong to no predicted segment. (torchmetrics also forgives
    ground-truth segments that are mostly unlabelled in the prediction; here leaving things out is not free.)

    Args:
        pred_semantic: classes, [V, H, W] or a sequence of [H, W]; resized (nearest) to the ground truth.
        pred_instance: instance ids, consistent over views; not looked at for stuff, which is one segment a class.
        gt_semantic: classes of the same views.
        gt_instance: instance ids.
        things: classes with instances.
        stuffs: classes without.
        min_share: classes with a smaller share of the ground-truth pixels are left out of the means.

    Raises:
        ValueError: different numbers of views, none, or a class that is both thing and stuff.
    """
    if set(things) & set(stuffs):
        raise ValueError(f"classes {sorted(set(things) & set(stuffs))} are both thing and stuff")
    known = sorted({*things, *stuffs})
    stride = 1 + max((int(as_ids(m).max()) for maps in (pred_instance, gt_instance) for m in maps), default=0)
    void = len(known) * stride
    gt_segments = [_segments(s, i, known, things, stride) for s, i in zip(gt_semantic, gt_instance, strict=True)]
    pred_segments = [_segments(s, i, known, things, stride) for s, i in zip(pred_semantic, pred_instance, strict=True)]
    overlaps = count_overlaps(pred_segments, gt_segments, ignore_pred=(void,))
    table = overlaps.total().to(torch.float64)
    is_void = overlaps.gt_ids == void
    pred_area = table[:, :-1].sum(dim=0)
    on_void = table[is_void, :-1].sum(dim=0)
    shared = table[~is_void, :-1]
    gt_area = table[~is_void].sum(dim=1)
    gt_class, pred_class = overlaps.gt_ids[~is_void] // stride, overlaps.pred_ids // stride
    union = gt_area[:, None] + (pred_area - on_void)[None] - shared
    iou = torch.where(gt_class[:, None] == pred_class[None], shared / union.clamp(min=1), 0.0)
    # IoU > 0.5 leaves at most one partner on either side: no assignment is needed.
    match = iou > 0.5
    classes: dict[int, ClassPanoptic] = {}
    shares: dict[int, float] = {}
    for index, name in enumerate(known):
        rows, columns = gt_class == index, pred_class == index
        hits = match[rows]
        tp = int(hits.sum())
        fn = int(rows.sum()) - tp
        fp = int((columns & ~match.any(dim=0) & (on_void <= 0.5 * pred_area)).sum())
        if tp + fp + fn == 0:
            continue
        sq = float(iou[rows][hits].sum()) / tp if tp else 0.0
        rq = tp / (tp + 0.5 * fp + 0.5 * fn)
        classes[name] = ClassPanoptic(100 * sq * rq, 100 * sq, 100 * rq, tp, fp, fn)
        shares[name] = float(gt_area[rows].sum() / table.sum())
    scored = [value for name, value in classes.items() if shares[name] >= min_share]
    count = max(len(scored), 1)
    return PanopticScores(
        pq=sum(c.pq for c in scored) / count,
        sq=sum(c.sq for c in scored) / count,
        rq=sum(c.rq for c in scored) / count,
        classes=classes,
    )


def instance_panoptic_quality(
    pred: IdMaps, gt: IdMaps, ignore_gt: Collection[int] = (0,), ignore_pred: Collection[int] = (0,)
) -> PanopticScores:
    """Scene-level PQ of ids without classes: every id is an instance of one class (number 1).

    Args:
        pred: predicted ids, consistent over views; resized (nearest) to the ground truth.
        gt: ground-truth ids.
        ignore_gt: void ids.
        ignore_pred: ids that mean unlabelled.

    Raises:
        ValueError: as `panoptic_quality`.
    """
    return panoptic_quality(
        [_outside(m, ignore_pred) for m in pred],
        pred,
        [_outside(m, ignore_gt) for m in gt],
        gt,
        things=(1,),
        stuffs=(),
    )


def messy_rooms_quality(
    pred_instance: IdMaps,
    gt_semantic: IdMaps,
    gt_instance: IdMaps,
    pred_semantic: IdMaps | None = None,
    size: tuple[int, int] = MESSY_ROOMS_SIZE,
) -> PanopticScores:
    """PQ^scene as Contrastive Lift (Bhalgat et al., 2023) reports it on Messy Rooms.

    Two classes: background 0 is stuff, foreground 1 is things; both maps are first brought to 512 x 512 (nearest),
    void does not exist, and the score is the mean of the two classes' PQ, less classes that cover under 0.5 %.

    Args:
        pred_instance: predicted ids of the test views (the last fifth of the frames).
        gt_semantic: 0 and 1.
        gt_instance: ground-truth ids.
        pred_semantic: 0 and 1; None: the predicted id that covers most pixels over all views is the background and
            everything else foreground, as Unified-Lift does.
        size: height and width to score at.
    """
    instances = [resize_nearest(as_ids(m), *size) for m in pred_instance]
    if pred_semantic is None:
        background = largest_id(instances)
        semantics = [(m != background).long() for m in instances]
    else:
        semantics = [resize_nearest(as_ids(m), *size) for m in pred_semantic]
    return panoptic_quality(
        semantics,
        instances,
        [resize_nearest(as_ids(m), *size) for m in gt_semantic],
        [resize_nearest(as_ids(m), *size) for m in gt_instance],
        things=(1,),
        stuffs=(0,),
        min_share=MESSY_ROOMS_MIN_SHARE,
    )


def largest_id(maps: Sequence[Tensor]) -> int:
    """The id that covers most pixels of all views together."""
    ids, counts = torch.unique(torch.cat([m.flatten() for m in maps]), return_counts=True)
    return int(ids[counts.argmax()])


def _segments(semantic: object, instance: object, known: list[int], things: Collection[int], stride: int) -> Tensor:
    """One id a segment: class index * stride + instance (0 for stuff); len(known) * stride where no class is known."""
    classes, instances = as_ids(semantic), as_ids(instance)  # type: ignore[arg-type]
    if classes.shape != instances.shape:
        raise ValueError(f"a semantic map of {tuple(classes.shape)} with instances of {tuple(instances.shape)}")
    out = torch.full_like(classes, len(known) * stride)
    for index, name in enumerate(known):
        here = classes == name
        out[here] = index * stride + (instances[here].clamp(min=0) if name in things else 0)
    return out


def _outside(ids: object, values: Collection[int]) -> Tensor:
    """1 where the id is none of `values`, else 0."""
    ids = as_ids(ids)  # type: ignore[arg-type]
    return (~torch.isin(ids, torch.tensor(sorted(values), dtype=torch.int64, device=ids.device))).long()
