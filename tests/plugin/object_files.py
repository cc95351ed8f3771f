"""Scenes of the embedded data as COCO's instances JSON, and the plugin to be run on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from flava_plugin.components.datasets.shapes_render import render
from flava_plugin.components.datasets.shapes_scene import SEEN, SHAPES, SIDE, draw_scene

ACME = Path(__file__).resolve().parent / "acme_flava"
ROOT = ACME.parents[2]
TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


def install(folder: Path) -> Path:
    """Install the package by pip, from a copy, without the network."""
    source = shutil.copytree(ACME, folder / "source")
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def flava(
    installed: Path, cwd: Path, *words: str, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line where the package is installed."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", *launcher, "flava_plugin", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def write_objects(folder: Path, **sizes: int) -> None:
    """Write pictures with one to three things, of six shapes; each split is other scenes.

    Args:
        folder: Gets ``images`` and a JSON for each split.
        **sizes: Pictures of each split.
    """
    (folder / "images").mkdir(parents=True)
    for turn, (split, size) in enumerate(sizes.items()):
        images, annotations = [], []
        for number in range(size):
            scene = draw_scene(np.random.default_rng([turn, number]), SEEN)
            name = f"{split}{number}.png"
            render(scene).save(folder / "images" / name, compress_level=1)
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            for thing in scene.things:
                side = 2 * thing.radius
                box = [thing.x - thing.radius, thing.y - thing.radius, side, side]
                about = {"id": len(annotations), "image_id": number, "bbox": box}
                annotations.append({**about, "category_id": 10 + thing.shape, "iscrowd": 0})
        categories = [{"id": 10 + place, "name": name} for place, name in enumerate(SHAPES)]
        told = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(told))
