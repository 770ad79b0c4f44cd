from __future__ import annotations

import copy
from importlib import import_module

import pytest
import tyro

from gseg_ns.benchmarking.published import TABLES

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
    # The paper's own setting is the default.
    assert (parsed == config) == (name == "40% of the run")
