"""Loading of SAM checkpoints of any size, and SAM's generator with the granularity of each mask kept."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.amg import MaskData
from torch import Tensor, nn

from gseg_ns.errors import GsegError
from gseg_ns.reading import check_stored, check_tensors

# Normalisation of SAM's input, RGB (`build_sam.py`); the checkpoint does not have it.
_PIXEL_MEAN = [123.675, 116.28, 103.53]
_PIXEL_STD = [58.395, 57.12, 57.375]


def load_sam(checkpoint: Path) -> Sam:
    """Load a checkpoint in SAM's own format. Its architecture is read from the shapes of its tensors.

    Raises:
        GsegError: the file is damaged, cut, or holds another model.
    """
    try:
        if zipfile.is_zipfile(checkpoint):  # else torch's older format, which holds nothing compressed
            with zipfile.ZipFile(checkpoint) as archive:
                check_stored(archive)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        check_tensors(state)
    except FileNotFoundError as error:
        raise GsegError(f"The checkpoint {checkpoint} does not exist.") from error
    except Exception as error:
        # torch.load raises nearly every type there is for a damaged file.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GsegError(f"{checkpoint} is damaged, cut or no SAM checkpoint ({reason}). Download it again.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise GsegError(f"{checkpoint} is no SAM checkpoint: needed a dict of tensors, such as sam_vit_h_4b8939.pth.")
    try:
        sam = _build(state)
        sam.load_state_dict(state)
    except Exception as error:  # shapes of anything, names of anything
        reason = str(error).strip().splitlines()[-1].strip() if str(error) else type(error).__name__
        raise GsegError(
            f"{checkpoint} is no checkpoint of Segment Anything ({reason}). Needed one in its own format, such as "
            "sam_vit_h_4b8939.pth; models of transformers are for --source sam2."
        ) from error
    return sam.eval()


def _count(state: dict[str, Tensor], prefix: str) -> int:
    """Length of the module list `prefix`."""
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))


def _build(state: dict[str, Tensor]) -> Sam:
    encoder = "image_encoder."
    embed_dim, _, patch, _ = state[encoder + "patch_embed.proj.weight"].shape
    grid = state[encoder + "pos_embed"].shape[1]
    depth = _count(state, encoder + "blocks.")
    # Rows of a relative position table: twice the side of the attention window, less one.
    tables = [state[f"{encoder}blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
    global_blocks = [i for i, shape in enumerate(tables) if shape[0] == 2 * grid - 1]
    window = next(((shape[0] + 1) // 2 for shape in tables if shape[0] != 2 * grid - 1), 0)
    prompt_dim = state["prompt_encoder.no_mask_embed.weight"].shape[1]
    decoder = "mask_decoder."
    iou_layers = _count(state, decoder + "iou_prediction_head.layers.")
    return Sam(
        image_encoder=ImageEncoderViT(
            depth=depth,
            embed_dim=embed_dim,
            img_size=grid * patch,
            patch_size=patch,
            mlp_ratio=state[encoder + "blocks.0.mlp.lin1.weight"].shape[0] / embed_dim,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=embed_dim // tables[0][1],
            qkv_bias=encoder + "blocks.0.attn.qkv.bias" in state,
            use_rel_pos=True,
            global_attn_indexes=tuple(global_blocks),
            window_size=window,
            out_chans=prompt_dim,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=prompt_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * patch, grid * patch),
            mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=_count(state, decoder + "output_hypernetworks_mlps.") - 1,
            transformer=TwoWayTransformer(
                depth=_count(state, decoder + "transformer.layers."),
                embedding_dim=prompt_dim,
                mlp_dim=state[decoder + "transformer.layers.0.mlp.lin1.weight"].shape[0],
                # Not in the shapes; the same in all of SAM's models.
                num_heads=8,
            ),
            transformer_dim=prompt_dim,
            iou_head_depth=iou_layers,
            iou_head_hidden_dim=state[decoder + "iou_prediction_head.layers.0.weight"].shape[0],
        ),
        pixel_mean=_PIXEL_MEAN,
        pixel_std=_PIXEL_STD,
    )


class _TokenPredictor(SamPredictor):
    """Runs the decoder once a batch of points and hands out one of its masks at a time."""

    def __init__(self, model: Sam) -> None:
        super().__init__(model)
        self.token = 0
        self.outputs: tuple[Tensor, Tensor, Tensor] | None = None

    def predict_torch(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        if self.outputs is None:
            self.outputs = super().predict_torch(*args, **kwargs)
        masks, scores, logits = self.outputs
        chosen = slice(self.token, self.token + 1)
        return masks[:, chosen], scores[:, chosen], logits[:, chosen]


class GranularMaskGenerator(SamAutomaticMaskGenerator):
    """SAM's automatic mask generator; knows of each mask which of the three answers to a point it was.

    The masks are those of the original: all answers go through the same filters and the same suppression.

    Args:
        model: the loaded SAM.
        tokens: which of the answers take part, 0 = subpart, 1 = part, 2 = whole.
        options: as for `SamAutomaticMaskGenerator`.
    """

    def __init__(self, model: Sam, tokens: Iterable[int], **options: Any) -> None:
        super().__init__(model, **options)
        self.predictor = _TokenPredictor(model)
        self.tokens = tuple(tokens)
        self.granularities: list[int] = []
        """Answer that each mask of the last image was."""
        self._features: Tensor | None = None

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """As the original; also sets `granularities` and `embedding`."""
        self._features = None
        records = super().generate(image)
        self.granularities = [int(level) for level in self._data["granularity"]]
        return records

    def _generate_masks(self, image: np.ndarray) -> MaskData:
        # Kept, since later filters of `generate` work on it in place and the records leave the granularity out.
        self._data = super()._generate_masks(image)
        return self._data

    def _process_batch(self, points: np.ndarray, *args: Any) -> MaskData:
        if self._features is None:
            # The first crop is the whole image.
            self._features = self.predictor.get_image_embedding()
            self._sizes = (self.predictor.input_size, self.predictor.original_size)
        merged = MaskData()
        self.predictor.outputs = None
        for token in self.tokens:
            self.predictor.token = token
            data = super()._process_batch(points, *args)
            data["granularity"] = torch.full((len(data["rles"]),), token)
            merged.cat(data)
        self.predictor.outputs = None
        return merged

    def embedding(self) -> dict[str, np.ndarray]:
        """The last image's embedding, as `SamPredictor` holds it.

        Returns:
            `embedding` float16 [C, S, S] of the padded square input; `input_size` [2], height and width of the resized
            image inside it; `original_size` [2]; `square` [], side of the padded input.
        """
        if self._features is None:
            raise GsegError("no image has been given to SAM yet")
        return {
            "embedding": self._features[0].cpu().numpy().astype(np.float16),
            "input_size": np.asarray(self._sizes[0]),
            "original_size": np.asarray(self._sizes[1]),
            "square": np.asarray(self.predictor.model.image_encoder.img_size),
        }
