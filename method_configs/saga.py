"""`ns-train saga`."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from gseg_ns.method_configs.common import FEATURE_LR, trainer_config
from gseg_ns.models.saga import SagaModelConfig

GATE_LR = 10 * FEATURE_LR
"""The official code has the features' rate. The gate's 64 numbers have a long way to go, and scales stay alike until
they have gone it: parts then come out of their objects a few thousand steps later."""

saga = MethodSpecification(
    config=trainer_config(
        "saga",
        SagaModelConfig(),
        optimizers={
            "affinity": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
            "scale_gate": {"optimizer": AdamOptimizerConfig(lr=GATE_LR, eps=1e-15), "scheduler": None},
        },
        max_num_iterations=40_000,
    ),
    description="SAGA: click anything at any granularity; affinity features with a scale gate",
)
