"""Parts, objects and groups in a real browser: a click, and what is narrower and wider than it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from browser_driver import CHROMIUM, Hand, Running, browsing, chromium, find_view, interior, iou, two_objects
from gseg_ns.runs.run import load_run

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"),
]


def plant(config: Path) -> None:
    """Give a run a tree: a left and a right part of every object, and one group of all."""
    model = load_run(config).model
    groups, across = model.gaussian_groups(), model.means[:, 0].detach()
    parents, nodes = [0, 0], torch.zeros_like(groups)
    for group in groups[groups > 0].unique().tolist():
        mine = groups == group
        node = len(parents)
        parents += [1, node, node]
        nodes[mine] = node + 1 + (across[mine] > across[mine].median()).long()
    [path] = (config.parent / "nerfstudio_models").glob("*.ckpt")
    state = torch.load(path, weights_only=True)
    state["pipeline"] |= {
        "_model.tree_parents": torch.tensor(parents, dtype=torch.int32),
        "_model.tree_nodes": nodes.int(),
        "_model.tree_evidence": torch.ones(len(parents)),
        "_model.tree_objects": torch.tensor([parent == 1 for parent in parents]),
        "_model.voted_labels": nodes.int(),
        "_model.voted_confidence": torch.ones(len(nodes)),
    }
    torch.save(state, path)


@pytest.fixture(scope="module")
def running(constructed_run: Path) -> Iterator[Running]:
    plant(constructed_run)
    with chromium() as browser, browsing(constructed_run, browser) as running:
        yield running


def test_click_then_narrower_and_wider(running: Running, ball_room: Path) -> None:
    camera, truth = find_view(running, ball_room)
    mask = truth == two_objects(truth)[0]
    running.look(camera)
    narrower, wider = (running.page.get_by_role("button", name=name, exact=True) for name in ("Narrower", "Wider"))
    running.click("Replace", camera, *interior(mask))

    def state() -> tuple[np.ndarray, np.ndarray]:
        """What is selected as a mask, and what the page shows."""
        running.settle()
        return running.rendered(camera), np.asarray(running.screenshot(running.picture())).astype(int)

    whole, shown = state()
    assert iou(whole, mask) >= 0.8
    assert narrower.is_enabled()
    assert wider.is_enabled()
    narrower.click()
    running.wait(lambda: not narrower.is_enabled(), "the smallest part")
    part, shown_part = state()
    assert 0 < part.sum() < 0.95 * whole.sum()
    assert (part & whole).sum() > 0.9 * part.sum()
    assert (np.abs(shown_part - shown).sum(axis=2) > 20).sum() > 100, "the outline in the browser is the same"
    Hand(running.page).key("]")
    running.wait(lambda: narrower.is_enabled(), "the object again")
    again, shown_again = state()
    assert iou(again, whole) > 0.99
    assert (np.abs(shown_again - shown_part).sum(axis=2) > 20).sum() > 100
    wider.click()
    running.wait(lambda: not wider.is_enabled(), "the group")
    everything, shown_everything = state()
    assert everything.sum() > 2 * whole.sum()
    assert (np.abs(shown_everything - shown_again).sum(axis=2) > 20).sum() > 100
