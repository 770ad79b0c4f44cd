from __future__ import annotations

import pytest

from gseg_ns.benchmarking.ablation import judge
from gseg_ns.benchmarking.published import GRADISEG, TABLES, Row, Table
from gseg_ns.benchmarking.verdicts import order_verdicts, spread


def outcomes(measured: dict[str, list[float]], published: dict[str, float], **options: object) -> dict[str, str]:
    verdicts = order_verdicts(measured, published, **options)  # type: ignore[arg-type]
    return {f"{v.better}>{v.worse}": v.outcome for v in verdicts}


def test_each_pair_is_judged_by_the_sign_of_its_difference() -> None:
    # Published c > b > a. Measured: b 70, c 60, a 59.8.
    got = outcomes({"a": [59.8], "b": [70.0], "c": [60.0]}, {"a": 10.0, "b": 20.0, "c": 30.0})
    assert got == {"b>a": "agrees", "c>a": "tie", "c>b": "differs"}


def test_rows_of_one_table_only_are_left_out() -> None:
    assert outcomes({"a": [1.0], "ours": [9.0]}, {"a": 1.0, "tracker": 50.0}) == {}


def test_published_ties_claim_nothing() -> None:
    assert outcomes({"a": [1.0], "b": [9.0]}, {"a": 46.4, "b": 46.5}) == {}


def test_a_difference_below_the_spread_over_seeds_is_a_tie() -> None:
    # Standard deviation of 70 and 74: 2.83; the means differ by 2.
    measured = {"a": [70.0, 74.0], "b": [70.0, 70.0]}
    assert spread(measured["a"]) == pytest.approx(8**0.5)
    assert outcomes(measured, {"a": 2.0, "b": 1.0}) == {"a>b": "tie"}
    assert outcomes({"a": [70.0, 74.0], "b": [60.0, 60.0]}, {"a": 2.0, "b": 1.0}) == {"a>b": "agrees"}


def test_claims_in_words_have_no_published_difference() -> None:
    (verdict,) = order_verdicts({"full": [80.0], "w/o": [85.0]}, {}, claims=[("full", "w/o"), ("full", "not run")])
    assert (verdict.published, verdict.measured, verdict.outcome) == (None, -5.0, "differs")


def test_a_table_is_judged_by_each_of_its_metrics() -> None:
    table = Table("t", "s", ("iou", "recall"), (Row("a", (1.0, 5.0)), Row("b", (3.0, 2.0)), Row("tracker", (9.0, 9.0))))
    measured = {"a": [{"iou": 50.0, "recall": 50.0}], "b": [{"iou": 60.0, "recall": 60.0}]}
    got = judge(table, measured)
    assert [v.outcome for v in got["iou"]] == ["agrees"]
    assert [v.outcome for v in got["recall"]] == ["differs"]


def test_every_row_has_a_number_a_metric_and_a_way_to_run_it() -> None:
    for tables in TABLES.values():
        for table in tables:
            names = [row.name for row in table.rows]
            assert len(set(names)) == len(names)
            assert {name for claim in table.claims for name in claim} <= set(names)
            for row in table.rows:
                assert row.published is None or len(row.published) == len(table.metrics)
                assert row.options is None or row.association is None
                assert row.options is not None or row.association is not None or row.published is not None


def test_gradiseg_means_over_its_three_scenes() -> None:
    [full] = [row for row in GRADISEG[0].rows if row.name == "full"]
    assert full.published == (78.07, 73.87)
