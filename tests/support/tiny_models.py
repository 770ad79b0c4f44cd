"""Small models of transformers with random weights, built from their configurations and saved to folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 64
"""Pixels of the square pictures that they see."""
WIDE = 128
"""Width of the decoders: video models of transformers need twice their memory's 64."""


def library() -> Any:
    """transformers, whose types are not those of its newest version everywhere."""
    import transformers

    return transformers


def sam2_parts() -> dict[str, Any]:
    """Sub-configurations that SAM 2's image and video models share."""
    t = library()
    backbone = t.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    vision = t.Sam2VisionConfig(
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
    t = library()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    }
    t.Sam2VideoModel(t.Sam2VideoConfig(**sam2_parts(), **memory_parts())).save_pretrained(folder)
    t.Sam2VideoProcessor(t.Sam2ImageProcessor(**sizes), t.Sam2VideoVideoProcessor(**sizes)).save_pretrained(folder)


def save_sam2(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    }
    t.Sam2Model(t.Sam2Config(**sam2_parts())).save_pretrained(folder)
    t.Sam2Processor(t.Sam2ImageProcessor(**sizes)).save_pretrained(folder)


def save_edgetam(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    vision = t.EdgeTamVisionConfig(
        backbone_config={
            "model_type": "timm_wrapper",
            "architecture": "resnet18",
            "do_pooling": False,
            "model_args": {"features_only": True, "out_indices": (0, 1, 2, 3), "in_chans": 3},
        },
        backbone_channel_list=[512, 256, 128, 64],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=WIDE,
    )
    sizes: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    }
    t.EdgeTamModel(t.EdgeTamConfig(vision_config=vision, **decoder_parts())).save_pretrained(folder)
    t.Sam2Processor(t.Sam2ImageProcessor(**sizes)).save_pretrained(folder)


def sam3_vision() -> dict[str, Any]:
    return {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": WIDE,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
            "pretrain_image_size": SIDE,
            "window_size": 2,
            "global_attn_indexes": [1],
        },
    }


def save_sam3_tracker(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "mask_size": {"height": SIDE // 4, "width": SIDE // 4},
    }
    t.Sam3TrackerModel(t.Sam3TrackerConfig(vision_config=sam3_vision(), **decoder_parts())).save_pretrained(folder)
    t.Sam3TrackerProcessor(t.Sam3ImageProcessor(**sizes)).save_pretrained(folder)


def tokenizer_file(folder: Path) -> Path:
    """A vocabulary of few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "mug", "chair", "red", "a", "the"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder / "vocab.txt"


def save_grounding_dino(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    config = t.GroundingDinoConfig(
        backbone_config=t.SwinConfig(
            image_size=SIDE,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=2,
            out_features=["stage2", "stage3", "stage4"],
            out_indices=[2, 3, 4],
        ),
        text_config={
            "model_type": "bert",
            "vocab_size": 30,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=6,
        num_feature_levels=4,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    images = t.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 96})
    tokenizer = t.BertTokenizerFast(vocab_file=str(tokenizer_file(folder)))
    t.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    t.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def sam3_parts() -> dict[str, Any]:
    """Sub-configurations of SAM 3's detector."""
    small = {"hidden_size": WIDE, "num_attention_heads": 2, "intermediate_size": 32}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 30,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "projection_dim": 32,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    return {
        "vision_config": sam3_vision(),
        "text_config": text,
        "geometry_encoder_config": {**small, "num_layers": 1},
        "detr_encoder_config": {**small, "num_layers": 1},
        "detr_decoder_config": {**small, "num_layers": 1, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": WIDE, "num_attention_heads": 2},
    }


def sam3_sizes() -> dict[str, Any]:
    return {"size": {"height": SIDE, "width": SIDE}, "mask_size": {"height": SIDE // 4, "width": SIDE // 4}}


def save_sam3(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    tokenizer = t.BertTokenizerFast(vocab_file=str(tokenizer_file(folder)), model_max_length=32)
    t.Sam3Model(t.Sam3Config(**sam3_parts())).save_pretrained(folder)
    t.Sam3Processor(t.Sam3ImageProcessor(**sam3_sizes()), tokenizer).save_pretrained(folder)


def save_sam3_video(folder: Path) -> None:
    t = library()
    torch.manual_seed(0)
    tokenizer = t.BertTokenizerFast(vocab_file=str(tokenizer_file(folder)), model_max_length=32)
    detector = {"model_type": "sam3", **sam3_parts()}
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": sam3_vision(),
        **decoder_parts(),
        **memory_parts(),
    }
    # Everything that it finds begins a track, and stays.
    config = t.Sam3VideoConfig(
        detector_config=detector, tracker_config=tracker, score_threshold_detection=0.0, new_det_thresh=0.0,
        image_size=SIDE,
    )  # fmt: skip
    t.Sam3VideoModel(config).save_pretrained(folder)
    processors = t.Sam3ImageProcessor(**sam3_sizes()), t.Sam2VideoVideoProcessor(**sam3_sizes())
    t.Sam3VideoProcessor(*processors, tokenizer).save_pretrained(folder)
