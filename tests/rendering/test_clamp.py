from __future__ import annotations

import pytest
import torch

from gseg_ns.rendering.clamp import clamp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_values_and_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    given = torch.tensor([[-1.0, 0.0, 0.3], [1.0, 1.5, 0.9], [inf, -inf, nan]])
    values = (given if dtype.is_floating_point else given.nan_to_num(5.0)).to(dtype)
    torch.testing.assert_close(clamp(values, 0, 1), torch.clamp(values, 0, 1), rtol=0, atol=0, equal_nan=True)
    if not dtype.is_floating_point:
        return
    # Strides that are not those of memory, too.
    # At a bound itself versions of torch differ.
    values = torch.where((values == 0) | (values == 1), 0.5, values)
    found, expected = (values.clone().requires_grad_() for _ in range(2))
    upstream = torch.randn(3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    clamp(found.T, 0.0, 1.0).backward(upstream)
    torch.clamp(expected.T, 0.0, 1.0).backward(upstream)
    assert torch.equal(found.grad, expected.grad)


def test_values_that_changed_since_are_noticed() -> None:
    given = torch.tensor([0.2, 2.0], requires_grad=True)
    values = given * 1
    out = clamp(values, 0.0, 1.0).sum()
    values.mul_(10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.cuda
def test_other_devices_clamp_as_torch_does() -> None:
    values = torch.tensor([-1.0, 0.5, 2.0], device="cuda")
    assert torch.equal(clamp(values, 0, 1).cpu(), torch.tensor([0.0, 0.5, 1.0]))
