"""More tiny trees: sets with lists and tables of their own, both retrieval sets; all by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import frozen_trees as trees
from frozen_trees import Truth, folders, listed_in, numbered, pixels, saved, text


def ucf101(root: Path) -> Truth:
    folder, names, found = root / "ucf101", ["Archery", "Biking", "YoYo"], Truth()
    for split in ("train", "test"):
        found[split] = [
            saved(folder / names[label] / f"v_{names[label]}_g{n:02d}_c0{len(split)}.jpg", label)
            for n, label in numbered(split)
        ]
        rows = [f"{names[label]}/{Path(str(path)).stem}.avi" for path, label in found[split]]
        if split == "train":
            rows = [f"{row} {names.index(row.split('/')[0]) + 1}" for row in rows]
        text(folder / "ucfTrainTestlist" / f"{split}list01.txt", *rows)
    listed = [f"{number} {name}" for number, name in enumerate(names, 1)]
    text(folder / "ucfTrainTestlist" / "classInd.txt", *listed)
    return found


def clevr(root: Path) -> Truth:
    folder, found = root / "clevr" / "CLEVR_v1.0", Truth()
    for split, name in (("train", "train"), ("test", "val")):
        found[split] = [saved(folder / "images" / name / f"CLEVR_{name}_{n:06d}.png", label)
                        for n, label in numbered(split)]  # fmt: skip
        scenes: list[dict[str, Any]] = [
            {"image_filename": Path(str(path)).name, "objects": [{"shape": "cube"}] * (3 + label)}
            for path, label in found[split]
        ]
        text(folder / "scenes" / f"CLEVR_{name}_scenes.json", json.dumps({"scenes": scenes}))
    return found


def fer2013(root: Path) -> Truth:
    found, lines = Truth(), ["emotion,pixels,Usage"]
    for split, usage in (("train", "Training"), ("val", "PublicTest"), ("test", "PrivateTest")):
        faces = [(pixels(label, 48, grey=True)[..., 0], label) for _, label in numbered(split)]
        found[split] = list(faces)
        for face, label in faces:
            lines.append(f"{label},{' '.join(map(str, face.reshape(-1)))},{usage}")
    text(root / "fer2013" / "fer2013.csv", *lines)
    return found


def sun397(root: Path) -> Truth:
    names = ["/a/abbey", "/c/church/outdoor", "/z/zoo"]
    text(root / "SUN397" / "ClassName.txt", *names)
    found = Truth()
    for split in ("train", "test"):
        found[split] = [saved(root / f"SUN397{names[label]}" / f"sun_{split}{n}.jpg", label)
                        for n, label in numbered(split)]  # fmt: skip
    return listed_in(root, "sun397", found, root / "SUN397")


def rendered_sst2(root: Path) -> Truth:
    parts = {"train": "train", "val": "valid", "test": "test"}
    return folders(root, "rendered-sst2", ["negative", "positive"], parts, "png")


def country211(root: Path) -> Truth:
    parts = {"train": "train", "val": "valid", "test": "test"}
    return folders(root, "country211", ["AD", "AE", "ZW"], parts, "jpg")


Pairs = list[tuple[Path, list[str]]]
"""Pictures of the test split with their five captions."""

WORDS = ["red", "blue", "green", "circle", "square", "small", "large", "above", "near", "one"]


def _karpathy(root: Path, name: str, folder: str, sentences: int) -> Pairs:
    entries, found = [], []
    for number, split in enumerate(["train", "test", "test", "val", *["test"] * 6, "train"]):
        path, _ = saved(root / name / folder / f"{name}_{number:06d}.jpg", number % 4)
        raws = [" ".join(trees.DICE.choice(WORDS, 6)) + f" {number}" for _ in range(sentences)]
        entry: dict[str, Any] = {"filename": path.name, "split": split, "imgid": number}
        if name == "coco":
            entry |= {"filepath": folder, "cocoid": 1000 + number}
        ids = [number * sentences + place for place in range(sentences)]
        entry["sentids"] = ids
        entry["sentences"] = [
            {"raw": raw, "tokens": raw.split(), "imgid": number, "sentid": place}
            for raw, place in zip(raws, ids, strict=True)
        ]
        entries.append(entry)
        if split == "test":
            found.append((path, raws[:5]))
    text(root / name / f"dataset_{name}.json", json.dumps({"images": entries, "dataset": name}))
    return found


def flickr30k(root: Path) -> Pairs:
    return _karpathy(root, "flickr30k", "flickr30k-images", 5)


def coco(root: Path) -> Pairs:
    """Some of COCO's pictures have more than five captions, of which five count."""
    return _karpathy(root, "coco", "val2014", 6)


PROBES: dict[str, Callable[[Path], Truth]] = {
    each.__name__: each
    for each in (
        *(trees.imagenet, trees.food101, trees.cifar10, trees.cifar100, trees.cars),
        *(trees.aircraft, trees.dtd, trees.pets, trees.caltech101, trees.flowers102, trees.mnist),
        *(trees.stl10, trees.eurosat, trees.gtsrb, trees.kitti, trees.pcam),
        *(ucf101, clevr, fer2013, sun397, rendered_sst2, country211),
    )
}
RETRIEVAL: dict[str, Callable[[Path], Pairs]] = {"flickr30k": flickr30k, "coco": coco}

MD5 = ("cifar", "stl10", "flowers102")
"""Modules of torchvision that compare the archives with their published md5."""
