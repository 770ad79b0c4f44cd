from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gseg_ns.evaluation.quality import image_quality, psnr


def images(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gt = np.kron(rng.random((6, 8, 3)), np.ones((8, 8, 1))).astype(np.float32)
    return np.clip(gt + rng.normal(0, 0.05, gt.shape), 0, 1).astype(np.float32), gt


def test_equals_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pred, gt = images(0)
    assert psnr(pred, gt) == pytest.approx(peak_signal_noise_ratio(gt, pred, data_range=1), abs=1e-4)
    scores = image_quality([pred], [gt])
    # torchmetrics keeps the border (reflected), which scikit-image cuts from its mean but not from its map.
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, similarity = structural_similarity(gt, pred, data_range=1, channel_axis=2, full=True, **window)
    assert scores.ssim == pytest.approx(similarity.mean(), abs=1e-3)
    assert scores.lpips is None


def test_means_over_views_and_masks() -> None:
    pred, gt = images(1)
    worse = np.clip(gt + 0.2, 0, 1)
    scores = image_quality([pred, worse], [gt, gt])
    assert scores.psnr == pytest.approx((psnr(pred, gt) + psnr(worse, gt)) / 2)
    assert scores.view_psnr == pytest.approx((psnr(pred, gt), psnr(worse, gt)))
    spoilt = gt.copy()
    spoilt[:10] = 1 - spoilt[:10]
    outside = np.ones(gt.shape[:2], bool)
    outside[:10] = False
    assert psnr(spoilt, gt) < 20
    assert psnr(spoilt, gt, outside) == math.inf


def test_bytes_floats_and_by_hand() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(grey, black) == pytest.approx(-20 * math.log10(0.2), abs=1e-5)
    assert psnr(torch.full((4, 4, 3), 0.2), black) == pytest.approx(-20 * math.log10(0.2), abs=1e-5)


def test_bad_input() -> None:
    pred, gt = images(2)
    with pytest.raises(ValueError, match="shapes"):
        psnr(pred[:4], gt)
    with pytest.raises(ValueError, match="no pixel"):
        psnr(pred, gt, np.zeros(gt.shape[:2], bool))
    with pytest.raises(ValueError, match="renders"):
        image_quality([], [])
