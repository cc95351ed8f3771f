"""A run of seconds, with all six losses, and ways to start, kill and compare it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

TINY = """
steps: 12
seed: 3
run_dir: RUN
device: cpu
threads: 1
model:
  image_encoder: {type: flava_image, layers: 1, width: 16, heads: 2, image_size: 48, patch_size: 8}
  text_encoder: {type: flava_text, layers: 1, width: 16, heads: 2, max_positions: 64, dropout: 0.1}
  fused_encoder: {type: flava_fused, layers: 1, width: 16, heads: 2}
  codebook: {type: kmeans_patches}
  projection: 16
  init_std: 0.08
  position_std: 0.02
objectives:
  mim:
    modality: image
    head: {type: patch_tokens, reads: image}
    loss: {type: masked_ce, target: patches}
  mlm:
    modality: text
    head: {type: word_tokens, reads: text}
    loss: {type: masked_ce, target: words}
  mmm_image:
    modality: pair
    head: {type: patch_tokens, reads: fused}
    loss: {type: masked_ce, target: patches}
  mmm_text:
    modality: pair
    head: {type: word_tokens, reads: fused}
    loss: {type: masked_ce, target: words}
  itm: {modality: pair, weight: 4, head: {type: pair_match}, loss: {type: matching_ce}}
  contrastive:
    modality: pair
    weight: 4
    head: {type: projections}
    loss: {type: global_contrastive}
data:
  global_batch: 8
  workers: 0
  tokenizer: {type: wordpiece}
  image: {size: 48, codebook_size: 48, crop: null}
  text: {pair_length: 32, text_length: 32}
  masking: {patches: random, patch_count: 14, min_block: 2}
  matching: {negatives: 0.25, hard: 0.5}
  sources:
    pairs: {modality: pair, share: 0.5, dataset: {type: shapes_pairs, size: 40}}
    images: {modality: image, share: 0.25, dataset: {type: shapes_images, size: 24}}
    sentences: {modality: text, share: 0.25, dataset: {type: shapes_sentences, size: 24}}
optim: {lr: 2.0e-3, warmup_steps: 3}
sharding: {strategy: none}
checkpoint: {every: 4, keep: 2}
metrics: {every: 1, tensorboard: false}
"""


def write_recipe(folder: Path, **changes: object) -> Path:
    """Write the recipe with changes at its top level; its run is ``folder/run``."""
    folder.mkdir(parents=True, exist_ok=True)
    data = yaml.safe_load(TINY) | {"run_dir": str(folder / "run")} | changes
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def start(recipe: Path, *overrides: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start ``flava train`` in a process of its own."""
    command = [sys.executable, *(launcher or ("-m",)), "flava_plugin", "train", recipe, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def lines(run_dir: Path) -> list[dict[str, object]]:
    """The metrics without what depends on the clock."""
    from flava_plugin.train.metrics import TIME_KEYS

    path = run_dir / "metrics.jsonl"
    text = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in text]
    return [{key: row[key] for key in row if key not in TIME_KEYS} for row in rows]


def signal_at(run: subprocess.Popen[str], run_dir: Path, step: int, number: int) -> None:
    """Send a signal as soon as the metrics hold a step."""
    path = run_dir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and run.poll() is None:
        if path.is_file() and path.read_bytes().count(b"\n") >= step:
            os.kill(run.pid, number)
            return
        time.sleep(0.002)
    raise AssertionError(f"the run ended or hung before step {step}: {run.poll()}")
