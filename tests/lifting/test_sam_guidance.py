from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.lifting.sam_guidance import (
    SamProjection,
    accept_mean_query,
    clutter_loss,
    guidance_loss,
    prototypes,
    read_embedding,
    sam_threshold,
)


def test_prototypes_are_masked_means() -> None:
    projected = torch.randn(4, 4, 5)
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2] = True
    masks[2, 1, 1] = True
    queries = prototypes(projected, masks)
    torch.testing.assert_close(queries[0], projected[:2].reshape(-1, 5).mean(dim=0))
    assert not queries[1].any(), "an empty mask"
    torch.testing.assert_close(queries[2], projected[1, 1])


def test_losses() -> None:
    features = torch.tensor([[4.0, 0.0], [0.0, 4.0]], requires_grad=True)
    queries = torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    right = guidance_loss(features, queries, torch.eye(2).bool())
    wrong = guidance_loss(features, queries, ~torch.eye(2).bool())
    assert right < 1e-3
    assert wrong > 10
    assert guidance_loss(features, queries[:0], torch.zeros(2, 0).bool()).item() == 0
    assert clutter_loss(features, queries).item() == pytest.approx(8.0)
    assert clutter_loss(features[:0], queries).item() == 0


def test_the_projection_learns_masks_through_the_features() -> None:
    torch.manual_seed(0)
    embedding = torch.zeros(2, 2, 256)
    embedding[:, 0, 0] = 3
    embedding[:, 1, 1] = 3
    masks = torch.tensor([[[1, 0], [1, 0]], [[0, 1], [0, 1]]]).bool()
    features = torch.nn.Parameter(torch.randn(8, 32))
    members = torch.tensor([[1, 0]] * 4 + [[0, 1]] * 4).bool()
    projection = SamProjection()
    optimizer = torch.optim.Adam([features, *projection.parameters()], lr=0.01)
    for _ in range(60):
        queries = prototypes(projection(embedding), masks)
        loss = guidance_loss(features, queries, members)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05


def test_acceptance_and_threshold() -> None:
    features = torch.zeros(4, 4, 2)
    features[:, :2, 0] = 1
    features[:, 2:, 0] = -1
    left = torch.zeros(4, 4, dtype=torch.bool)
    left[:, :2] = True
    query = torch.tensor([1.0, 0.0])
    assert accept_mean_query(query, features, left)
    assert not accept_mean_query(query, features, torch.ones_like(left))
    assert not accept_mean_query(query, features, torch.zeros_like(left))
    assert sam_threshold(torch.tensor([0.0, 2.0])) == pytest.approx(2.0)
    assert sam_threshold(torch.zeros(0)) == 0


def test_embedding_is_read_without_its_padding(tmp_path: Path) -> None:
    grid = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float16)
    np.savez(tmp_path / "a.npz", embedding=grid, input_size=np.array([768, 1024]), square=np.array(1024))
    found = read_embedding(tmp_path / "a.npz")
    assert found.shape == (6, 8, 4)
    assert found[5, 2].tolist() == grid[:, 5, 2].tolist()
    np.savez(tmp_path / "b.npz", embedding=grid)
    assert read_embedding(tmp_path / "b.npz").shape == (8, 8, 4)


def test_what_is_no_embedding_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    np.savez(tmp_path / "flat.npz", embedding=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name in ("other", "flat", "broken", "missing"):
        with pytest.raises(GsegError, match=name):
            read_embedding(tmp_path / f"{name}.npz")
