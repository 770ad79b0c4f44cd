from __future__ import annotations

import pytest

from gseg_ns.splats import Splats
from gseg_ns.views import ViewPlan, choose_views
from splats_by_hand import SMALL, make_room


@pytest.fixture(scope="session")
def room() -> Splats:
    return make_room()


@pytest.fixture(scope="session")
def room_plan(room: Splats) -> ViewPlan:
    return choose_views(room, SMALL)
