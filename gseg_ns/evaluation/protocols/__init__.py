"""The published protocols: data layouts, splits, prompts, scores. No data comes with them."""

from __future__ import annotations

from gseg_ns.evaluation.protocols.base import (
    Prompt,
    Protocol,
    ProtocolOptions,
    ProtocolReport,
    ProtocolScene,
    ProtocolScores,
    Target,
)
from gseg_ns.evaluation.protocols.instances import ReplicaGaga, ReplicaUnifiedLift, ScanNetGaga
from gseg_ns.evaluation.protocols.lerf_mask import LerfMask
from gseg_ns.evaluation.protocols.messy_rooms import MessyRooms
from gseg_ns.evaluation.protocols.mipnerf360 import MipNerf360
from gseg_ns.evaluation.protocols.nvos_spin import Nvos, SpinNerf
from gseg_ns.evaluation.protocols.ovs import Ovs3d

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *(LerfMask(), ReplicaGaga(), ScanNetGaga(), ReplicaUnifiedLift(), MessyRooms()),
        *(Nvos(), SpinNerf(), Ovs3d(), MipNerf360()),
    )
}
"""All protocols by the name on the command line."""

__all__ = [
    "PROTOCOLS",
    "Prompt",
    "Protocol",
    "ProtocolOptions",
    "ProtocolReport",
    "ProtocolScene",
    "ProtocolScores",
    "Target",
]
