"""How much a save in the background slows the steps beside it, paired in one run.

python tests/benchmarks/background_save.py [--width 768] [--rounds 6]

A FLAVA whose weights and AdamW moments are above 1 GB takes steps; every round times some without a
save, then those while one is being written. Also told: how long the step is held for the copy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from flava_plugin.model.learner import build_learner
from flava_plugin.recipe import load_recipe
from flava_plugin.sections import CheckpointSection, ShardingSection
from flava_plugin.train import run_folder
from flava_plugin.train.saver import Saver
from flava_plugin.train.sharding import make_strategy
from flava_plugin.train.step import train_step
from flava_plugin.train.world import World
from flava_plugin.types import Batch

WORLD = World(0, 1, 0, torch.device("cpu"))
WORDS = 30522


def batch(rows: int, length: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(5, WORDS, (rows, length), generator=generator)
    labels = torch.where(torch.rand(rows, length, generator=generator) < 0.15, text, -100)
    return Batch(modality="text", text=text, text_masked=text.clone(), word_labels=labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--format", choices=("full", "sharded"), default="full")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    width = arguments.width
    shape = [f"width={width}", f"heads={width // 64}", "layers=6", f"mlp={4 * width}"]
    changes = [f"model.text_encoder.{s}" for s in shape]
    changes += ["model.text_encoder.max_positions=512", "sharding.strategy=none"]
    recipe = load_recipe("pretrain/shapes", changes)
    learner = build_learner(recipe.model, recipe.objectives, words=WORDS, image_size=48, seed=0)
    strategy = make_strategy(ShardingSection(strategy="none"), learner, recipe.optim, WORLD)
    rows = batch(4, 64)
    weights = dict.fromkeys(learner.modalities, 1.0)

    def step() -> float:
        began = time.perf_counter()
        train_step(strategy, learner, [rows], weights, WORLD, (0, 0))
        strategy.clip_grad_norm(1.0)
        strategy.step()
        return time.perf_counter() - began

    for _ in range(3):
        step()
    ratios, held, spans = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        section = CheckpointSection(keep=1, format=arguments.format)
        with Saver(run_dir, section, WORLD, run_folder.claim(run_dir), 4) as saver:
            for number in range(arguments.rounds):
                alone = [step() for _ in range(6)]
                began = time.perf_counter()
                saver.save(strategy, number + 1, {"seconds": 0.0})
                held.append(time.perf_counter() - began)
                beside = []
                while not saver.flags()[1]:
                    beside.append(step())
                spans.append(time.perf_counter() - began)
                saver.finish()
                whole = beside[:-1] or beside  # the last one ran on after the write had ended
                ratios.append(statistics.median(whole) / statistics.median(alone))
                print(
                    f"round {number + 1}: alone {statistics.median(alone):.3f} s, beside a save "
                    f"{statistics.median(whole):.3f} s ({len(whole)} steps), ratio {ratios[-1]:.3f}"
                )
            files = sorted(run_dir.glob("checkpoints/0*/*.safetensors"))
            size = sum(file.stat().st_size for file in files)
    print(
        f"checkpoint {size / 1e9:.2f} GB; ratio: median {statistics.median(ratios):.3f}, worst "
        f"{max(ratios):.3f}; step held {statistics.median(held):.2f} s for the copy; the write "
        f"took {statistics.median(spans):.1f} s"
    )


if __name__ == "__main__":
    main()
