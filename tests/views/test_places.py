from __future__ import annotations

import numpy as np

from gseg_ns.views.places import _rough


def test_what_lies_on_a_floor_is_not_its_roughness_and_what_is_beside_a_wall_is() -> None:
    floor, wall = np.zeros((2, 12, 12, 12), bool)
    floor[:, :, 2:4] = True
    wall[0, :, 4:] = True
    rough = _rough(floor | wall, floor)
    assert rough[floor | wall].all()
    assert rough[1, :, 5:].all()
    assert rough[:, :, 1].all()
    assert not rough[2:, :, 4].any()
