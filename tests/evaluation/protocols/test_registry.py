from __future__ import annotations

import pytest

from gseg_ns.evaluation.protocols import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_says_what_it_is(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.metrics
    assert protocol.known_scenes
    for text in (protocol.source, protocol.layout, protocol.predictions, protocol.counted):
        assert len(text) > 20
