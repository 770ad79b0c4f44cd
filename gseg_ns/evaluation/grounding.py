"""Which pixels of a picture a text means: an open-vocabulary detector, and SAM for the shape.

How Gaussian Grouping (arXiv 2312.00732, section 4) turns a text into ids of groups: Grounding DINO finds boxes on one
rendered view, SAM makes masks of them, and the ids that lie inside are the answer in every view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gseg_ns.errors import GsegError, missing_extra

DETECTOR = "IDEA-Research/grounding-dino-base"
"""The detector of the published rows, by its name for `transformers`."""

Detector = Callable[..., Sequence[dict[str, Any]]]
"""What the `zero-shot-object-detection` pipeline of `transformers` is: (picture, candidate_labels=[...], threshold=...)
to a list of {"score": float, "box": {"xmin", "ymin", "xmax", "ymax"} in pixels}."""

_PHRASES = ("grounding-dino", "mm-grounding-dino")
"""Kinds of models that read phrases in lower case, each with a full stop behind it: without one the words of a phrase
do not attend to each other."""


class TextGrounder:
    """Text on a picture to a mask."""

    def __init__(
        self, detector: Detector, predictor: Any = None, threshold: float = 0.3, phrases: bool = False
    ) -> None:
        """Wrap loaded models.

        Args:
            detector: see `Detector`.
            predictor: `segment_anything.SamPredictor`; None: a box is its own mask.
            threshold: least score of a box. Where none reaches it, nothing is found.
            phrases: whether the detector takes texts as Grounding DINO does, in lower case and with a full stop.
        """
        self.detector = detector
        self.predictor = predictor
        self.threshold = threshold
        self.phrases = phrases

    @staticmethod
    def load(
        model: str = DETECTOR,
        sam: Path | None = None,
        threshold: float = 0.3,
        device: torch.device | str = "cpu",
    ) -> TextGrounder:
        """Load weights.

        Args:
            model: any zero-shot object detection model of `transformers` (Grounding DINO, OWL-ViT, OWLv2), by name
                (downloaded once) or folder.
            sam: SAM checkpoint for the shapes; None: boxes.
            threshold: least score of a box.
            device: where to run.

        Raises:
            GsegError: the package or the weights are missing.
        """
        try:
            from transformers import pipeline
        except ImportError as error:
            raise missing_extra("Grounding a text needs a detector", "text") from error
        try:
            detector = pipeline("zero-shot-object-detection", model=model, device=torch.device(device))
        except Exception as error:  # whatever its parsers say of damaged files
            raise GsegError(
                f"The detector {model} could not be loaded ({str(error).splitlines()[0]}). Name a folder that has it, "
                "or connect to the network once."
            ) from error
        predictor = None
        if sam is not None:
            from segment_anything import SamPredictor

            from gseg_ns.masks.sources.sam_model import load_sam

            predictor = SamPredictor(load_sam(sam).to(device))
        return TextGrounder(detector, predictor, threshold, detector.model.config.model_type in _PHRASES)

    def boxes(self, picture: np.ndarray, text: str) -> np.ndarray:
        """Find a text.

        Args:
            picture: [H, W, 3] uint8, RGB.
            text: what to find.

        Returns:
            [B, 4] float, x0, y0, x1, y1 in pixels, the best first.
        """
        from PIL import Image

        if self.phrases:
            text = text.lower().strip().rstrip(".") + "."
        found = self.detector(Image.fromarray(picture), candidate_labels=[text], threshold=self.threshold)
        ordered = sorted(found, key=lambda hit: -float(hit["score"]))
        rows = [[hit["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for hit in ordered]
        return np.array(rows, dtype=float).reshape(-1, 4)

    def mask(self, picture: np.ndarray, text: str) -> Tensor:
        """The union of what is found: bool [H, W]; empty where nothing is."""
        height, width = picture.shape[:2]
        result = np.zeros((height, width), dtype=bool)
        boxes = self.boxes(picture, text)
        if self.predictor is not None and len(boxes):
            self.predictor.set_image(picture)
        for box in boxes:
            if self.predictor is not None:
                masks, _, _ = self.predictor.predict(box=box, multimask_output=False)
                result |= np.asarray(masks[0], dtype=bool)
            else:
                x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
                result[y0:y1, x0:x1] = True
        return torch.from_numpy(result)
