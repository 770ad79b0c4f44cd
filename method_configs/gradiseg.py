"""`ns-train gradiseg`."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from gseg_ns.method_configs.common import FEATURE_LR, trainer_config
from gseg_ns.models.gradiseg import GradiSegModelConfig

gradiseg = MethodSpecification(
    config=trainer_config(
        "gradiseg",
        GradiSegModelConfig(),
        optimizers={
            "identity": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
            "classifier": {"optimizer": AdamOptimizerConfig(lr=5e-4, eps=1e-8), "scheduler": None},
        },
        max_num_iterations=30_000,
    ),
    description="GradiSeg: identity encodings with Gaussians split along object boundaries",
)
