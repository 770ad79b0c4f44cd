"""`ns-train gaga`."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from gseg_ns.method_configs.common import FEATURE_LR, trainer_config
from gseg_ns.models.gaga import GagaModelConfig

gaga = MethodSpecification(
    config=trainer_config(
        "gaga",
        GagaModelConfig(),
        optimizers={
            "identity": {"optimizer": AdamOptimizerConfig(lr=FEATURE_LR, eps=1e-15), "scheduler": None},
            "classifier": {"optimizer": AdamOptimizerConfig(lr=5e-4, eps=1e-8), "scheduler": None},
        },
        max_num_iterations=40_000,
    ),
    description="Gaga: groups of a memory bank over 2D masks; every object of the scene",
)
