from .affinity import AffinityModel, AffinityModelConfig
from .base import SegmentationModel, SegmentationModelConfig
from .checkpoints import latest_checkpoint, read_checkpoint
from .gaga import GagaModel, GagaModelConfig
from .gradiseg import GradiSegModel, GradiSegModelConfig
from .identity import IdentityModel, IdentityModelConfig
from .registry import method_config, segmentation_methods
from .saga import SagaModel, SagaModelConfig
from .saga_v1 import SagaV1Model, SagaV1ModelConfig
from .trained_geometry import load_geometry
from .trainer import SegmentationTrainer, SegmentationTrainerConfig
from .unified_lift import UnifiedLiftModel, UnifiedLiftModelConfig

__all__ = [
    "AffinityModel",
    "AffinityModelConfig",
    "GagaModel",
    "GagaModelConfig",
    "GradiSegModel",
    "GradiSegModelConfig",
    "IdentityModel",
    "IdentityModelConfig",
    "SagaModel",
    "SagaModelConfig",
    "SagaV1Model",
    "SagaV1ModelConfig",
    "SegmentationModel",
    "SegmentationModelConfig",
    "SegmentationTrainer",
    "SegmentationTrainerConfig",
    "UnifiedLiftModel",
    "UnifiedLiftModelConfig",
    "latest_checkpoint",
    "load_geometry",
    "method_config",
    "read_checkpoint",
    "segmentation_methods",
]
