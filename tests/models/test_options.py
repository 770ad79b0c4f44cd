from __future__ import annotations

import copy
from typing import Any

import pytest

from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.saga_v1 import saga_v1
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models.options import check_options, notes


def changed(method: Any, place: str, value: Any) -> Any:
    config = copy.deepcopy(method.config)
    target = config
    *path, name = place.split(".")
    for part in path:
        target = getattr(target, part)
    assert hasattr(target, name)
    setattr(target, name, value)
    return config


@pytest.mark.parametrize("method", [gaga, gradiseg, saga, saga_v1, unified_lift], ids=lambda m: m.config.method_name)
def test_defaults_can_work(method: Any) -> None:
    check_options(method.config)
    assert notes(method.config) == []


@pytest.mark.parametrize(
    ("method", "place", "value", "message"),
    [
        (gaga, "pipeline.model.sh_degree", 4, "--pipeline.model.sh-degree is 4: give a degree from 0 to 3"),
        (saga, "pipeline.model.sh_degree", -1, "sh-degree is -1"),
        (gaga, "max_num_iterations", 0, "--max-num-iterations is 0"),
        (gaga, "machine.num_devices", 2, "trains on one device"),
        (gaga, "pipeline.model.refine_every", 0, "refine-every is 0: give at least 1, or -1"),
        (gaga, "pipeline.model.num_downscales", -2, "num-downscales is -2"),
        (gaga, "pipeline.model.max_gaussians", -5, "max-gaussians is -5"),
        (gaga, "pipeline.model.neighbour_count", 0, "neighbour-count is 0"),
        (gaga, "pipeline.model.identity_pixels", -1, "identity-pixels is -1"),
        (saga, "pipeline.model.reset_alpha_every", 0, "reset-alpha-every is 0"),
        (gradiseg, "pipeline.model.igd_start", 0.9, "igd-start is 0.9, after --pipeline.model.igd-stop 0.5"),
        (gradiseg, "pipeline.model.igd_shrink", 0.0, "igd-shrink is 0"),
        (saga_v1, "pipeline.model.clutter_share", 2.0, "clutter-share is 2"),
        (unified_lift, "pipeline.model.feature_start", 2.0, "feature-start is 2"),
        (gaga, "pipeline.datamanager.fps_reset_every", 0, "fps-reset-every is 0"),
        (gaga, "pipeline.datamanager.cache_images", "disk", "cache-images is disk"),
        (unified_lift, "pipeline.model.num_codes", 0, "num-codes is 0"),
        (unified_lift, "pipeline.model.hdbscan_min_size", 1, "hdbscan-min-size is 1"),
        (gradiseg, "pipeline.model.la_knn_candidates", 0, "la-knn-candidates is 0"),
        (saga, "pipeline.model.default_scale", 1.5, "default-scale is 1.5"),
        (gaga, "pipeline.datamanager.camera_res_scale_factor", 0.0, "camera-res-scale-factor is 0"),
        (gaga, "pipeline.datamanager.mask_min_visible", 2.0, "mask-min-visible is 2"),
    ],
)
def test_what_cannot_work_is_refused(method: Any, place: str, value: Any, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        check_options(changed(method, place, value))


def test_all_pixels_may_train_the_encodings() -> None:
    check_options(changed(gaga, "pipeline.model.identity_pixels", 0))


def test_a_grid_of_colors_needs_cells() -> None:
    config = changed(gaga, "pipeline.model.grid_shape", (0, 4, 4))
    check_options(config)
    config.pipeline.model.use_bilateral_grid = True
    with pytest.raises(GsegError, match="at least 2 cells"):
        check_options(config)


def test_the_camera_optimizer_has_nothing_to_do_on_a_given_geometry() -> None:
    config = changed(gaga, "pipeline.model.camera_optimizer.mode", "SO3xR3")
    assert notes(config) == []
    config.pipeline.model.geometry = "some.ply"
    assert "nothing to train on" in notes(config)[0]
