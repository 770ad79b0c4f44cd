"""Numbers kept between two bounds, forward and backward, as torch clamps them."""

from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels.jit import kernel


@kernel
def forward(start, stop, values, low, high, out):  # type: ignore[no-untyped-def]
    """out[start..stop] = values, at least low and at most high; what is no number stays so."""
    real = values.dtype.type
    low, high = real(low), real(high)
    for i in range(start, stop):
        value = values[np.uintp(i)]
        out[np.uintp(i)] = low if value < low else high if value > high else value


@kernel
def backward(start, stop, values, low, high, v_out, v_values):  # type: ignore[no-untyped-def]
    """v_values[start..stop] = v_out where the value was between the bounds, else 0."""
    real = values.dtype.type
    low, high = real(low), real(high)
    for i in range(start, stop):
        value = values[np.uintp(i)]
        v_values[np.uintp(i)] = v_out[np.uintp(i)] if (value > low) & (value < high) else real(0)
