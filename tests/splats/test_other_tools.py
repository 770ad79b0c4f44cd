"""What `benchmarks/other_tools.py` takes for upright."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark_script import benchmark

FROM_Z_UP = {
    "z": lambda x, y, z: (x, y, z),
    "y": lambda x, y, z: (x, z, -y),
    "-y": lambda x, y, z: (x, -z, y),
}


@pytest.mark.parametrize("up", FROM_Z_UP)
def test_what_stands_as_its_format_promises_passes_and_nothing_else(up: str) -> None:
    truth = np.random.default_rng(0).random((60, 3))
    with benchmark("other_tools") as script:
        for axis, exported in FROM_Z_UP.items():
            reading = script.Reading("", up, np.stack(exported(*truth.T), axis=1) + 5)
            if axis == up:
                assert script.check(reading, truth) < 1e-9
            else:
                with pytest.raises(AssertionError, match="from where it should be"):
                    script.check(reading, truth)
        mirrored = script.Reading("", "z", truth * [-1, 1, 1])
        with pytest.raises(AssertionError, match="from where it should be"):
            script.check(mirrored, truth)
