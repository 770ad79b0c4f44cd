from __future__ import annotations

import torch

from gseg_ns.lifting.votes import accumulate_votes, labels_from_votes
from gseg_ns.rendering import project, rasterize_to_pixels


def scene(seed: int = 0) -> tuple[dict[str, object], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = 40
    means = torch.rand((count, 3), generator=generator) * 2 - 1
    means[:, 2] += 4
    K = torch.tensor([[20.0, 0, 12], [0, 20.0, 10], [0, 0, 1]])
    meta = project(
        means,
        torch.randn((count, 4), generator=generator),
        torch.full((count, 3), 0.15),
        torch.rand(count, generator=generator) * 0.9,
        torch.eye(4)[None],
        K[None],
        24,
        20,
    )
    return meta, torch.randint(0, 4, (20, 24), generator=generator)


def test_votes_are_the_gradient_of_a_rendered_label() -> None:
    meta, labels = scene()
    votes = accumulate_votes([(meta, labels), (meta, labels)], 40, 4)
    colours = torch.zeros((1, 40, 4), requires_grad=True)
    image, _ = rasterize_to_pixels(
        meta["means2d"], meta["conics"], colours, meta["opacities"], 24, 20,
        meta["tile_size"], meta["isect_offsets"], meta["flatten_ids"],
    )  # fmt: skip
    (image[0] * torch.nn.functional.one_hot(labels, 4)).sum().backward()
    assert colours.grad is not None
    torch.testing.assert_close(votes, 2 * colours.grad[0], atol=1e-4, rtol=1e-4)


def test_the_order_of_the_views_does_not_matter() -> None:
    views = [scene(seed) for seed in range(3)]
    forward = labels_from_votes(accumulate_votes(views, 40, 4))
    backward = labels_from_votes(accumulate_votes(views[::-1], 40, 4))
    assert torch.equal(forward, backward)


def test_labels_from_votes_by_hand() -> None:
    votes = torch.tensor([[9.0, 1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 3.0, 1.0]])
    assert labels_from_votes(votes).tolist() == [2, 0, 0, 1]
    assert labels_from_votes(votes, count_unlabelled=True).tolist() == [0, 0, 0, 1]
    assert labels_from_votes(votes[:, :1]).tolist() == [0, 0, 0, 0]
