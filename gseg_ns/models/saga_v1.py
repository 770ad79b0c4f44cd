"""The first version of SAGA (Cen et al., arXiv 2312.00860v1): SAM guidance and mask correspondence, one granularity."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from torch import Tensor
from torch.nn import Parameter

from gseg_ns.errors import GsegError
from gseg_ns.lifting.correspondence import mask_set_overlap, overlap_loss
from gseg_ns.lifting.pixel_pool import PixelPool, make_pool
from gseg_ns.lifting.sam_guidance import SamProjection, clutter_loss, guidance_loss, prototypes, read_embedding
from gseg_ns.masks import MaskFolder
from gseg_ns.models.affinity import AFFINITY_DIM, AffinityModel, AffinityModelConfig
from gseg_ns.transfer import upload


@dataclass
class SagaV1ModelConfig(AffinityModelConfig):
    """SAGA's first version: needs the image embeddings that SAM made beside the masks."""

    _target: type = field(default_factory=lambda: SagaV1Model)
    embeddings_dir: Path | None = None
    """Folder of image embeddings (.npz, named as the masks), relative to where the mask folder is; unless given, the
    mask folder's name with _embeddings, where `gseg masks --embeddings` puts them"""
    guidance_weight: float = 1.0
    """Weight of the SAM-guidance loss; 0 leaves it out, and needs no embeddings"""
    correspondence_weight: float = 1.0
    """Weight of the correspondence loss (lambda of the paper); 0 leaves it out"""
    clutter_weight: float = 0.1
    """Weight of the loss on Gaussians that answer to any mask; in the official code, not in the paper. Part of the
    guidance: without that (`guidance_weight` 0) there is none"""
    clutter_share: float = 0.1
    """Share of the Gaussians drawn for it in each step"""
    reduction: Literal["mean", "sum"] = "mean"
    """Of both losses over pixels, masks and pairs: means (official code), or sums (Eq. 7 and 10), which weigh the
    correspondence with pixels over masks more"""
    clip_correspondence: bool = True
    """Cosines below zero count as zero (official code); Eq. 10 has them as they are"""
    feature_init: float = 0.01
    """Size of the random features at the start. The official code starts with normal ones (1) and trains for 30 000
    steps; in a shorter run less of such a start is forgotten"""
    num_pixels: int = 1000
    """Pixels drawn from a view in each step (the official code: all of a 64 x 64 image)"""
    cache_gib: float = 2.0
    """Memory for the cached contributions of all views together"""


class SagaV1Model(AffinityModel):
    """Geometry phase, then features on frozen geometry."""

    config: SagaV1ModelConfig

    def populate_modules(self) -> None:
        """Build the model."""
        super().populate_modules()
        self.sam_projection = SamProjection(channels=AFFINITY_DIM)
        self._pools: dict[int, PixelPool | None] = {}
        self._guides: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._embedding_files: dict[int, Path] = {}

    def initial_feature(self, name: str, count: int, dim: int) -> Tensor:
        """Normal vectors of the size `feature_init`: [count, dim]."""
        return self.config.feature_init * torch.randn((count, dim))

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, the features and the projection of SAM's embedding."""
        return {**super().get_param_groups(), "sam_projection": list(self.sam_projection.parameters())}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The base's callbacks; embeddings are found before any time is spent on the geometry."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        self._embedding_files = self._find_embeddings() if self.config.guidance_weight > 0 else {}
        return callbacks

    def start_feature_phase(self) -> None:
        """Begin without contributions of the geometry before."""
        self._pools = {}

    def _find_embeddings(self) -> dict[int, Path]:
        masks = self.masks()
        folder = MaskFolder(masks.masks_path)
        named = self.config.embeddings_dir or f"{masks.masks_path.name}_embeddings"
        root = masks.masks_path.parent / named
        found = {}
        for view, image in enumerate(masks.train_dataset.image_filenames):
            mask = folder.find(image)
            if mask is None:
                continue
            path = root / f"{mask.key}.npz"
            if not path.is_file():
                raise GsegError(
                    f"saga-v1 is guided by SAM's image embeddings, and {path} is missing. Make the masks with SAM and "
                    "`gseg masks --embeddings`, or train without: --pipeline.model.guidance-weight 0"
                )
            found[view] = path
        return found

    @torch.no_grad()
    def _pool(self, view: int) -> PixelPool | None:
        """The cached contributions and masks of a view; None without masks."""
        if view not in self._pools:
            masks = self.masks().mask_set(view)
            if masks is None or len(masks) == 0:
                self._pools[view] = None
            else:
                bound = self.config.cache_gib * 2**30 / len(self.masks().train_dataset)
                generator = torch.Generator().manual_seed(view)
                self._pools[view] = make_pool(self.project_view(view), masks, torch.zeros(len(masks)), bound, generator)
        return self._pools[view]

    def _guide(self, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """The embedding [h, w, C] of a view, its masks [M', h, w] that show on that grid, and which of the view's
        masks these are, [M'] int64; kept on the CPU.
        """
        if view not in self._guides:
            embedding = read_embedding(self._embedding_files[view])
            # SAM saw the photograph, which may be distorted.
            masks = self.masks().photograph_masks(view)
            assert masks is not None
            small = masks.resize(*embedding.shape[:2]).decode()
            kept = small.flatten(1).any(dim=1).nonzero().squeeze(1)
            self._guides[view] = embedding.half(), small[kept], kept
        return self._guides[view]

    def _guidance(self, view: int, rendered: Tensor, members: Tensor) -> dict[str, Tensor]:
        """SAM-guidance loss on rendered [P, D] features of pixels in masks [P, M], and the loss on clutter."""
        embedding, small, kept = (upload(tensor, self.device) for tensor in self._guide(view))
        queries = prototypes(self.sam_projection(embedding.float()), small)
        features = self.gauss_params["affinity"]
        drawn = torch.randint(len(features), (round(len(features) * self.config.clutter_share),), device=self.device)
        return {
            "sam_guidance": self.config.guidance_weight
            * guidance_loss(rendered, queries, members[:, kept], self.config.reduction),
            "clutter": self.config.clutter_weight * clutter_loss(features[drawn], queries),
        }

    def feature_losses(self, view: int) -> dict[str, Tensor]:
        """SAM guidance and correspondence (Eq. 11)."""
        features = self.gauss_params["affinity"]
        pool = self._pool(view)
        if pool is None:
            return {"correspondence": features.sum() * 0.0}
        weights, regions = pool.draw(self.config.num_pixels)
        rendered = weights.matmul(features)
        # Keeps the graph alive where both losses are left out.
        losses = {"correspondence": features.sum() * 0.0}
        if self.config.correspondence_weight > 0:
            present, kinds = (upload(part, self.device) for part in regions.unique(return_inverse=True))
            overlap = mask_set_overlap(pool.members[present])
            losses["correspondence"] = self.config.correspondence_weight * overlap_loss(
                rendered, kinds, overlap, self.config.clip_correspondence, self.config.reduction
            )
        if self.config.guidance_weight > 0:
            losses |= self._guidance(view, rendered, pool.members[upload(regions, self.device)])
        return losses

    # ------------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def project_embedding(self, embedding: Tensor) -> Tensor | None:
        """Projected by phi, which is learned with SAM guidance alone."""
        if self.config.guidance_weight == 0 or embedding.shape[-1] != self.sam_projection.channels:
            return None
        return self.sam_projection(embedding.to(self.device).float())
