"""What can be said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.bench.batches import KINDS
from tests.benchmarks.bench.rig import NAMES
from tests.benchmarks.bench.sizes import SIZES

QUICK_ROUNDS = 3
"""Computing the tokens would take most of the time: the codebook is two thirds of a small step."""


def listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A comma-separated list of known words."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        unknown = [word for word in words if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return words

    return parse


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.bench", description=__doc__)

    def words(flag: str, known: Sequence[str], default: Sequence[str], text: str) -> None:
        shown = f"{text}: {', '.join(known)} (default {','.join(default)})"
        parser.add_argument(flag, type=listed(known), default=list(default), help=shown)

    kinds = ["pair_padded", "pair", "image", "text"]
    words("--size", list(SIZES), ["small", "base"], "sizes")
    words("--kinds", list(KINDS), kinds, "kinds of batch")
    words("--tokens", ["computed", "given"], ["computed", "given"], "the codebook's tokens")
    words("--precision", ["fp32", "bf16"], ["fp32", "bf16"], "bf16 has tokens given only")
    words("--only", list(NAMES), NAMES[:5], "implementations that are timed")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each that count")
    parser.add_argument("--warmup", type=int, default=1, help="steps of each before")
    parser.add_argument("--rows", type=int, default=0, help="rows of a batch; 0: the size's")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="on a CPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compile", action="store_true", help="ours with compile: true")
    parser.add_argument("--memory", action="store_true", help="also peaks, pairs padded")
    parser.add_argument("--cached", action="store_true", help="also the cached contrastive step")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"small, fp32, tokens given, {QUICK_ROUNDS} rounds: under three minutes of one core",
    )
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.size, chosen.precision, chosen.tokens = ["small"], ["fp32"], ["given"]
        chosen.rounds = QUICK_ROUNDS
    if chosen.rounds < 1 or chosen.warmup < 0 or chosen.rows < 0 or chosen.threads < 0:
        parser.error("--rounds is at least 1, --warmup, --rows and --threads at least 0")
    return chosen
