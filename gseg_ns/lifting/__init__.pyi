from .affinity import ScaleGate
from .association import Associated, AssociationOptions, associate
from .clustering import ClusterOptions, SceneClusters
from .consensus import ConsensusOptions, find_groups, foremost, group_lookup
from .identity import IdentityClassifier, identity_loss, initialise_from_labels
from .memory_bank import MemoryBank, MemoryBankOptions
from .naming import group_words
from .neighbourhood import NeighbourhoodLoss
from .scales import ScaleQuantiles, mask_scales
from .strengths import StrengthOptions, Strengths, fit_strengths
from .text import ClipEncoder, VoteGraph, VoteOptions
from .tracks import cut_tracks, track_votes
from .votes import Lift, ViewVotes, VoteStore, accumulate_votes, labels_from_votes, lift, lift_truth, view_votes

__all__ = [
    "Associated",
    "AssociationOptions",
    "ClipEncoder",
    "ClusterOptions",
    "ConsensusOptions",
    "IdentityClassifier",
    "Lift",
    "MemoryBank",
    "MemoryBankOptions",
    "NeighbourhoodLoss",
    "ScaleGate",
    "ScaleQuantiles",
    "SceneClusters",
    "StrengthOptions",
    "Strengths",
    "ViewVotes",
    "VoteGraph",
    "VoteOptions",
    "VoteStore",
    "accumulate_votes",
    "associate",
    "cut_tracks",
    "find_groups",
    "fit_strengths",
    "foremost",
    "group_lookup",
    "group_words",
    "identity_loss",
    "initialise_from_labels",
    "labels_from_votes",
    "lift",
    "lift_truth",
    "mask_scales",
    "track_votes",
    "view_votes",
]
