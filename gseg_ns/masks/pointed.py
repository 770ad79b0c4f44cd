"""Masks of points and boxes by models of transformers: SAM 2.1, EdgeTAM, SAM 3's tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.masks.hub import load_one_of

_CLASSES = {
    "sam2": ("Sam2Model", "Sam2Processor"),
    "edgetam": ("EdgeTamModel", "Sam2Processor"),
    "sam3": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
}
"""Model and processor, by how the model's type begins."""


class PointedModel:
    """A loaded model, asked as `segment_anything.SamPredictor` is: a picture is encoded once for all that is asked."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor
        self._seen: Any = None
        self._size: list[list[int]] = []

    @torch.no_grad()
    def set_image(self, picture: NDArray[np.uint8]) -> None:
        """Encode a picture [H, W, 3], RGB."""
        from PIL import Image

        given = self.processor(images=Image.fromarray(picture), return_tensors="pt")
        self._seen = self.model.get_image_embeddings(given["pixel_values"].to(self.model.device))
        self._size = [[picture.shape[0], picture.shape[1]]]

    def predict(
        self, points: NDArray[Any], labels: NDArray[Any], multimask_output: bool = True
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], None]:
        """Masks [M, H, W] of points [P, 2] that are 1 on or 0 beside what is wanted, and their scores [M]."""
        given = {
            "input_points": [[np.asarray(points, dtype=float).tolist()]],
            "input_labels": [[np.asarray(labels, dtype=int).tolist()]],
        }
        masks, scores = self._ask(given, multimask_output)
        return masks[0], scores[0], None

    def of_boxes(self, boxes: list[list[float]]) -> NDArray[np.bool_]:
        """The mask of each box x0 y0 x1 y1: [B, H, W]."""
        return self._ask({"input_boxes": [boxes]}, False)[0][:, 0]

    @torch.no_grad()
    def _ask(self, asked: dict[str, Any], several: bool) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        given = self.processor(original_sizes=self._size, return_tensors="pt", **asked)
        inputs = {name: given[name].to(self.model.device) for name in asked}
        outputs = self.model(image_embeddings=self._seen, multimask_output=several, **inputs)
        [masks] = self.processor.post_process_masks(outputs.pred_masks.cpu(), self._size)
        return np.asarray(masks, dtype=bool), outputs.iou_scores[0].float().cpu().numpy()


def load_pointed(model: str | Path, device: torch.device | str) -> PointedModel:
    """Load a model that points and boxes can be given.

    Args:
        model: a local folder, or a name, see `full_name`.
        device: of torch.

    Raises:
        GsegError: the extra is missing, or there is no such model, or it is another one.
    """
    return PointedModel(*load_one_of(_CLASSES, model, device, "for points", "takes no points"))
