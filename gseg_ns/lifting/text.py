"""Open-vocabulary segmentation by votes (SAGA, appendix A.3): masks of all views, grouped in 3D, judged by CLIP.

No language field is trained. Every 2D mask is encoded once by CLIP's image encoder; masks that select the same
Gaussians are one target; a text picks the targets whose masks agree with it on the average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.files import atomic_path
from gseg_ns.lifting.affinity import gated
from gseg_ns.lifting.similarity import similarity
from gseg_ns.lifting.templates import TEMPLATES
from gseg_ns.masks import MaskSet
from gseg_ns.reading import read_npz, reading, reason

CANONICAL = ("object", "things", "stuff", "texture")
"""Texts that a prompt must win against (LERF's, as the official code uses them)."""

CLIP = "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
"""The CLIP model of the paper, by its name for `transformers`."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class TextImageEncoder(Protocol):
    """Puts pictures and texts into one space."""

    size: int
    """Side of the square pictures that it takes."""

    def images(self, pictures: Tensor) -> Tensor:
        """[n, 3, size, size] float in 0..1 to [n, E] unit vectors."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """[n, E] unit vectors."""
        ...


class ClipEncoder:
    """CLIP as the `transformers` package has it."""

    def __init__(self, model: Any, tokenizer: Callable[..., Any], device: torch.device | str = "cpu") -> None:
        """Wrap a loaded model.

        Args:
            model: `transformers.CLIPModel`.
            tokenizer: its tokenizer.
            device: where to run.
        """
        self.model = model.eval().to(device)
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.size = int(model.config.vision_config.image_size)

    @staticmethod
    def load(name: str = CLIP, device: torch.device | str = "cpu") -> ClipEncoder:
        """Load weights by name (downloaded once by `transformers`) or from a folder.

        Raises:
            GsegError: the package or the weights are missing.
        """
        try:
            from transformers import AutoTokenizer, CLIPModel
        except ImportError as error:
            raise missing_extra("Text prompts need CLIP", "text") from error
        try:
            return ClipEncoder(CLIPModel.from_pretrained(name), AutoTokenizer.from_pretrained(name), device)
        except Exception as error:  # whatever its parsers say of damaged files
            raise GsegError(
                f"The CLIP model {name} could not be loaded ({reason(error)}). Name a folder that has it, "
                "or connect to the network once."
            ) from error

    @torch.no_grad()
    def images(self, pictures: Tensor) -> Tensor:
        """See `TextImageEncoder`."""
        mean, std = (torch.tensor(value, device=self.device)[:, None, None] for value in (_MEAN, _STD))
        found = self.model.get_image_features(pixel_values=(pictures.to(self.device) - mean) / std)
        return F.normalize(_embedding(found).float(), dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """See `TextImageEncoder`."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        found = self.model.get_text_features(
            input_ids=tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
        )
        return F.normalize(_embedding(found).float(), dim=-1)


def _embedding(found: Any) -> Tensor:
    """The projected embedding, which newer versions of transformers wrap."""
    return found if isinstance(found, Tensor) else found.pooler_output


def masked_crops(image: Tensor, masks: MaskSet, size: int) -> Tensor:
    """Each mask alone: its box, black outside of it, stretched to a square (as the official code).

    Args:
        image: [H, W, 3] uint8.
        masks: of the image's size, none of them empty.
        size: side of the squares.

    Returns:
        [M, 3, size, size] float in 0..1.
    """
    picture = image[..., :3].permute(2, 0, 1).float() / 255
    crops = []
    for index, (x, y, width, height) in enumerate(masks.bboxes.tolist()):
        inside = masks.select([index]).decode()[0]
        box = (slice(y, y + max(height, 1)), slice(x, x + max(width, 1)))
        crop = (picture[:, box[0], box[1]] * inside[box])[None]
        crops.append(F.interpolate(crop, (size, size), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(crops) if crops else picture.new_zeros(0, 3, size, size)


@torch.no_grad()
def encode_masks(image: Tensor, masks: MaskSet, encoder: TextImageEncoder, batch: int = 64) -> Tensor:
    """CLIP features [M, E] float16 of the masks of one image (see `masked_crops`)."""
    rows = [
        encoder.images(masked_crops(image, masks.select(range(start, min(start + batch, len(masks)))), encoder.size))
        for start in range(0, len(masks), batch)
    ]
    return torch.cat(rows).half().cpu() if rows else torch.zeros(0, 0, dtype=torch.half)


def relevancy(images: Tensor, positive: Tensor, negatives: Tensor, temperature: float = 10.0) -> Tensor:
    """LERF's relevancy: the least of the softmaxes of the text against each canonical text.

    Args:
        images: [M, E] unit vectors.
        positive: [E] unit vector.
        negatives: [K, E] unit vectors.
        temperature: factor on the cosines.

    Returns:
        [M] in 0..1.
    """
    images = images.to(positive)
    own = (images @ positive)[:, None]
    return torch.sigmoid(temperature * (own - images @ negatives.T)).amin(dim=1)


def text_feature(encoder: TextImageEncoder, text: str, templates: Literal["imagenet", "short"] = "imagenet") -> Tensor:
    """The encoding [E] of a text, averaged over sentences that it is put into (`gseg_ns.lifting.templates`).

    Raises:
        GsegError: the text is empty.
    """
    if not text.strip():
        raise GsegError("The text prompt is empty. Name what you want, e.g. 'a red mug'.")
    sentences = [template.format(text.strip()) for template in TEMPLATES[templates]]
    return F.normalize(encoder.texts(sentences).mean(dim=0), dim=-1)


@dataclass(frozen=True)
class VoteOptions:
    """How masks vote (the official notebook's values)."""

    anchor_share: float = 0.01
    """Share of the Gaussians that masks are compared by."""
    anchors_at_least: int = 2000
    """But not fewer than this many, where the scene has them."""
    anchor_similarity: float = 0.5
    """A mask selects the anchors whose cosine with it, at its own scale, is above this."""
    min_cluster_size: int = 30
    """Masks that a target has at least."""
    epsilon: float = 0.25
    """Targets nearer than this (1 - IoU) are one."""
    max_neighbours: int = 512
    """Nearest masks kept of each mask, which bounds the memory: 24 bytes each."""
    relevant: float = 0.45
    """Targets whose mean relevancy is above this are selected; if none is, the best one."""
    similarity: float = 0.85
    """Least cosine of a selected Gaussian with a target's best mask."""
    templates: Literal["imagenet", "short"] = "imagenet"
    """Sentences that a text is put into: the paper's 80, or five that take a sixteenth of the time."""


def mask_features(feature_image: Tensor, gates: Tensor, masks: MaskSet) -> Tensor:
    """Scale-conditioned feature of each mask (Eq. 14): its mean rendered feature under the gate of its own scale.

    The gate is the same for all pixels of a mask, so the mean is taken over regions of the ungated image first.

    Args:
        feature_image: [H, W, D] rendered, ungated.
        gates: [M, D] gate of each mask's scale.
        masks: of the view.

    Returns:
        [M, D].
    """
    region, members = masks.regions
    flat = region.flatten().long().to(feature_image.device)
    sums = feature_image.new_zeros(len(members), feature_image.shape[-1]).index_add_(
        0, flat, feature_image.flatten(0, 1)
    )
    total = members.T.to(sums) @ sums
    return gates * total / masks.areas.to(sums).clamp_min(1)[:, None]


def shown_groups(masks: MaskSet, labels: Sequence[Tensor], least: float = 0.5) -> Tensor:
    """The group that each mask of a view shows: the one of the largest IoU with it, where the view has masks.

    Pixels in no mask say nothing: groups spread over what nothing was said about.

    Args:
        masks: of the view, none of them empty.
        labels: [H, W] integers, label images of the view, 0 = none; groups of several images have numbers that differ.
        least: IoU below which a mask shows no group: it is a part of one, or more than one.

    Returns:
        [M] int64, -1 for none.
    """
    region, members = masks.regions
    best = torch.full((len(masks),), least)
    found = torch.full((len(masks),), -1, dtype=torch.long)
    for image in labels:
        names, index = image.long().unique(return_inverse=True)
        table = torch.bincount(
            region.flatten().long() * len(names) + index.flatten(), minlength=len(members) * len(names)
        )
        table = table.view(len(members), len(names)).float() * members.any(dim=1, keepdim=True)
        shared = members.T.float() @ table  # [M, G]
        union = shared.sum(dim=1, keepdim=True) + table.sum(dim=0) - shared
        overlap, place = torch.where(names > 0, shared / union.clamp_min(1), 0.0).max(dim=1)
        better = overlap >= best
        best, found = torch.where(better, overlap, best), torch.where(better, names[place], found)
    return found


def selected_anchors(anchors: Tensor, features: Tensor, gates: Tensor, least: float) -> Tensor:
    """Which anchor Gaussians each mask selects: [M, A] bool.

    Args:
        anchors: [A, D] features of anchor Gaussians, ungated.
        features: [M, D] `mask_features`.
        gates: [M, D].
        least: cosine.
    """
    rows = [
        gated(anchors, gate) @ F.normalize(feature, dim=0) > least
        for feature, gate in zip(features, gates, strict=True)
    ]
    return torch.stack(rows) if rows else torch.zeros(0, len(anchors), dtype=torch.bool)


def cluster_masks(selected: Tensor, options: VoteOptions) -> np.ndarray[Any, Any]:
    """Group masks that select the same anchors: HDBSCAN over 1 - IoU (the vote graph).

    Only pairs that share anchors are stored, and of these the nearest: no dense matrix over all masks.

    Args:
        selected: [M, A] bool.
        options: settings; every field has its meaning beside it.

    Returns:
        [M] integers, -1 for noise.
    """
    count = len(selected)
    if count < max(options.min_cluster_size, 2):
        return np.full(count, -1)
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.sparse.csgraph import connected_components
    from sklearn.cluster import HDBSCAN

    table = csr_matrix(selected.cpu().numpy(), dtype=np.float32)
    sizes = np.asarray(table.sum(axis=1)).ravel()
    rows: list[np.ndarray[Any, Any]] = []
    columns: list[np.ndarray[Any, Any]] = []
    values: list[np.ndarray[Any, Any]] = []
    block = max(1, (1 << 24) // count)
    for start in range(0, count, block):
        shared = (table[start : start + block] @ table.T).tocsr()
        for offset in range(shared.shape[0]):
            row = start + offset
            entry = slice(shared.indptr[offset], shared.indptr[offset + 1])
            others, common = shared.indices[entry], shared.data[entry]
            distance = 1.0 - common / np.maximum(sizes[row] + sizes[others] - common, 1)
            keep = np.argsort(distance, kind="stable")[: options.max_neighbours]
            keep = keep[others[keep] != row]
            rows.append(np.full(len(keep), row))
            columns.append(others[keep])
            values.append(distance[keep])
    # Stored zeros would count as absent.
    graph = coo_matrix(
        (np.maximum(np.concatenate(values), 1e-6).astype(float), (np.concatenate(rows), np.concatenate(columns))),
        (count, count),
    ).tocsr()
    graph = graph.maximum(graph.T)
    # All other distances are 1. Enough of them are stored that parts hang together and that every mask has the
    # neighbours that its density is measured by.
    far = _far_links(graph, connected_components(graph, directed=False)[1], options.min_cluster_size)
    graph = (graph + far + coo_matrix((np.full(count, 1e-9), (np.arange(count), np.arange(count))))).tocsr()
    labels = HDBSCAN(
        min_cluster_size=options.min_cluster_size, metric="precomputed", allow_single_cluster=True, copy=True
    ).fit_predict(graph)
    return _merge_near(np.asarray(labels), graph, options.min_cluster_size, options.epsilon)


def _merge_near(labels: np.ndarray[Any, Any], graph: Any, neighbours: int, epsilon: float) -> np.ndarray[Any, Any]:
    """Make clusters one that are linked at a mutual reachability distance below epsilon.

    What HDBSCAN's `cluster_selection_epsilon` is for; scikit-learn's fails under numpy 2.4 when a cluster reaches the
    root of the tree.

    Args:
        labels: [M], -1 for noise.
        graph: [M, M] CSR of distances; every row has at least `neighbours` entries or all that there are.
        neighbours: the core distance is that to the neighbour of this rank.
        epsilon: distance.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = (graph.data[graph.indptr[row] : graph.indptr[row + 1]] for row in range(graph.shape[0]))
    core = np.array([np.partition(row, k := min(neighbours, len(row)) - 1)[k] for row in rows])
    links = graph.tocoo()
    reach = np.maximum(links.data, np.maximum(core[links.row], core[links.col]))
    one, two = labels[links.row], labels[links.col]
    near = (reach < epsilon) & (one >= 0) & (two >= 0)
    count = int(labels.max()) + 1
    if count <= 1:
        return labels
    merged = connected_components(coo_matrix((np.ones(near.sum()), (one[near], two[near])), (count, count)))[1]
    return np.where(labels >= 0, merged[labels], -1)


def _far_links(graph: Any, part: np.ndarray[Any, Any], neighbours: int) -> Any:
    """Links of distance 1 between masks that share no anchor: a chain through all parts, and up to `neighbours` a mask.

    Args:
        graph: [M, M] symmetric CSR of the distances that are stored.
        part: [M] connected part of each mask.
        neighbours: entries that each row shall have.

    Returns:
        [M, M] symmetric CSR, disjoint from `graph`.
    """
    from scipy.sparse import csr_matrix

    count = graph.shape[0]
    first = np.unique(part, return_index=True)[1]
    pairs = [np.stack([first[:-1], first[1:]], axis=1)]
    for short in np.flatnonzero(np.diff(graph.indptr) < neighbours):
        stored = graph.indices[graph.indptr[short] : graph.indptr[short + 1]]
        others = np.setdiff1d(np.arange(min(2 * neighbours + 1, count)), np.append(stored, short))[:neighbours]
        pairs.append(np.stack([np.full(len(others), short), others], axis=1))
    rows, columns = np.concatenate(pairs).T
    links = csr_matrix((np.ones(len(rows)), (rows, columns)), (count, count))
    links = links.maximum(links.T)
    links.data[:] = 1.0
    return links


@dataclass(frozen=True)
class VoteGraph:
    """The masks of all views with their 3D targets. Made once a run, asked for each text."""

    clip: Tensor
    """[M, E] float16 image features."""
    features: Tensor
    """[M, D] `mask_features`; [M, 0] where targets are groups that are known."""
    gates: Tensor
    """[M, D] gates of their scales."""
    targets: Tensor
    """[M] int64 target of each mask, -1 for none: a cluster of masks, or a group."""

    def save(self, path: Path) -> None:
        """Write to one .npz."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file, **{name: getattr(self, name).cpu().numpy() for name in ("clip", "features", "gates", "targets")}
            )

    @staticmethod
    def read(path: Path) -> VoteGraph:
        """Read what `save` wrote.

        Raises:
            GsegError: the file is none.
        """
        about = ("a stored vote graph", "Remove it; it is made anew.")
        names = ("clip", "features", "gates", "targets")
        with reading(path, *about):
            arrays = read_npz(path, names, *about)
            clip, features, gates, targets = (torch.from_numpy(arrays[name]) for name in names)
            if any(not values.is_floating_point() or values.ndim != 2 for values in (clip, features, gates)):
                raise ValueError("encodings or features that are no table of numbers")
            if targets.ndim != 1 or targets.dtype not in (torch.int32, torch.int64) or features.shape != gates.shape:
                raise ValueError("targets that are no list, or not a gate a feature")
            if not len(clip) == len(features) == len(targets):
                raise ValueError("tables of different lengths")
            if not all(bool(values.isfinite().all()) for values in (clip, features, gates)):
                raise ValueError("values that are no numbers")
            last = len(targets) if features.shape[1] else 2**31
            if len(targets) and not -1 <= int(targets.min()) <= int(targets.max()) < last:
                raise ValueError("targets that there are not")
            return VoteGraph(clip, features, gates, targets.long())

    def wanted(self, positive: Tensor, negatives: Tensor, options: VoteOptions) -> list[int]:
        """The targets that a text means: those whose masks agree with it on the average (Eq. 15), or the best one.

        Args:
            positive: [E] encoding of the text.
            negatives: [K, E] encodings of `CANONICAL`.
            options: settings; every field has its meaning beside it.
        """
        score = relevancy(self.clip, positive.cpu(), negatives.cpu())
        names = [int(name) for name in self.targets.unique() if name >= 0]
        if not names:
            return []
        means = torch.stack([score[self.targets == name].mean() for name in names])
        found = [name for name, mean in zip(names, means, strict=True) if mean > options.relevant]
        return found or [names[int(means.argmax())]]

    def best_texts(self, texts: Sequence[Tensor]) -> dict[int, tuple[int, float]]:
        """Which of some texts fits each target best: that of the highest mean cosine with its masks.

        Args:
            texts: K encodings [E], at least one.

        Returns:
            of a target its text, and by how much the cosine is above that of the next best; 0 of a single text.
        """
        cosines = self.clip.float() @ torch.stack([*texts]).cpu().float().T  # [M, K]
        found = {}
        for target in self.targets.unique().tolist():
            if target >= 0:
                ranked, order = cosines[self.targets == target].mean(dim=0).sort(descending=True)
                found[target] = int(order[0]), float(ranked[0] - ranked[1]) if len(ranked) > 1 else 0.0
        return found

    def categorize(self, affinity: Tensor, texts: Sequence[Tensor], options: VoteOptions) -> Tensor:
        """The text that fits each Gaussian best, by the target whose best mask it is most like (SAGA, Table 3).

        Args:
            affinity: [N, D] features of the Gaussians, ungated.
            texts: K encodings [E].
            options: settings; every field has its meaning beside it.

        Returns:
            [N] int64, counted from 1; 0 where no target is similar.
        """
        answer = torch.zeros(len(affinity), dtype=torch.long, device=affinity.device)
        likeness = affinity.new_full((len(affinity),), options.similarity)
        for target, (text, _) in self.best_texts(texts).items():
            rows = (self.targets == target).nonzero().flatten()
            cosines = self._like(affinity, rows[(self.clip[rows].float() @ texts[text].cpu().float()).argmax()])
            answer = torch.where(cosines > likeness, text + 1, answer)
            likeness = torch.maximum(likeness, cosines)
        return answer

    def _like(self, affinity: Tensor, mask: Tensor) -> Tensor:
        """How like a mask each Gaussian is, at the mask's scale: cosines [N]."""
        gate = self.gates[mask].to(affinity)
        # The mask's feature is gated already; `similarity` gates its queries.
        return similarity(affinity, (self.features[mask].to(affinity) / gate.clamp_min(1e-6))[None], gate)

    def select(self, affinity: Tensor, positive: Tensor, negatives: Tensor, options: VoteOptions) -> Tensor:
        """Gaussians that a text means.

        Args:
            affinity: [N, D] features of the Gaussians, ungated.
            positive: [E] encoding of the text.
            negatives: [K, E] encodings of `CANONICAL`.
            options: settings; every field has its meaning beside it.

        Returns:
            bool [N].
        """
        chosen = torch.zeros(len(affinity), dtype=torch.bool, device=affinity.device)
        score = relevancy(self.clip, positive.cpu(), negatives.cpu())
        for name in self.wanted(positive, negatives, options):
            rows = (self.targets == name).nonzero().flatten()
            chosen |= self._like(affinity, rows[score[rows].argmax()]) > options.similarity
        return chosen


def draw_anchors(count: int, options: VoteOptions, seed: int = 0) -> Tensor:
    """Which Gaussians are anchors: [A] int64."""
    wanted = min(max(round(count * options.anchor_share), options.anchors_at_least), count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:wanted]
