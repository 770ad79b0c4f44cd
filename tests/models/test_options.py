"""Options that cannot work: refused before training, whatever the method; and what changes nothing is said."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from gseg_ns.errors import GsegError
from gseg_ns.method_configs.gaga import gaga
from gseg_ns.method_configs.gradiseg import gradiseg
from gseg_ns.method_configs.saga import saga
from gseg_ns.method_configs.saga_v1 import saga_v1
from gseg_ns.method_configs.unified_lift import unified_lift
from gseg_ns.models.options import _numbers, check_options, notes
from gseg_ns.models.recipes import settle

METHODS = {method.config.method_name: method for method in (gaga, gradiseg, saga, saga_v1, unified_lift)}
MODEL, DATA = "pipeline.model", "pipeline.datamanager"


def changed(name: str, **changes: Any) -> Any:
    """A method's config with other values; `__` in names are dots, keys of dicts among them."""
    config = copy.deepcopy(METHODS[name].config)
    for place, value in changes.items():
        put(config, place.split("__"), value)
    return config


def put(config: Any, path: list[str], value: Any) -> None:
    """Set a value deep inside, also of frozen options, and without asking them."""
    target = config
    for part in path[:-1]:
        target = target[part] if isinstance(target, dict) else getattr(target, part)
    if isinstance(target, dict):
        target[path[-1]] = value
    else:
        assert hasattr(target, path[-1]), path
        target.__dict__[path[-1]] = value


def model(**changes: Any) -> dict[str, Any]:
    return {f"pipeline__model__{name}": value for name, value in changes.items()}


def data(**changes: Any) -> dict[str, Any]:
    return {f"pipeline__datamanager__{name}": value for name, value in changes.items()}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_can_work(name: str) -> None:
    check_options(METHODS[name].config)
    assert notes(METHODS[name].config) == []


@pytest.mark.parametrize("recipe", ["paper", "official"])
@pytest.mark.parametrize("name", METHODS)
def test_recipes_can_work(name: str, recipe: str) -> None:
    config = changed(name, **model(recipe=recipe))
    settle(config)
    check_options(config)
    assert notes(config) == []


@pytest.mark.parametrize("parser", [ColmapDataParserConfig(), NerfstudioDataParserConfig()])
def test_defaults_of_named_parsers_can_work(parser: Any) -> None:
    check_options(changed("gaga", **data(dataparser=parser)))


@pytest.mark.parametrize("name", METHODS)
def test_no_number_may_be_none_infinite_or_far_below_zero(name: str) -> None:
    """Every number that a run has, also those of Nerfstudio's parts and of each optimizer."""
    config = copy.deepcopy(METHODS[name].config)
    places = dict(_numbers(config))
    assert len(places) > 100
    free = {"num_iterations"}
    any_sign = {"mask_min_score", "eval_num_images_to_sample_from", "eval_num_times_to_repeat_images"}
    for path, before in places.items():
        if path[-1] in free or path[-1] in ("grid_shape", "eval_image_indices"):
            continue
        for value in (math.nan, math.inf, -7.0):
            if value == -7.0 and path[-1] in any_sign:
                continue
            put(config, list(path), value)
            with pytest.raises(GsegError, match=path[-1].replace("_", "-")) as caught:
                check_options(config)
            assert "give" in str(caught.value)
            assert "\n" not in str(caught.value)
        put(config, list(path), before)


EVERY_METHOD: list[tuple[dict[str, Any], str]] = [
    (model(sh_degree=4), "--pipeline.model.sh-degree is 4: give a degree from 0 to 3"),
    (model(sh_degree=-1), "sh-degree is -1"),
    ({"max_num_iterations": 0}, "--max-num-iterations is 0"),
    ({"machine__num_devices": 2}, "trains on one device"),
    ({"machine__num_devices": 0}, "--machine.num-devices is 0: give at least 1"),
    ({"machine__seed": -1}, "--machine.seed is -1"),
    ({"logging__steps_per_log": 0}, "--logging.steps-per-log is 0"),
    ({"viewer__websocket_port": 70000}, "--viewer.websocket-port is 70000: give a port"),
    ({"viewer__jpeg_quality": 300}, "--viewer.jpeg-quality is 300"),
    ({"gradient_accumulation_steps": {"means": 0}}, "--gradient-accumulation-steps.means is 0"),
    ({"optimizers__means__optimizer__lr": -1e-3}, "--optimizers.means.optimizer.lr is -0.001: give at least 0"),
    ({"optimizers__scales__optimizer__lr": math.nan}, "--optimizers.scales.optimizer.lr is nan: give a finite number"),
    ({"optimizers__means__optimizer__eps": 0.0}, "optimizer.eps is 0"),
    ({"optimizers__means__scheduler__max_steps": 0}, "--optimizers.means.scheduler.max-steps is 0"),
    (model(refine_every=0), "refine-every is 0: give at least 1, or -1"),
    (model(num_downscales=-2), "num-downscales is -2"),
    (model(resolution_schedule=20_000), "would not be seen at their full resolution"),
    (model(max_gaussians=-5), "max-gaussians is -5"),
    (model(reset_alpha_every=0), "reset-alpha-every is 0"),
    (model(ssim_lambda=1.5), "ssim-lambda is 1.5: give a share"),
    (model(cull_alpha_thresh=1.0), "cull-alpha-thresh is 1: give an opacity"),
    (model(num_random=0), "num-random is 0"),
    (model(n_split_samples=0), "n-split-samples is 0"),
    (model(densify_grad_thresh=-1.0), "densify-grad-thresh is -1"),
    (data(camera_res_scale_factor=0.0), "camera-res-scale-factor is 0"),
    (data(cache_images="disk"), "cache-images is disk"),
    (data(mask_min_visible=2.0), "mask-min-visible is 2"),
    (data(mask_min_score=math.nan), "mask-min-score is nan"),
    (data(fps_reset_every=0), "fps-reset-every is 0"),
    (data(dataparser__eval_interval=1), "^--eval-interval is 1: give at least 2"),
    (data(dataparser__train_split_fraction=1.2), "^--train-split-fraction is 1.2"),
    (data(dataparser__scale_factor=0.0), "^--scale-factor is 0: give more than 0"),
    (data(dataparser__downscale_factor=0), "^--downscale-factor is 0"),
    (data(dataparser__background_points=-3), "^--background-points is -3"),
]

TWO_PHASES: list[tuple[dict[str, Any], str]] = [
    ({"max_num_iterations": 1}, "no step for the features"),
    ({"max_num_iterations": 10} | model(geometry_fraction=0.01), "no step for the geometry"),
    (model(geometry_fraction=1.0), "geometry-fraction is 1: give a part of the run"),
    (model(geometry_fraction=math.nan), "geometry-fraction is nan"),
]

OF_METHODS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "gaga": [
        *TWO_PHASES,
        (model(neighbour_count=0), "neighbour-count is 0"),
        (model(identity_pixels=-1), "identity-pixels is -1"),
        (model(identity_weight=0.0, labels="encodings"), "identity-weight is 0"),
        (model(cache_gib=-1.0), "cache-gib is -1"),
        (model(memory_bank__grid=0), "memory-bank.grid is 0"),
        (model(consensus__support=math.nan), "consensus.support is nan"),
        (model(strengths__rate=-0.1), "strengths.rate is -0.1"),
    ],
    "saga": [
        *TWO_PHASES,
        (model(default_scale=1.5), "default-scale is 1.5"),
        (model(affinity__num_pixels=0), "affinity.num-pixels is 0: give at least 2"),
        (model(affinity__num_scales=0), "affinity.num-scales is 0: give 1 to 31"),
        (model(affinity__num_scales=40), "affinity.num-scales is 40: give 1 to 31"),
        (model(affinity__norm_weight=-1.0), "affinity.norm-weight is -1"),
        (model(affinity__cache_gib=math.nan), "affinity.cache-gib is nan"),
        (model(affinity__pairs__hard_positive=3.0), "pairs.hard-positive is 3: give a cosine"),
        (model(affinity__pairs__least_drawn=2.0), "pairs.least-drawn is 2"),
        (model(clusters__share=0.0), "clusters.share is 0"),
        (model(clusters__min_cluster_size=1), "clusters.min-cluster-size is 1"),
        (model(clusters__at_most=100), "clusters.at-most is 100, less than"),
        (model(clusters__epsilon=-0.1), "clusters.epsilon is -0.1"),
        ({"optimizers__scale_gate__optimizer__lr": -1.0}, "--optimizers.scale-gate.optimizer.lr is -1"),
    ],
    "saga-v1": [
        *TWO_PHASES,
        (model(clutter_share=2.0), "clutter-share is 2"),
        (model(num_pixels=1), "num-pixels is 1"),
        (model(guidance_weight=-1.0), "guidance-weight is -1"),
        (model(guidance_weight=0.0, correspondence_weight=0.0), "both 0: nothing would train"),
        (model(clusters__min_similarity=-2.0), "clusters.min-similarity is -2"),
        ({"optimizers__sam_projection__optimizer__lr": math.inf}, "sam-projection.optimizer.lr is inf"),
    ],
    "unified-lift": [
        (model(num_codes=0), "num-codes is 0"),
        (model(num_codes=1_000_000), "num-codes is 1e.06: give at least 1, and no more than 100000"),
        (model(hdbscan_min_size=1), "hdbscan-min-size is 1"),
        (model(feature_start=2.0), "feature-start is 2"),
        (model(feature_start=1.0), "feature-start is 1.0, the end of the run"),
        (model(codebook_start=1.0), "codebook-start is 1.0, the end of the run"),
        (model(num_pixels=20, pixels_per_mask=0), "min-pixels is 20, and --pipeline.model.num-pixels draws 20"),
        (model(feature_init=0.0), "feature-init is 0"),
        (model(uncertainty_threshold=-0.5), "uncertainty-threshold is -0.5"),
        (model(least_won=1.5), "least-won is 1.5"),
        (model(join_codes=-0.5), "join-codes is -0.5"),
        ({"optimizers__codebook__optimizer__lr": -1.0}, "--optimizers.codebook.optimizer.lr is -1"),
    ],
    "gradiseg": [
        (model(igd_start=0.9), "igd-start is 0.9, not before --pipeline.model.igd-stop 0.5"),
        (model(igd_start=0.5), "igd-start is 0.5, not before"),
        (model(igd_shrink=0.0), "igd-shrink is 0"),
        (model(igd_growth=-1.0), "igd-growth is -1"),
        (model(igd_threshold=math.nan), "igd-threshold is nan"),
        (model(identity_start=0.6), "identity-start is 0.6, not before --pipeline.model.igd-stop 0.5"),
        (model(identity_start=1.0, igd=False), "identity-start is 1.0: give a part of the run before its end"),
        (model(identity_start=-0.5), "identity-start is -0.5: give at least 0, or -1"),
        (model(identity_on_geometry=2.0), "identity-on-geometry is 2"),
        (model(identity_weight=0.0, labels="encodings"), "identity-weight is 0"),
        (model(la_knn_candidates=0), "la-knn-candidates is 0"),
        (model(la_knn_candidates=3), "la-knn-candidates is 3, fewer than the --pipeline.model.neighbour-count of 5"),
        (model(densify_stop=1.1), "densify-stop is 1.1"),
        (model(position_decay=1.1), "position-decay is 1.1"),
    ],
}


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_work_is_refused_in_one_message(name: str) -> None:
    for changes, message in [*EVERY_METHOD, *OF_METHODS[name]]:
        with pytest.raises(GsegError, match=message):
            check_options(changed(name, **changes))


SAID: dict[str, list[tuple[dict[str, Any], str]]] = {
    "gaga": [
        (model(geometry="some.ply", camera_optimizer__mode="SO3xR3"), "nothing to train on"),
        (model(geometry="some.ply", geometry_fraction=0.5), "geometry-fraction changes nothing: the geometry is given"),
        (model(geometry_frame="original"), "geometry-frame changes nothing"),
        (model(memory_bank__grid=16), "memory-bank changes nothing: --pipeline.model.association is auto"),
        (model(association="tree") | data(snap_masks=True), "snap-masks changes no part, object or group"),
        (model(strengths__steps=10, use_strengths=False), "strengths changes nothing"),
        (model(prompt="a chair"), "prompt changes nothing"),
        (data(eval_image_indices=(1, 2)), "--pipeline.datamanager.eval-image-indices changes nothing"),
    ],
    "saga": [
        (data(mask_order="largest"), "mask-order changes nothing: saga trains on overlapping masks"),
        (data(mask_min_score=0.9), "mask-min-score changes nothing"),
        (model(scale_gate=False, default_scale=0.2), "default-scale changes nothing"),
    ],
    "saga-v1": [
        (model(default_scale=0.2), "default-scale changes nothing: features have one granularity"),
        (model(guidance_weight=0.0, clutter_weight=1.0), "clutter-weight changes nothing: it is part of the guidance"),
        (data(mask_min_visible=0.5), "saga-v1 trains on overlapping masks"),
    ],
    "unified-lift": [
        (model(geometry_fraction=0.5), "unified-lift trains colors and groups together"),
        (model(hdbscan_min_size=20), "hdbscan-min-size changes nothing"),
        (model(uncertainty_threshold=0.5, filter_noise=False), "uncertainty-threshold changes nothing"),
    ],
    "gradiseg": [
        (model(igd=False, igd_growth=0.1), "igd-growth changes nothing"),
        (model(la_knn=False, la_knn_start=0.1), "la-knn-start changes nothing"),
        (model(densify_stop=0.3, stop_split_at=100), "densify-stop changes nothing"),
    ],
}


@pytest.mark.parametrize("name", METHODS)
def test_what_changes_nothing_is_said(name: str) -> None:
    for changes, message in SAID[name]:
        config = changed(name, **changes)
        check_options(config)
        said = notes(config)
        assert len(said) == 1, said
        assert message in said[0]


def test_what_is_unusual_and_works() -> None:
    for name, changes in (
        ("gaga", model(identity_pixels=0)),
        ("gaga", model(identity_weight=0.0)),
        ("gaga", model(grid_shape=(0, 4, 4))),
        ("gaga", {"max_num_iterations": 1} | model(geometry="some.ply")),
        ("gaga", {"steps_per_save": 0, "steps_per_eval_all_images": 0}),
        ("gaga", model(resolution_schedule=20_000, num_downscales=0)),
        ("unified-lift", model(codebook_start=1.0, grouping="hdbscan")),
        ("gradiseg", model(igd_start=0.9, igd=False)),
        ("gradiseg", model(la_knn_candidates=1, la_knn=False)),
    ):
        check_options(changed(name, **changes))


def test_a_grid_of_colors_needs_cells() -> None:
    with pytest.raises(GsegError, match="at least 2 cells"):
        check_options(changed("gaga", **model(grid_shape=(0, 4, 4), use_bilateral_grid=True)))


def test_nothing_is_written_for_a_run_that_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = changed("saga", output_dir=tmp_path, experiment_name="e", timestamp="t", **model(sh_degree=4))
    with pytest.raises(SystemExit):
        config.save_config()
    assert not list(tmp_path.rglob("*"))
    assert "sh-degree is 4" in capsys.readouterr().err
