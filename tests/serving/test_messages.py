from __future__ import annotations

import json
from typing import Any

import pytest

from gseg_ns.serving.messages import LONGEST, read_message

GOOD: dict[str, Any] = {
    "number": 3, "name": "click", "values": [1, "a", None, True, 0.5], "mode": "add",
    "view": [*range(16), 50, 700, 400], "points": [[1, 2.5]],
}  # fmt: skip


def test_what_a_page_sends_is_read() -> None:
    asked = read_message(json.dumps(GOOD))
    assert (asked.number, asked.name, asked.values, asked.mode) == (3, "click", [1, "a", None, True, 0.5], "add")
    assert asked.view is not None
    assert (asked.view.pose[3], asked.view.fov, asked.view.width, asked.view.height) == (3.0, 50.0, 700, 400)
    assert asked.points == ((1.0, 2.5),)
    assert read_message(json.dumps({**GOOD, "view": None, "points": []})).view is None


@pytest.mark.parametrize(
    "changed",
    [
        {"number": "3"}, {"number": -1}, {"number": True}, {"number": 2**60}, {"name": 1}, {"name": "x" * 33},
        {"values": {}}, {"values": [[1]]}, {"values": [1e300]}, {"values": [float("nan")]}, {"values": [1] * 5000},
        {"mode": "all"}, {"mode": None}, {"mode": []}, {"view": [1, 2]}, {"view": ["a"] * 19},
        {"view": [0] * 16 + [0, 10, 10]}, {"view": [0] * 16 + [50, 0, 10]}, {"view": [0] * 16 + [50, 10, 1e6]},
        {"view": [float("inf")] + [0] * 15 + [50, 10, 10]}, {"points": [[1]]}, {"points": [[1, None]]},
        {"points": [[1, float("nan")]]}, {"points": [[0, 0]] * 3000}, {"points": 5},
    ],
)  # fmt: skip
def test_what_no_page_sends_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no |deep"):
        read_message(json.dumps({**GOOD, **changed}))


@pytest.mark.parametrize("raw", [b"{}", "", "[]", "7", "{", "[" * 10_000, " " * (LONGEST + 1), '"\\ud800"'])
def test_what_is_no_message_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  json's own among them
        read_message(raw)
