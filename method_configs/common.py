"""What all methods have in common in `ns-train`."""

from __future__ import annotations

from typing import Any

from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

from gseg_ns import gpu
from gseg_ns.compat import allow_checkpoint_scalars
from gseg_ns.data.datamanager import MaskDatamanagerConfig
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.models.base import SegmentationModelConfig
from gseg_ns.models.trainer import SegmentationTrainerConfig
from gseg_ns.viewer.door import LOOPBACK

# Every ns-* command imports this module before it loads a checkpoint.
allow_checkpoint_scalars()

FEATURE_LR = 2.5e-3
"""Learning rate of per-Gaussian features in all official codes."""


def _adam(lr: float, lr_final: float | None = None, max_steps: int = 30_000, **scheduler: Any) -> dict[str, Any]:
    return {
        "optimizer": AdamOptimizerConfig(lr=lr, eps=1e-15),
        "scheduler": None
        if lr_final is None
        else ExponentialDecaySchedulerConfig(lr_final=lr_final, max_steps=max_steps, **scheduler),
    }


def splatfacto_optimizers() -> dict[str, dict[str, Any]]:
    """Splatfacto's optimizers; decay over the paper's 30 000 steps is stretched to the run by the trainer."""
    return {
        "means": _adam(1.6e-4, 1.6e-6),
        "features_dc": _adam(2.5e-3),
        "features_rest": _adam(2.5e-3 / 20),
        "opacities": _adam(0.05),
        "scales": _adam(0.005),
        "quats": _adam(0.001),
        "camera_opt": _adam(1e-4, 5e-7, warmup_steps=1000, lr_pre_warmup=0),
        "bilateral_grid": _adam(2e-3, 1e-4, warmup_steps=1000, lr_pre_warmup=0),
    }


def trainer_config(
    method_name: str,
    model: SegmentationModelConfig,
    optimizers: dict[str, dict[str, Any]],
    max_num_iterations: int,
    dataparser: DataParserConfig | None = None,
) -> SegmentationTrainerConfig:
    """Build a method's config: CUDA where there is one, the CPU otherwise.

    Args:
        method_name: the name in `ns-train`, equal to its entry point.
        model: the model's config.
        optimizers: of what the method adds to Splatfacto.
        max_num_iterations: the paper's length.
        dataparser: `gseg-data` unless given.
    """
    return SegmentationTrainerConfig(
        method_name=method_name,
        steps_per_eval_image=500,
        steps_per_eval_batch=0,
        steps_per_save=2000,
        steps_per_eval_all_images=5000,
        max_num_iterations=max_num_iterations,
        mixed_precision=False,
        machine=MachineConfig(device_type=gpu.best_device()),
        pipeline=VanillaPipelineConfig(
            datamanager=MaskDatamanagerConfig(
                dataparser=dataparser or GsegDataParserConfig(), cache_images_type="uint8"
            ),
            model=model,
        ),
        optimizers={**splatfacto_optimizers(), **optimizers},
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host=LOOPBACK),
        vis="viewer",
    )
