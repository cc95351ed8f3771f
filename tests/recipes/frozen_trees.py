"""Tiny trees of the probes' sets, as their authors publish them; the rest in ``frozen_trees_more``.

Each function writes one below the data root and returns what is true of it: pictures (files, or
pixels where a file holds many) and classes by split, in no dependence on our readers. File names
and formats are those that torchvision's classes and the sets' own descriptions name.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = Path | NDArray[np.uint8]
Truth = dict[str, list[tuple[Picture, int]]]

ROWS = {"train": 6, "val": 3, "test": 4}
"""Samples of each class."""

DICE = np.random.default_rng(0)


def pixels(label: int, side: int = 24, *, grey: bool = False) -> NDArray[np.uint8]:
    """Noise around a shade of the class, which overlaps with that of the next class."""
    shade = 50 + 50 * label + DICE.normal(0, 25) + DICE.normal(0, 30, (1, 1, 1 if grey else 3))
    noise = DICE.normal(0, 30, (side, side, 1 if grey else 3))
    found: NDArray[np.uint8] = np.clip(shade + noise, 0, 255).astype(np.uint8)
    return found


def saved(path: Path, label: int) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(label)).save(path)
    return path, label


def text(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row + "\n" for row in rows), "utf-8")


def numbered(split: str, classes: int = 3) -> Iterator[tuple[int, int]]:
    """Number and class of each sample of a split; the classes take turns."""
    yield from enumerate([n % classes for n in range(classes * ROWS[split])])


def folders(root: Path, place: str, names: list[str], splits: dict[str, str], end: str) -> Truth:
    """``root/place/FOLDER/CLASS/NUMBER.end``."""
    found = Truth()
    for split, folder in splits.items():
        for n, label in numbered(split, len(names)):
            path = root / place / folder / names[label] / f"{names[label]}_{split}{n}.{end}"
            found.setdefault(split, []).append(saved(path, label))
        found[split].sort(key=lambda row: str(row[0]))
    return found


def imagenet(root: Path) -> Truth:
    names = ["n01440764", "n02084071", "n03000684"]
    return folders(root, "imagenet", names, {"train": "train", "test": "val"}, "JPEG")


def food101(root: Path) -> Truth:
    names = ["apple_pie", "sushi", "waffles"]
    found = folders(root, "food-101/images", names, {"train": ".", "test": "."}, "jpg")
    for split, rows in found.items():
        listed: dict[str, list[str]] = {name: [] for name in reversed(names)}
        for path, label in rows:
            assert isinstance(path, Path)
            listed[names[label]].append(f"{names[label]}/{path.stem}")
        text(root / "food-101" / "meta" / f"{split}.json", json.dumps(listed))
    return found


def _cifar(
    folder: Path, files: dict[str, list[str]], key: str, meta: tuple[str, str], names: list[str]
) -> Truth:
    folder.mkdir(parents=True)
    found: Truth = {}
    for split, parts in files.items():
        rows: list[tuple[Picture, int]] = [(pixels(label, 32), label) for _, label in
                                           numbered(split, len(names))]  # fmt: skip
        found[split] = rows
        for part, name in enumerate(parts):
            own = rows[part :: len(parts)]
            data = np.stack([np.asarray(image).transpose(2, 0, 1).reshape(-1) for image, _ in own])
            held = {"data": data, key: [label for _, label in own]}
            (folder / name).write_bytes(pickle.dumps(held))
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: names}))
    return found


def cifar10(root: Path) -> Truth:
    files = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
    meta, names = ("batches.meta", "label_names"), ["airplane", "automobile", "bird"]
    return _cifar(root / "cifar-10-batches-py", files, "labels", meta, names)


def cifar100(root: Path) -> Truth:
    files, meta = {"train": ["train"], "test": ["test"]}, ("meta", "fine_label_names")
    names = ["apple", "aquarium_fish", "baby"]
    return _cifar(root / "cifar-100-python", files, "fine_labels", meta, names)


def cars(root: Path) -> Truth:
    from scipy.io import savemat

    folder, kind, found = root / "stanford_cars", [("fname", "O"), ("class", "O")], Truth()
    (folder / "devkit").mkdir(parents=True)
    for split, name in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        found[split] = [saved(folder / f"cars_{split}" / f"{n + 1:05d}.jpg", label)
                        for n, label in numbered(split)]  # fmt: skip
        rows = [(Path(str(path)).name, label + 1) for path, label in found[split]]
        savemat(folder / name, {"annotations": np.array(rows, dtype=kind)})
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "BMW M3"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return found


def aircraft(root: Path) -> Truth:
    data, names = root / "fgvc-aircraft-2013b" / "data", ["707-320", "A300 B4", "DC-10"]
    text(data / "variants.txt", *names)
    found = Truth()
    for place, split in enumerate(ROWS):
        found[split] = [saved(data / "images" / f"{1000 * place + n:07d}.jpg", label)
                        for n, label in numbered(split)]  # fmt: skip
        rows = [f"{Path(str(path)).stem} {names[label]}" for path, label in found[split]]
        text(data / f"images_variant_{split}.txt", *rows)
    return found


def dtd(root: Path) -> Truth:
    names = ["banded", "dotted", "zigzagged"]
    found = folders(root, "dtd/dtd/images", names, dict.fromkeys(ROWS, "."), "jpg")
    for split, rows in found.items():
        listed = [f"{names[label]}/{Path(str(path)).name}" for path, label in rows]
        text(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", *listed)
    return found


def pets(root: Path) -> Truth:
    folder, names, found = root / "oxford-iiit-pet", ["Abyssinian", "beagle", "pug"], Truth()
    for split, file in (("train", "trainval"), ("test", "test")):
        found[split] = [saved(folder / "images" / f"{names[label]}_{split}{n}.jpg", label)
                        for n, label in numbered(split)]  # fmt: skip
        rows = [f"{Path(str(path)).stem} {label + 1} 2 1" for path, label in found[split]]
        text(folder / "annotations" / f"{file}.txt", *rows)
    return found


def listed_in(root: Path, name: str, found: Truth, below: Path) -> Truth:
    """Says in ``ROOT/splits/NAME`` which samples are of which split."""
    for split, rows in found.items():
        paths = [Path(str(path)).relative_to(below).as_posix() for path, _ in rows]
        text(root / "splits" / name / f"{split}.txt", *paths)
    return found


def caltech101(root: Path) -> Truth:
    folder, found = root / "caltech101" / "101_ObjectCategories", Truth()
    names = ["accordion", "airplanes", "yin_yang"]
    starts = {"train": 1, "test": 1 + ROWS["train"]}
    for split, start in starts.items():
        found[split] = [saved(folder / names[label] / f"image_{start + n // 3:04d}.jpg", label)
                        for n, label in numbered(split)]  # fmt: skip
    for name in (*names, "BACKGROUND_Google"):
        (root / "caltech101" / "Annotations" / name).mkdir(parents=True)
    saved(folder / "BACKGROUND_Google" / "image_0001.jpg", 0)
    return listed_in(root, "caltech101", found, folder)


def flowers102(root: Path) -> Truth:
    from scipy.io import savemat

    folder, labels, ids, found = root / "flowers-102", [], {}, Truth()
    for split, key in (("test", "tstid"), ("train", "trnid"), ("val", "valid")):
        found[split], ids[key] = [], []
        for _, label in numbered(split):
            labels.append(label + 1)
            ids[key].append(len(labels))
            found[split].append(saved(folder / "jpg" / f"image_{len(labels):05d}.jpg", label))
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(folder / "setid.mat", {key: np.array([rows]) for key, rows in ids.items()})
    return found


def mnist(root: Path) -> Truth:
    raw, found = root / "MNIST" / "raw", Truth()
    raw.mkdir(parents=True)
    for split, part in (("train", "train"), ("test", "t10k")):
        rows = [(pixels(label, 28, grey=True)[..., 0], label) for _, label in numbered(split)]
        found[split] = list(rows)
        head = np.array([len(rows), 28, 28], ">i4").tobytes()
        body = np.stack([image for image, _ in rows]).tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + head + body)
        labels = bytes(label for _, label in rows)
        head = np.array([len(rows)], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + head + labels)
    return found


def stl10(root: Path) -> Truth:
    folder, found = root / "stl10_binary", Truth()
    text(folder / "class_names.txt", "airplane", "bird", "car")
    for split in ("train", "test"):
        rows = [(pixels(label, 96), label) for _, label in numbered(split)]
        found[split] = list(rows)
        # channel, column, row
        data = np.stack([image.transpose(2, 1, 0) for image, _ in rows])
        (folder / f"{split}_X.bin").write_bytes(data.tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(label + 1 for _, label in rows))
    (folder / "unlabeled_X.bin").write_bytes(b"")
    fold = range(1, len(found["train"]) - 2)  # the first of ten, which is what CLIP trains on
    text(folder / "fold_indices.txt", " ".join(map(str, fold)), *["0 1"] * 9)
    found["train"] = [found["train"][n] for n in fold]
    return found


def eurosat(root: Path) -> Truth:
    names = ["AnnualCrop", "Forest", "River"]
    place = "eurosat/2750"
    found = folders(root, place, names, {"train": ".", "val": ".", "test": "."}, "jpg")
    return listed_in(root, "eurosat", found, root / place)


def gtsrb(root: Path) -> Truth:
    folder, found = root / "gtsrb" / "GTSRB", Truth()
    found["train"] = [saved(folder / "Training" / f"{label:05d}" / f"{n:05d}_00000.ppm", label)
                      for n, label in numbered("train")]  # fmt: skip
    found["test"] = [saved(folder / "Final_Test" / "Images" / f"{n:05d}.ppm", label)
                     for n, label in numbered("test")]  # fmt: skip
    rows = [f"{Path(str(path)).name};24;24;0;0;23;23;{label}" for path, label in found["test"]]
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    text(root / "gtsrb" / "GT-final_test.csv", head, *rows)
    return found


def kitti(root: Path) -> Truth:
    folder, found, number = root / "Kitti" / "raw" / "training", Truth(), 0
    things = ["Van 5.2 Car 30", "Car 15.0 Pedestrian 2", "Truck 40.5", "Cyclist 4.0"]
    for split in ("train", "test"):
        found[split] = []
        for _, label in numbered(split, 4):
            found[split].append(saved(folder / "image_2" / f"{number:06d}.png", label))
            words = things[label].split()
            rows = [f"{kind} 0.00 0 -1.57 1 2 3 4 1.5 1.6 3.7 -0.6 1.7 {depth} -1.6"
                    for kind, depth in zip(words[::2], words[1::2], strict=True)]  # fmt: skip
            text(folder / "label_2" / f"{number:06d}.txt", *rows, "DontCare -1 -1 -10 1 2 3 4 -1 "
                 "-1 -1 -1000 -1000 -1000 -10")  # fmt: skip
            number += 1
    return listed_in(root, "kitti", found, folder / "image_2")


def pcam(root: Path) -> Truth:
    import h5py

    found = Truth()
    (root / "pcam").mkdir(parents=True)
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        rows = [(pixels(label, 96), label) for _, label in numbered(split, 2)]
        found[split] = list(rows)
        held = {"x": np.stack([image for image, _ in rows])}
        held["y"] = np.array([label for _, label in rows], np.uint8).reshape(-1, 1, 1, 1)
        for kind, values in held.items():
            path = root / "pcam" / f"camelyonpatch_level_2_split_{name}_{kind}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset(kind, data=values)
    return found
