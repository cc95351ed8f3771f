"""Fine-tuning's own parts under every strategy: frozen weights, layer decay, the average."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_runs import STILL, Run, assert_same_losses

from flava_plugin.train import checkpoint

TUNING = ("freeze=[image_encoder]", "optim.layer_decay=0.5", "optim.ema=0.8", "steps=6", *STILL)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("tuned"), 1, *TUNING).finish()


def check(run: Run, reference: Run) -> None:
    assert_same_losses(run, reference)
    found, wanted = (checkpoint.find(each.run_dir) for each in (run, reference))
    for kind in ("raw", "ema"):
        own, other = found.model(kind), wanted.model(kind)
        assert own.keys() == other.keys()
        for name, value in own.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-5, msg=name)
    assert found.optim().keys() == wanted.optim().keys()


def test_frozen_weights_stay_and_the_average_is_another(alone: Run) -> None:
    early = checkpoint.find(alone.run_dir, 4)
    last = checkpoint.find(alone.run_dir)
    names = {name for name in last.model() if name.startswith("backbone.image_encoder.")}
    assert names
    for name, value in last.model().items():
        same = torch.equal(value, early.model()[name])
        assert same or name not in names, name
    average = last.model("ema")
    assert all(torch.equal(average[name], last.model()[name]) for name in names)
    assert not names & set(last.source("ema").shapes)
    assert sum(not torch.equal(average[n], v) for n, v in last.model().items()) > 20
    assert not any(name.startswith("backbone.image_encoder.") for name in last.optim())


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("fsdp2", "sharded"),
        pytest.param("ddp", "full", marks=pytest.mark.soak),
        pytest.param("ddp_oss", "sharded", marks=pytest.mark.soak),
        pytest.param("fairscale_sdp", "full", marks=pytest.mark.soak),
    ],
)
def test_two_ranks_tune_as_one_does(tmp_path: Path, alone: Run, strategy: str, kind: str) -> None:
    changes = (*TUNING, f"sharding.strategy={strategy}", f"checkpoint.format={kind}")
    check(Run(tmp_path, 2, *changes).finish(), alone)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["fsdp2", "ddp_oss"])
def test_half_on_two_ranks_and_half_on_one_is_the_same(
    tmp_path: Path, alone: Run, strategy: str
) -> None:
    half = (*TUNING, "steps=3", "optim.final_share=1", f"sharding.strategy={strategy}")
    whole = (*TUNING, "optim.final_share=1")
    Run(tmp_path / "halves", 2, *half).finish()
    again = Run(tmp_path / "halves", 1, *whole).finish()
    check(again, Run(tmp_path / "whole", 1, *whole).finish())
