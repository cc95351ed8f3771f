from __future__ import annotations

import pytest
import torch

from flava_plugin.train.loss_scale import FIRST, GROWTH_INTERVAL, LossScale
from flava_plugin.train.step import check_precision

FINE, OVERFLOW = torch.tensor(1.0), torch.tensor(float("inf"))


def test_without_fp16_there_is_no_scale_and_every_step_is_made() -> None:
    scale = LossScale(enabled=False)
    assert scale.value == 1.0
    assert scale.allows(OVERFLOW), "check_finite refuses it"


def test_an_overflow_leaves_the_step_out_and_halves() -> None:
    scale = LossScale(enabled=True)
    assert scale.allows(FINE)
    assert not scale.allows(OVERFLOW)
    assert not scale.allows(torch.tensor(float("nan")))
    assert scale.value == FIRST / 4


def test_it_grows_after_a_long_time_without_overflow() -> None:
    scale = LossScale(enabled=True)
    for _ in range(GROWTH_INTERVAL - 1):
        scale.allows(FINE)
    assert scale.value == FIRST
    scale.allows(FINE)
    assert scale.value == 2 * FIRST


def test_it_goes_on_where_a_run_stopped() -> None:
    scale, other = LossScale(enabled=True), LossScale(enabled=True)
    scale.allows(OVERFLOW)
    for _ in range(5):
        scale.allows(FINE)
    other.load_state(scale.state())
    assert (other.value, other.state()) == (FIRST / 2, scale.state())


def test_a_run_that_always_overflows_ends() -> None:
    scale = LossScale(enabled=True)
    with pytest.raises(FloatingPointError, match="precision=bf16"):
        for _ in range(100):
            scale.allows(OVERFLOW)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        check_precision("fp16", torch.device("cpu"))
    check_precision("bf16", torch.device("cpu"))
