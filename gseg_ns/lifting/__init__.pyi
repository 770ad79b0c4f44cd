from .affinity import ScaleGate
from .clustering import ClusterOptions, SceneClusters
from .consensus import ConsensusOptions, find_groups, group_lookup, view_labels
from .identity import IdentityClassifier, identity_loss, initialise_from_votes
from .memory_bank import MemoryBank, MemoryBankOptions
from .neighbourhood import NeighbourhoodLoss
from .scales import ScaleQuantiles, mask_scales
from .text import ClipEncoder, VoteGraph, VoteOptions
from .votes import accumulate_votes, labels_from_votes

__all__ = [
    "ClipEncoder",
    "ClusterOptions",
    "ConsensusOptions",
    "IdentityClassifier",
    "MemoryBank",
    "MemoryBankOptions",
    "NeighbourhoodLoss",
    "ScaleGate",
    "ScaleQuantiles",
    "SceneClusters",
    "VoteGraph",
    "VoteOptions",
    "accumulate_votes",
    "find_groups",
    "group_lookup",
    "identity_loss",
    "initialise_from_votes",
    "labels_from_votes",
    "mask_scales",
    "view_labels",
]
