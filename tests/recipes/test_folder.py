"""``pretrain/folder`` on real photographs: captions and images find each other."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flava_plugin.cli.main import main

pytest.importorskip("skimage", reason="the photographs are scikit-image's: pip install '.[dev]'")
pytest.importorskip("sklearn", reason="the photographs are scikit-learn's: pip install '.[dev]'")
pytest.importorskip("matplotlib", reason="the photographs are matplotlib's: pip install '.[dev]'")


def test_photographs_and_captions_find_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    from photographs import make_folder

    make_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    pairs = len(Path("captions.jsonl").read_text("utf-8").splitlines())
    assert pairs >= 18
    started = time.monotonic()
    words = ["captions.jsonl", "text", "--size", "1000", "--out", "vocab.txt"]
    assert main(["data", "train-vocab", *words]) == 0
    fit = ["images", "--out", "codebook.safetensors", "--image-size", "64", "--codes", "64"]
    assert main(["data", "fit-codebook", *fit]) == 0
    # No more rows than pairs: a pair that stands twice in a batch is its own negative.
    recipe = ["pretrain/folder", "run_dir=run", f"data.global_batch={pairs}"]
    assert main(["train", *recipe, "threads=1"]) == 0
    assert main(["eval", "run"]) == 0
    record_property("seconds", time.monotonic() - started)

    figures = json.loads(Path("run/results.json").read_text("utf-8"))["retrieval"]
    assert figures["gallery_size"] == pairs
    assert figures["image_to_text_r1"] == figures["text_to_image_r1"] == 1.0
