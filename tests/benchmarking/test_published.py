from __future__ import annotations

import copy
from importlib import import_module

import pytest
import tyro

from gseg_ns.benchmarking.published import IGD_START, PAPER, TABLES, association_options

CASES = [
    (method, row.name, row.options)
    for method, tables in TABLES.items()
    for table in tables
    for row in table.rows
    if row.options
]


@pytest.mark.parametrize(("method", "name", "options"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_ns_train_knows_the_options_of_each_row(method: str, name: str, options: tuple[str, ...]) -> None:
    module = method.replace("-", "_")
    config = copy.deepcopy(getattr(import_module(f"gseg_ns.method_configs.{module}"), module).config.pipeline.model)
    prefix = "--pipeline.model."
    arguments = [part.replace(prefix, "--") for part in options]
    parsed = tyro.cli(type(config), default=config, args=arguments, config=(tyro.conf.FlagConversionOff,))
    assert parsed != config  # the full method has no options


def test_the_papers_start_of_igd_is_the_default() -> None:
    from gseg_ns.models.gradiseg import GradiSegModelConfig

    config = GradiSegModelConfig()
    assert config.igd_start == IGD_START
    assert config.igd_stop == IGD_START + 0.1
    rows = {row.name: row.options for row in TABLES["gradiseg"][1].rows}
    assert rows[f"{IGD_START:.0%} of the run"] == PAPER


def test_a_trained_row_of_gaga_names_what_its_association_changes() -> None:
    (row,) = [row for row in TABLES["gaga"][0].rows if row.name == "memory bank (official code)"]
    assert row.association is not None
    assert association_options(row.association) == (
        *("--pipeline.model.association", "memory-bank"),
        *("--pipeline.model.memory-bank.similarity", "official"),
        *("--pipeline.model.memory-bank.exclusive", "False"),
    )
