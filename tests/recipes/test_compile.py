"""A run that compiles its layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_recipe

from flava_plugin.model.execution import TEXT_MULTIPLE, compile_layers
from flava_plugin.recipe import load_recipe
from flava_plugin.train import accumulated, loop
from flava_plugin.types import Batch


def test_a_compiled_run_pads_to_few_lengths_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"model.{part}_encoder.layers=2" for part in ("image", "text", "fused")]
    overrides.append("model.text_encoder.dropout=0")  # what it drops depends on the padding
    lengths: list[int] = []
    real = accumulated.train_step

    def step(strategy: Any, learner: Any, batches: list[Batch], *rest: Any, **named: Any) -> Any:
        lengths.extend(batch.text.shape[1] for batch in batches if batch.text is not None)
        return real(strategy, learner, batches, *rest, **named)

    monkeypatch.setattr(accumulated, "train_step", step)
    monkeypatch.setattr(loop, "compile_layers", lambda m: compile_layers(m, backend="eager"))
    plain, compiled = ({}, {"compile": True})
    losses = []
    for name, change in (("plain", plain), ("compiled", compiled)):
        recipe = write_recipe(tmp_path / name, steps=4, **change)
        lengths.clear()
        loop.train(load_recipe(str(recipe), overrides))
        rows = (tmp_path / name / "run/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(row) for row in rows])
    assert set(lengths) <= {TEXT_MULTIPLE}, "captions of at most 32 tokens"
    assert all(row["compiled"] > 0 for row in losses[1]) and "compiled" not in losses[0][0]
    for one, other in zip(*losses, strict=True):
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
