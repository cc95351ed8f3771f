"""Small trees of real picture files, for the tests of what reads and packs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    """A picture that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def captioned(folder: Path, count: int) -> Path:
    """Pictures in turn as JPEG, PNG and WebP, and ``captions.jsonl`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        name = f"{number:03d}.{('jpg', 'png', 'webp')[number % 3]}"
        noise(number).save(folder / name)
        lines.append(json.dumps({"image": name, "caption": f"picture number {number}"}))
    path = folder / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def classes(folder: Path, count: int) -> Path:
    """Pictures in two sub-folders, and one GIF, which packing encodes anew."""
    for number in range(count):
        place = folder / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        noise(number).save(place / f"{number:03d}.{'gif' if number == 3 else 'jpg'}")
    return folder


def digests(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
