"""``flava plan``: from the recipe alone, with every assumption printed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torchmultimodal.models.flava.model import flava_model

from flava_plugin.cli.main import main
from flava_plugin.plan.blueprint import draw, parameters
from flava_plugin.plan.fit import even_batch, warnings
from flava_plugin.plan.options import Options
from flava_plugin.plan.predict import memory_of, plan
from flava_plugin.plan.table import text
from flava_plugin.recipe import load_recipe, recipe_names


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["plan", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


PLANNED = [n for n in recipe_names() if n.startswith("pretrain/") and "align" not in n]
"""The work of a convolutional encoder is not known beforehand (``test_dual_encoder.py``)."""


@pytest.mark.parametrize("name", PLANNED)
def test_every_pretraining_recipe_is_planned_without_its_data(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLAVA_DATA", raising=False)
    words = ["plan", name, "--gpus", "8", "--device", "h200"]
    assert main([*words, "run_dir=$NO_SUCH_FOLDER/x", "sharding.strategy=ddp"]) == 0
    told = capsys.readouterr().out
    for word in ("trainable in all", "GFLOP", "fsdp2 + checkpointing", "all-reduce", "hours"):
        assert word in told


def test_the_released_model_has_torchmultimodal_s_size() -> None:
    recipe = load_recipe("pretrain/flava_released", check_files=False)
    counts = parameters(draw(recipe, Options()))
    backbone = sum(n for part, n in counts.items() if not part.startswith(("head", "loss")))
    with torch.device("meta"):
        upstream = flava_model()
    assert backbone == sum(p.numel() for p in upstream.parameters())


def test_a_plan_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "pretrain/flava_base", "--gpus", "64", "--mfu", "0.5")
    shares = [step["share"] for step in found["steps"].values()]
    assert sum(shares) == pytest.approx(1)
    mean = sum(s["share"] * sum(s["seconds"].values()) for s in found["steps"].values())
    assert found["mean_seconds"] == pytest.approx(mean)
    assert found["samples_per_second"] == pytest.approx(8192 / mean)
    assert found["hours"] == pytest.approx(214_000 * mean / 3600)
    assert any("MFU 50%" in line for line in found["assumed"])
    assert any("30,522 words" in line for line in found["assumed"])


def test_more_work_takes_longer() -> None:
    def seconds(*changes: str, **options: Any) -> float:
        small = "model.codebook={type: kmeans_patches, path: none.safetensors}"
        recipe = load_recipe("pretrain/flava_base", [small, *changes], check_files=False)
        return plan(recipe, Options(gpus=8, **options)).mean_seconds

    usual = seconds("data.per_gpu_batch=1024")
    assert seconds("data.per_gpu_batch=1024", mfu=0.2) > 1.5 * usual
    assert seconds("data.per_gpu_batch=512") > 1.02 * usual  # the cached loss runs a pass more
    assert seconds("data.per_gpu_batch=1024", pair_tokens=77, text_tokens=512) > 1.05 * usual
    assert seconds("data.per_gpu_batch=1024", "precision=fp32") > 5 * usual
    every = "sharding.activation_checkpointing=true"
    assert 1.2 * usual < seconds("data.per_gpu_batch=1024", every) < 1.35 * usual


def test_what_does_not_fit_is_told_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pretrain/flava_base", "--gpus", "8", "--device", "h100", "data.per_gpu_batch=512"]
    told = "\n".join(planned(capsys, *words)["warnings"])
    assert "does not fit" in told and "data.per_gpu_batch=" in told
    rows = told.partition("data.per_gpu_batch=")[2].split(";")[0]
    assert planned(capsys, *words[:-1], f"data.per_gpu_batch={rows}")["warnings"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain/flava_base", "--gpus", "8", "data.per_gpu_batch=512"],
        ["pretrain/flava_base", "--gpus", "8", "data.per_gpu_batch=1024", "data.masking.words=0.5"],
        ["pretrain/flava_large", "--gpus", "8", "data.per_gpu_batch=1024"],
        ["pretrain/flava_base", "--gpus", "8", "sharding.strategy=none"],
    ],
    ids=str,
)
def test_advice_is_what_a_recipe_takes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [word for word in words[1:] if "=" in word]
    told = " ".join(planned(capsys, *words)["warnings"])
    ways = re.findall(r"[a-z]+\.[a-z_]+=[^\s;,]+", told)
    assert ways
    for way in ways:
        load_recipe(words[0], [*changes, way], check_files=False)


def test_a_strategy_that_fits_is_advised() -> None:
    recipe = load_recipe("pretrain/flava_base", ["data.per_gpu_batch=1"], check_files=False)
    found = plan(recipe, Options(gpus=8))
    needs = {m.strategy: m.total for m in found.memory if not m.checkpointing}
    assert needs["fsdp2"] < needs["ddp"]
    tight = replace(found.device, memory=(needs["fsdp2"] + needs["ddp"]) / 2)
    told = " ".join(warnings(replace(found, device=tight)))
    (advised,) = re.findall(r"sharding\.strategy=(\w+)", told)
    assert "does not fit" in told and needs[advised] <= tight.memory
    assert "fsdp2 + checkpointing" in text(found, [])


def test_fairscale_s_fsdp_is_not_advised_for_cpus() -> None:
    changes = ["data.global_batch=64", "data.per_gpu_batch=1", "objectives.contrastive=null"]
    recipe = load_recipe("pretrain/shapes", changes, check_files=False)
    found = plan(recipe, Options(device="cpu", gpus=8))
    needs = {m.strategy: m.total for m in found.memory if not m.checkpointing}
    others = [need for name, need in needs.items() if name not in ("fairscale_fsdp", "fsdp2")]
    tight = replace(found.device, memory=(needs["fairscale_fsdp"] + min(others)) / 2)
    told = " ".join(warnings(replace(found, device=tight)))
    assert "fairscale_fsdp" not in told


def test_a_cpu_s_way_out_is_planned_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["data.global_batch=16", "objectives.contrastive=null"]
    recipe = load_recipe("pretrain/shapes", changes, check_files=False)
    options = Options(device="cpu")
    found = plan(recipe, options)

    def needs(rows: int) -> float:
        data = recipe.data.model_copy(update={"per_gpu_batch": rows})
        smaller = recipe.model_copy(update={"data": data})
        return memory_of(smaller, options, found.blueprint).total

    assert found.own.total > needs(8) > needs(4)
    for rows in (8, 4):  # far less than an H100's libraries take for themselves
        monkeypatch.setattr("flava_plugin.plan.fit.machine_memory", lambda rows=rows: needs(rows))
        assert f"data.per_gpu_batch={rows}" in " ".join(warnings(found))


def test_useful_flops_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    again = "sharding.activation_checkpointing=true"
    step = planned(capsys, "pretrain/shapes", again)["steps"]["pair"]
    sums = [sum(part[name] for part in step["flops"].values()) for name in ("forward", "backward")]
    assert step["useful_flops"] == pytest.approx(sum(sums))
    assert main(["plan", "pretrain/shapes", again]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("useful, as MFU counts"))
    assert f"{step['useful_flops'] / 1e9:,.2f}" in line


def test_an_uneven_batch_is_told_and_planned(capsys: pytest.CaptureFixture[str]) -> None:
    told = planned(capsys, "pretrain/flava_base", "--gpus", "48")["warnings"]
    assert any("8192 is not a multiple of 6144" in line and "12288" in line for line in told)
    recipe = load_recipe("pretrain/shapes", check_files=False)
    assert even_batch(recipe, Options(gpus=2)) == (recipe, [])


def test_none_on_several_gpus_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = planned(capsys, "pretrain/shapes", "--gpus", "2")["warnings"]
    assert any("sharding.strategy=ddp" in line for line in told)


def test_a_slow_network_is_waited_for() -> None:
    recipe = load_recipe("pretrain/flava_base", check_files=False)
    fast, slow = (
        plan(recipe, Options(gpus=64, network=network)).mean_seconds for network in (400.0, 1.0)
    )
    assert slow > fast + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain/shapes", "optim.lrr=1"], "optim.lrr"),
        (["pretrain/none_such"], "no such recipe"),
        (["pretrain/shapes", "--pair-tokens", "9999"], "--pair-tokens 9999"),
        (["pretrain/shapes", "--pair-tokens", "9999"], "data.text.pair_length="),
        (["pretrain/shapes", "--text-tokens", "9999"], "data.text.text_length="),
        (["pretrain/shapes", "--text-tokens", "2"], "--text-tokens 2"),
    ],
    ids=str,
)
def test_a_bad_recipe_is_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--gpus", "0"], ["--mfu", "2"], ["--link", "nan"]], ids=str)
def test_a_wrong_option_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", "pretrain/shapes", *words])
    assert left.value.code == 2


def test_this_machine_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "pretrain/shapes", "data.global_batch=4", "--device", "cpu")
    assert any(line.startswith("measured in") for line in found["assumed"])
    assert 1e-4 < found["mean_seconds"] < 10
