"""Small models of transformers with random weights, built from their configurations and saved to folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 64
"""Pixels of the square pictures that they see."""
WIDE = 128
"""Width of the decoders: video models of transformers need twice their memory's 64."""


def sam2_parts() -> dict[str, Any]:
    """Sub-configurations that SAM 2's image and video models share."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=WIDE,
    )
    return {"vision_config": vision, **decoder_parts()}


def decoder_parts() -> dict[str, Any]:
    return {
        "prompt_encoder_config": {"hidden_size": WIDE, "image_size": SIDE, "patch_size": 16},
        "mask_decoder_config": {
            "hidden_size": WIDE,
            "mlp_dim": 48,
            "iou_head_hidden_dim": 24,
            "num_attention_heads": 4,
        },
    }


def memory_parts() -> dict[str, Any]:
    """Of video models: as small as they may be."""
    return {
        "image_size": SIDE,
        "memory_attention_hidden_size": WIDE,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 48,
        "memory_attention_rope_feat_sizes": [4, 4],
        "memory_encoder_hidden_size": WIDE,
        "mask_downsampler_embed_dim": WIDE,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": WIDE,
        "memory_fuser_intermediate_dim": 48,
    }


def save_sam2_video(folder: Path) -> None:
    from transformers import (
        Sam2ImageProcessor,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
    )

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    }
    Sam2VideoModel(Sam2VideoConfig(**sam2_parts(), **memory_parts())).save_pretrained(folder)
    Sam2VideoProcessor(Sam2ImageProcessor(**sizes), Sam2VideoVideoProcessor(**sizes)).save_pretrained(folder)
