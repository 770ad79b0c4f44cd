from __future__ import annotations

import pytest

from gseg_ns.models.base import SegmentationModelConfig
from gseg_ns.models.gradiseg import GradiSegModelConfig
from gseg_ns.models.schedule import AUTO, rate_factors, resolve
from gseg_ns.models.unified_lift import UnifiedLiftModelConfig


def test_the_papers_length_gives_the_papers_schedule() -> None:
    config = resolve(SegmentationModelConfig(), 30_000, num_views=200)
    assert (config.warmup_length, config.refine_every, config.stop_split_at) == (500, 100, 15_000)
    assert (config.resolution_schedule, config.sh_degree_interval, config.stop_screen_size_at) == (3000, 1000, 4000)


def test_a_short_run_is_the_whole_method_in_miniature() -> None:
    config = resolve(SegmentationModelConfig(), 1125, num_views=35)
    assert config.stop_split_at == 562
    assert config.refine_every == 35, "statistics of most views come before a refinement"
    assert config.warmup_length < config.refine_every < config.stop_split_at


def test_what_the_user_sets_is_kept_and_the_input_is_untouched() -> None:
    config = SegmentationModelConfig(stop_split_at=77)
    assert resolve(config, 3000, 10).stop_split_at == 77
    assert config.warmup_length == AUTO


def test_rates_make_up_for_a_part_of_the_steps_that_a_short_run_lacks() -> None:
    factors = rate_factors(SegmentationModelConfig(), 1875)  # a sixteenth of 30 000
    assert factors == pytest.approx({"means": 2, "scales": 2, "quats": 2, "features_dc": 2, "features_rest": 4})
    assert rate_factors(SegmentationModelConfig(), 30_000) == rate_factors(SegmentationModelConfig(), 50_000) == {}
    assert rate_factors(SegmentationModelConfig(), 0) == {}, "the geometry is given"
    assert rate_factors(SegmentationModelConfig(scale_rates=False), 1875) == {}
    assert rate_factors(GradiSegModelConfig(), 1875) == {}, "colors and groups train together"
    assert rate_factors(UnifiedLiftModelConfig(), 1875) == {"codebook": 16}, "codes have as far to go in fewer steps"
