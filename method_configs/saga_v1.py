"""`ns-train saga-v1`."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from gseg_ns.method_configs.common import FEATURE_LR, trainer_config
from gseg_ns.models.saga_v1 import SagaV1ModelConfig

saga_v1 = MethodSpecification(
    config=trainer_config(
        "saga-v1",
        SagaV1ModelConfig(),
        optimizers={
            "affinity": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
            "sam_projection": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
        },
        max_num_iterations=40_000,
    ),
    description="SAGA's first version: click anything; affinity features guided by SAM's embeddings",
)
