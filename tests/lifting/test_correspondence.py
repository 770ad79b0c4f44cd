from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gseg_ns.lifting import correspondence
from gseg_ns.lifting.correspondence import (
    PairSampling,
    correspondence_loss,
    identity_vectors,
    mask_correspondence,
    mask_set_overlap,
    mean_mask_size,
    norm_loss,
    overlap_loss,
    sample_scales,
)

# A part in an object in a group, another object in the group, and one alone.
SCALES = torch.tensor([1.0, 2.0, 4.0, 2.5, 3.0])
MEMBERS = torch.tensor(
    [
        [1, 1, 1, 0, 0],  # the part
        [0, 1, 1, 0, 0],  # the object around it
        [0, 0, 1, 1, 0],  # the other object
        [0, 0, 1, 0, 0],  # the rest of the group
        [0, 0, 0, 0, 1],  # alone
    ],
    dtype=torch.bool,
)


def identity_by_definition(members: Tensor, mask_scales: Tensor, scale: float) -> Tensor:
    result = torch.zeros_like(members)
    for p in range(len(members)):
        for i in range(len(mask_scales)):
            smaller = [j for j in range(len(mask_scales)) if scale <= mask_scales[j] < mask_scales[i]]
            free = not any(members[p, j] for j in smaller)
            if mask_scales[i] < scale or free:
                result[p, i] = members[p, i]
    return result


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 2.2, 2.5, 3.5, 4.0, 9.0])
def test_identity_vectors_are_equation_6(scale: float) -> None:
    [found] = identity_vectors(MEMBERS, SCALES, torch.tensor([scale]))
    assert torch.equal(found, identity_by_definition(MEMBERS, SCALES, scale))


def test_scale_zero_splits_and_a_scale_beyond_every_mask_merges() -> None:
    split, merged = mask_correspondence(identity_vectors(MEMBERS, SCALES, torch.tensor([0.0, 5.0])))
    assert torch.equal(split, torch.eye(5, dtype=torch.bool))
    assert torch.equal(merged, (MEMBERS.float() @ MEMBERS.float().T) > 0)


def test_order_of_masks_changes_nothing() -> None:
    order = torch.tensor([3, 1, 4, 0, 2])
    scales = torch.tensor([0.0, 1.5, 2.2, 9.0])
    one = mask_correspondence(identity_vectors(MEMBERS, SCALES, scales))
    two = mask_correspondence(identity_vectors(MEMBERS[:, order], SCALES[order], scales))
    assert torch.equal(one, two)


def test_drawn_scales_have_both_ends() -> None:
    generator = torch.Generator().manual_seed(3)
    for count in (1, 2, 8):
        drawn = sample_scales(SCALES, count, 4.0, generator)
        assert len(drawn) == count
        assert drawn[0] > 4.0
        assert (drawn[1:] > 0).all()
        assert (drawn[1:] <= 4.0).all()
    assert torch.isfinite(sample_scales(torch.tensor([0.0]), 8, 0.0)).all()
    equal = sample_scales(torch.full((6,), 2.0), 8, 2.0, generator)
    assert equal[0] > 2.0


def loss_by_definition(
    features: Tensor, gates: Tensor, kinds: Tensor, related: Tensor, size: Tensor, sampling: PairSampling
) -> Tensor:
    """Eq. 13 with everything that is random taken in (resample=False)."""
    upper = torch.ones(len(kinds), len(kinds)).triu(1).bool()
    weight = 1 / (size[:, None] * size[None, :])
    low, high = 1 / size.max() ** 2, 1 / size.min() ** 2
    if sampling.reweight:
        weight = 1 + 9 * (weight - low) / (high - low) if high > low else torch.ones_like(weight)
    else:
        weight = torch.ones_like(weight)
    R = related[:, kinds][:, :, kinds]
    always, never = R.all(dim=0) & upper, ~R.any(dim=0) & upper
    mixed = upper & ~always & ~never
    terms: dict[str, list[Tensor]] = {"positive": [], "negative": []}
    for s in range(len(R)):
        units = F.normalize(features * gates[s], dim=-1)
        cosine = units @ units.T
        sign = 1 - 2 * R[s].float()
        clipped = cosine.clamp_min(0) if sampling.clip_positive else torch.where(R[s], cosine, cosine.clamp_min(0))
        value = weight * sign * clipped
        terms["positive"].append(value[mixed | always])
        terms["negative"].append(value[mixed | never])
    return sum((torch.cat(v).sum() / max(torch.cat(v).numel(), 1) for v in terms.values()), torch.zeros(()))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("reweight", [False, True])
@pytest.mark.parametrize("block", [7, 256])
def test_loss_and_gradient_are_equation_13(
    clip: bool, reweight: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correspondence, "_BLOCK", block)
    torch.manual_seed(1)
    features = torch.randn(40, 6, requires_grad=True)
    gates = torch.rand(4, 6, requires_grad=True)
    kinds = torch.randint(0, 5, (40,))
    related = mask_correspondence(identity_vectors(MEMBERS, SCALES, torch.tensor([9.0, 2.2, 1.5, 0.5])))
    size = mean_mask_size(MEMBERS, torch.tensor([10, 40, 300, 60, 90]))[kinds]
    sampling = PairSampling(resample=False, reweight=reweight, clip_positive=clip)
    found = correspondence_loss(features, gates, kinds, related, size, sampling)
    expected = loss_by_definition(features, gates, kinds, related, size, sampling)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for ours, reference in zip(
        torch.autograd.grad(found, [features, gates]), torch.autograd.grad(expected, [features, gates]), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-6)


def test_resampling_takes_half_as_many_of_each_consistent_kind() -> None:
    torch.manual_seed(0)
    kinds = torch.randint(0, 5, (400,))
    related = mask_correspondence(identity_vectors(MEMBERS, SCALES, torch.tensor([9.0, 0.5])))
    bits = (related << torch.arange(2)[:, None, None]).sum(dim=0).int()
    positive, negative = correspondence._thinning(kinds, bits, 3)
    pairs = bits[kinds][:, kinds][torch.ones(400, 400).triu(1).bool()]
    mixed = int(((pairs > 0) & (pairs < 3)).sum())
    assert positive == pytest.approx(mixed / 2 / int((pairs == 3).sum()))
    assert negative == pytest.approx(mixed / 2 / int((pairs == 0).sum()))


def test_views_with_nothing_to_tell_apart_give_finite_losses() -> None:
    gates = torch.rand(2, 4)
    for members, count in ((torch.ones(1, 1), 10), (torch.ones(1, 1), 1), (torch.ones(1, 1), 0), (torch.eye(2), 10)):
        members = members.bool()
        kinds = torch.arange(count) % len(members)
        scales = torch.ones(members.shape[1])
        related = mask_correspondence(identity_vectors(members, scales, torch.tensor([2.0, 0.5])))
        features = torch.randn(count, 4, requires_grad=True)
        size = mean_mask_size(members, torch.full((members.shape[1],), 5))[kinds]
        loss = correspondence_loss(features, gates, kinds, related, size, PairSampling())
        loss.backward()
        assert torch.isfinite(loss)
        assert features.grad is not None
        assert torch.isfinite(features.grad).all()


def test_descent_separates_masks_and_joins_pixels_of_one() -> None:
    torch.manual_seed(0)
    kinds = torch.arange(5).repeat_interleave(12)
    features = torch.nn.Parameter(torch.randn(60, 8))
    related = mask_correspondence(identity_vectors(MEMBERS, SCALES, torch.tensor([0.5])))
    size = mean_mask_size(MEMBERS, torch.tensor([10, 40, 300, 60, 90]))[kinds]
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        correspondence_loss(features, torch.ones(1, 8), kinds, related, size, PairSampling()).backward()
        optimizer.step()
    units = F.normalize(features.detach(), dim=-1)
    cosine = units @ units.T
    same = kinds[:, None] == kinds[None, :]
    assert cosine[same].min() > 0.7
    assert cosine[~same].max() < 0.55


def test_norm_loss() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    assert float(norm_loss(features)) == pytest.approx(0.25)
    assert float(norm_loss(features, squared=True)) == pytest.approx(0.0625)


def test_overlap_of_mask_sets() -> None:
    overlap = mask_set_overlap(MEMBERS)
    assert float(overlap[0, 0]) == 1.0
    assert float(overlap[0, 1]) == pytest.approx(2 / 3)
    assert float(overlap[0, 4]) == -1.0
    kinds = torch.tensor([0, 1])
    features = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = -(1 + 1 + 2 * (2 / 3) * 0.5**0.5) / 4
    assert float(overlap_loss(features, kinds, overlap)) == pytest.approx(expected)
    assert float(overlap_loss(features[:0], kinds[:0], overlap)) == 0.0


def test_masks_that_do_not_overlap_train_beyond_the_hard_pairs() -> None:
    """Label maps: no pair is scale-sensitive, so by the official rule none but hard ones would count."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(2).repeat_interleave(50)
    centre = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.954, 0.0]])  # cosine 0.3: not hard
    features = (centre[kinds] + 0.03 * torch.randn(100, 3, generator=generator)).requires_grad_()
    related = torch.eye(2, dtype=torch.bool).expand(4, 2, 2)

    def slope(**options: float) -> float:
        sampling = PairSampling(**options)  # type: ignore[arg-type]
        loss = correspondence_loss(features, torch.ones(4, 3), kinds, related, torch.ones(100), sampling, generator)
        return float(torch.autograd.grad(loss, features)[0].abs().sum())

    assert slope(least_drawn=0.0) == 0
    assert slope() > 0.01
