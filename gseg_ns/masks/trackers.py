"""Carrying a mask from one picture through those after it: the video models of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.masks.hub import load_one_of

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_CLASSES = {
    "sam2": ("Sam2VideoModel", "Sam2VideoProcessor"),
    "edgetam": ("EdgeTamVideoModel", "Sam2VideoProcessor"),
    "sam3": ("Sam3TrackerVideoModel", "Sam3TrackerVideoProcessor"),
}
"""Model and processor, by how the model's type begins."""


class Tracker(Protocol):
    """Follows one thing through pictures that were taken one after the other."""

    def mask(self, picture: Picture, points: NDArray[np.float64], wanted: Mask) -> Mask:
        """The mask of a thing on a picture [H, W, 3] that points [P, 2] (x, y) are on, or not on: bool [P]."""
        ...

    def carry(self, pictures: Sequence[Picture], mask: Mask) -> list[Mask]:
        """The masks [H, W] of a thing in all pictures, of one size, by its mask in the first."""
        ...


class VideoTracker:
    """SAM 2.1, EdgeTAM or SAM 3's tracker, loaded."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor

    @torch.no_grad()
    def mask(self, picture: Picture, points: NDArray[np.float64], wanted: Mask) -> Mask:
        """See `Tracker`."""
        session = self._begin([picture])
        self.processor.add_inputs_to_inference_session(
            inference_session=session,
            frame_idx=0,
            obj_ids=1,
            input_points=[[np.asarray(points, dtype=float).tolist()]],
            input_labels=[[np.asarray(wanted, dtype=int).tolist()]],
        )
        return self._masks(session, self.model(inference_session=session, frame_idx=0))[0]

    @torch.no_grad()
    def carry(self, pictures: Sequence[Picture], mask: Mask) -> list[Mask]:
        """See `Tracker`."""
        return [masks.get(1, np.zeros_like(mask)) for masks in self.carry_all(pictures, {1: mask})]

    @torch.no_grad()
    def carry_all(self, pictures: Sequence[Picture], masks: dict[int, Mask]) -> list[dict[int, Mask]]:
        """The masks of several things in all pictures, by number; those that are not there are left out."""
        session = self._begin(pictures)
        self.processor.add_inputs_to_inference_session(
            inference_session=session, frame_idx=0, obj_ids=list(masks), input_masks=list(masks.values())
        )
        found: list[dict[int, Mask]] = [{} for _ in pictures]
        for answer in self.model.propagate_in_video_iterator(session, start_frame_idx=0):
            drawn = self._masks(session, answer)
            numbers = [int(number) for number in answer.object_ids]
            found[answer.frame_idx] = {
                number: mask for number, mask in zip(numbers, drawn, strict=True) if mask.any()
            }  # fmt: skip
        found[0] = dict(masks)
        return found

    def _begin(self, pictures: Sequence[Picture]) -> Any:
        # Frames stay on the CPU: of a long video they do not fit on a GPU.
        return self.processor.init_video_session(
            video=list(pictures), inference_device=self.model.device, video_storage_device="cpu"
        )

    def _masks(self, session: Any, answer: Any) -> list[Mask]:
        size = [[session.video_height, session.video_width]]
        [logits] = self.processor.post_process_masks([answer.pred_masks], original_sizes=size, binarize=False)
        return [np.asarray((one > 0).cpu(), dtype=bool) for one in logits[:, 0]]


def load_tracker(model: str | Path, device: torch.device | str) -> VideoTracker:
    """Load a video model.

    Args:
        model: a local folder, or a name, see `full_name`.
        device: of torch.

    Raises:
        GsegError: the extra is missing, or there is no such model, or it is another one.
    """
    return VideoTracker(*load_one_of(_CLASSES, model, device, "as a tracker", "follows nothing through pictures"))
