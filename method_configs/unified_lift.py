"""`ns-train unified-lift`."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from gseg_ns.method_configs.common import FEATURE_LR, trainer_config
from gseg_ns.models.unified_lift import UnifiedLiftModelConfig

unified_lift = MethodSpecification(
    config=trainer_config(
        "unified-lift",
        UnifiedLiftModelConfig(),
        optimizers={
            "instance": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
            "codebook": {"optimizer": AdamOptimizerConfig(lr=5e-4, eps=1e-8), "scheduler": None},
        },
        max_num_iterations=30_000,
    ),
    description="Unified-Lift: a codebook of objects learned with the colors, from masks that need no association",
)
