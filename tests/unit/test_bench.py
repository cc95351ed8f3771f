"""The benchmark itself, at the tiny size: its gate, its arithmetic, its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the benchmark compares with Hugging Face's FLAVA")
if torch.__version__ < (2, 4):
    pytest.skip("fused AdamW on a CPU, and transformers, need torch 2.4", allow_module_level=True)

from tests.benchmarks.bench import alone, gate, goals, gpu, memory, table, timing
from tests.benchmarks.bench.__main__ import main
from tests.benchmarks.bench.batches import KINDS, make_work
from tests.benchmarks.bench.implementation import Implementation
from tests.benchmarks.bench.options import parse
from tests.benchmarks.bench.rig import NAMES, OURS, build_rig
from tests.benchmarks.bench.rows import plan
from tests.benchmarks.bench.sizes import CODES, SIZES
from tests.benchmarks.bench.stopwatch import Stopwatch

CPU = torch.device("cpu")
TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def rig() -> Iterator[dict[str, Implementation]]:
    yield build_rig(TINY, CPU)


@pytest.mark.parametrize("given", [False, True], ids=["computed", "given"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_peer_passes_the_gate(rig: dict[str, Implementation], kind: str, given: bool) -> None:
    verdicts = gate.check(rig, make_work(TINY, KINDS[kind], given=given))
    assert [verdict.peer for verdict in verdicts] == list(NAMES[:4])
    assert all(verdict.passed for verdict in verdicts), verdicts


def test_a_wrong_peer_fails_the_gate(rig: dict[str, Implementation]) -> None:
    work = make_work(TINY, KINDS["text"], given=False)
    model: Any = rig["hugging_face"].model
    norm = model.mlm_head.transform.LayerNorm
    norm.eps = 0.05
    try:
        failed = [verdict.peer for verdict in gate.check(rig, work) if not verdict.passed]
    finally:
        norm.eps = 1e-12
    assert failed == ["hugging_face", "hugging_face_best"]


def test_no_number_passes_the_gate() -> None:
    nan = float("nan")
    assert not gate.Verdict("hugging_face", OURS, nan, 0.0, "").passed
    assert not gate.Verdict("hugging_face", OURS, 0.0, nan, "").passed


def test_padding_decides_which_of_ours_a_peer_is_held_against(
    rig: dict[str, Implementation],
) -> None:
    work = make_work(TINY, KINDS["pair_padded"], given=True)
    masked = {name: rig[name] for name in ("hugging_face", OURS)}
    losses = {name: each.gradients(work, "fp32", Stopwatch()) for name, each in rig.items()}
    assert gate.check(masked, work)[0].passed
    apart = abs(losses["torchmultimodal"]["itm"] - losses[OURS]["itm"])
    assert apart > gate.LOSS_TOLERANCE, "its multimodal encoder attends to padding"


def test_all_compute_with_the_same_memory(rig: dict[str, Implementation]) -> None:
    own = {id(parameter) for parameter in rig[OURS].model.parameters()}
    for name, each in rig.items():
        codebook = {id(p) for n, p in each.model.named_parameters() if "image_codebook" in n}
        assert {id(parameter) for parameter in each.model.parameters()} - codebook == own, name
        assert each.optimizer.state is rig[OURS].optimizer.state, name
    theirs, other = rig["torchmultimodal"].model, rig["hugging_face"].model
    pairs = zip(theirs.image_codebook.parameters(), other.image_codebook.parameters(), strict=True)
    for one, two in pairs:
        assert one.data_ptr() == two.data_ptr()
        assert one.requires_grad and not two.requires_grad


def test_batches_differ_only_in_what_each_side_is_given() -> None:
    work = make_work(TINY, KINDS["pair_padded"], given=False)
    padded, trimmed = work.padded, work.trimmed.as_floats()
    assert padded.text is not None and trimmed.text is not None
    assert padded.text.shape[1] == TINY.length > work.longest == trimmed.text.shape[1]
    assert torch.equal(padded.text[:, : work.longest], trimmed.text)
    assert not padded.text[:, work.longest :].any()
    assert padded.image is not None and trimmed.image is not None
    assert torch.equal(padded.image, trimmed.image)
    assert padded.patch_mask is not None and padded.matched is not None
    assert padded.patch_mask.sum(1).tolist() == [TINY.hidden_patches] * TINY.rows
    assert padded.matched.tolist() == [False, True, True, True]
    given = make_work(TINY, KINDS["pair_padded"], given=True).padded
    assert given.text is not None and torch.equal(given.text, padded.text)
    assert given.codebook_image is None and given.codes is not None
    assert int(given.codes.min()) >= 0 and int(given.codes.max()) < CODES


def test_ratios_are_medians_of_rounds() -> None:
    seconds = {
        OURS: [[1.0, 0.5, 0.5], [2.0, 1.0, 1.0], [1.0, 1.0, 2.0]],  # 2, 4, 4
        "torchmultimodal": [[2.0, 2.0, 2.0], [2.0, 1.0, 1.0], [4.0, 2.0, 2.0]],  # 3, 1, 2
        "hugging_face": [[2.0, 1.0, 1.0], [4.0, 2.0, 2.0], [1.0, 1.0, 4.0]],  # 2, 2, 1.5
    }
    found = timing.ratios(seconds, OURS, ["torchmultimodal", "hugging_face", "absent"])
    assert found == {"torchmultimodal": 2.0, "hugging_face": 2.0, "faster": 1.5}
    assert timing.ratios(seconds, OURS, ["absent"]) == {}
    assert timing.medians(seconds[OURS]) == {
        "step": 4.0,
        "forward": 1.0,
        "backward": 1.0,
        "optimizer": 1.0,
    }


def test_turns_are_taken_in_both_orders(rig: dict[str, Implementation]) -> None:
    order: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def gradients(self, work: Any, precision: Any, watch: Stopwatch) -> dict[str, Any]:
            order.append(self.name)
            for _ in range(3):
                watch.mark()
            return {}

        def update(self) -> None:
            order.append("updated")

    both: Any = {name: Noting(name) for name in "ab"}
    work = make_work(TINY, KINDS["text"], given=False)
    found = timing.time_in_turns(both, work, "fp32", Stopwatch(), rounds=2, warmup=1)
    assert [name for name in order if name != "updated"] == list("ab" + "ba" + "ab")
    assert order.count("updated") == 6
    assert all(len(rounds) == 2 and len(rounds[0]) == 3 for rounds in found.values())


def test_memory_ratio_is_to_the_better_peer() -> None:
    peaks = {
        OURS: alone.Peak(100, 160),
        "torchmultimodal": alone.Peak(80, 240),
        "hugging_face": alone.Peak(80, 200),
    }
    peers = ("torchmultimodal", "hugging_face")
    assert memory.ratio(peaks, peers) == 0.5
    assert memory.ratio(peaks, peers, built_too=True) == 0.8
    assert memory.ratio({OURS: peaks[OURS]}, peers) is None


def test_a_peak_is_seen_after_it_is_gone() -> None:
    if not alone.STATUS.is_file():
        pytest.skip("peaks are read from /proc, which only Linux has")

    def steps() -> None:
        torch.ones(64, 2**20, dtype=torch.uint8)

    assert 60 <= alone.measure(steps, CPU).above <= 100


def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    if not alone.STATUS.is_file():
        pytest.skip("peaks are read from /proc, which only Linux has")
    job = alone.Job("torchmultimodal", size="tiny", kind="text", steps=1)
    assert alone.in_own_process(job).above > 1


def test_the_peak_of_matrix_products_is_measured() -> None:
    assert gpu.matmul_peak(CPU, side=128) > 1e8


def test_flops_of_a_text_are_those_of_its_words() -> None:
    """Twice a matrix product's for the weights' and the inputs' gradients; padding adds nothing."""
    work = make_work(TINY, KINDS["text_padded"], given=False)
    batch, width = work.padded, TINY.width
    assert batch.text_padding is not None and batch.word_labels is not None
    assert gpu.useful_flops(TINY, work, CPU) == gpu.useful_flops(
        TINY, make_work(TINY, KINDS["text_padded"], given=True), CPU
    )
    tokens = int(batch.text_padding.sum())
    hidden = int((batch.word_labels >= 0).sum())
    decoder = 3 * 2 * hidden * width * 30522
    layer = 3 * 2 * tokens * 12 * width**2
    found = gpu.useful_flops(TINY, work, CPU) - decoder
    assert layer < found < 2 * layer, "one whole layer, and the second where it is read"


def test_bf16_rows_have_their_tokens_given() -> None:
    rows = list(plan(["small"], ["pair", "text"], ["computed", "given"], ["fp32", "bf16"]))
    assert [(row.precision, row.kind, row.tokens) for row in rows] == [
        ("fp32", "pair", "computed"),
        ("fp32", "pair", "given"),
        ("fp32", "text", "none"),
        ("bf16", "pair", "given"),
        ("bf16", "text", "none"),
    ]


def test_goals_are_for_the_rows_they_were_set_for() -> None:
    row = {"size": "small", "kind": "pair_padded", "tokens": "computed", "precision": "fp32"}
    assert goals.of_row(row | {"device": "cpu"}) == {"as_they_come": 1.5, "best": 1.3}
    assert goals.of_row(row | {"device": "cpu", "tokens": "given"}) == {}
    memory_of = {"device": "cpu", "size": "small", "kind": "pair_padded"}
    assert goals.of_memory(memory_of, "as_they_come") == 0.75
    assert goals.of_memory(memory_of | {"size": "tiny"}, "as_they_come") is None
    assert table.verdict(1.4, 1.5) == ">= 1.5 MISSED"
    assert table.verdict(0.7, 0.75, at_most=True) == "<= 0.75 ok"


def test_the_report_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    options = (
        "--size tiny --kinds text,pair_padded --tokens given --rounds 1 --warmup 0 --device cpu"
    )
    assert main([*options.split(), "--threads", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert [row["kind"] for row in report["rows"]] == ["text", "pair_padded"] * 2
    assert report["machine"]["threads"] == 1
    for row in report["rows"]:
        assert row["passed"] and set(row["seconds"]) == set(NAMES[:5])
        assert set(row["ratios"]["as_they_come"]) == {"torchmultimodal", "hugging_face", "faster"}
    assert report["rows"][2]["distances"][OURS]["worst"] > 0
    printed = capsys.readouterr().out
    assert "tiny pair_padded bf16 tokens given" in printed and "x faster" in printed


def test_unknown_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--size", "huge"])
    assert "'huge' is none of tiny, small, base" in capsys.readouterr().err
    quick = parse(["--quick", "--size", "base"])
    assert (quick.size, quick.tokens, quick.rounds) == (["small"], ["given"], 3)
