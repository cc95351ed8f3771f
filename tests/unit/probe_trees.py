"""Tiny trees of the probes' sets as torchvision reads them: two samples of two classes a split."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from published_trees import picture, write_json

SPLITS = ("train", "val", "test")


def lines(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row + "\n" for row in rows), "utf-8")


def food101(root: Path) -> None:
    for split in ("train", "test"):
        listed = {name: [f"{name}/{split}"] for name in ("sushi", "apple_pie")}
        write_json(root / "food-101" / "meta" / f"{split}.json", listed)
        for name in listed:
            picture(root / "food-101" / "images" / name / f"{split}.jpg")


def _cifar(folder: Path, files: list[str], key: str, meta: tuple[str, str]) -> None:
    folder.mkdir(parents=True)
    pixels = np.zeros((2, 3072), np.uint8)
    for name in files:
        (folder / name).write_bytes(pickle.dumps({"data": pixels, key: [1, 0]}))
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: ["plane", "car"]}))


def cifar10(root: Path) -> None:
    files = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    _cifar(root / "cifar-10-batches-py", files, "labels", ("batches.meta", "label_names"))


def cifar100(root: Path) -> None:
    names = ("meta", "fine_label_names")
    _cifar(root / "cifar-100-python", ["train", "test"], "fine_labels", names)


def stanford_cars(root: Path) -> None:
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    kind = [("fname", "O"), ("class", "O")]
    for split, name in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        rows = np.array([(f"0000{n}.jpg", n) for n in (2, 1)], dtype=kind)
        savemat(folder / name, {"annotations": rows})
        for number in (1, 2):
            picture(folder / f"cars_{split}" / f"0000{number}.jpg")
    names = np.array(["AM General Hummer", "Acura RL"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})


def fgvc_aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    lines(data / "variants.txt", "707-320", "A300 B4")
    for split in SPLITS:
        rows = [f"{split}1 A300 B4", f"{split}0 707-320"]
        lines(data / f"images_variant_{split}.txt", *rows)
        for number in range(2):
            picture(data / "images" / f"{split}{number}.jpg")


def dtd(root: Path) -> None:
    for split in SPLITS:
        names = [f"{kind}/{kind}_{split}.jpg" for kind in ("zigzagged", "banded")]
        lines(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", *names)
        for name in names:
            picture(root / "dtd" / "dtd" / "images" / name)


def oxford_pets(root: Path) -> None:
    for split in ("trainval", "test"):
        rows = [f"beagle_{split} 2 2 1", f"Abyssinian_{split} 1 1 1"]
        lines(root / "oxford-iiit-pet" / "annotations" / f"{split}.txt", *rows)
        for row in rows:
            picture(root / "oxford-iiit-pet" / "images" / f"{row.split()[0]}.jpg")


def caltech101(root: Path) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for name in ("yin_yang", "accordion", "BACKGROUND_Google"):
        for number in range(1, 4):
            picture(folder / name / f"image_{number:04d}.jpg", number)
        (root / "caltech101" / "Annotations" / name).mkdir(parents=True)


def flowers102(root: Path) -> None:
    from scipy.io import savemat

    folder = root / "flowers-102"
    for number in range(1, 7):
        picture(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[2, 1, 2, 1, 2, 1]])})
    ids = {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]}
    savemat(folder / "setid.mat", {name: np.array([rows]) for name, rows in ids.items()})


def mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        sizes = np.array([2, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + bytes(1568))
        sizes = np.array([2], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes + bytes([1, 0]))


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    lines(folder / "class_names.txt", "airplane", "bird")
    lines(folder / "fold_indices.txt", "1 2", "0 1")
    for part, count in (("train", 3), ("test", 2)):
        (folder / f"{part}_X.bin").write_bytes(bytes(count * 27648))
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 2, 1][:count]))
    (folder / "unlabeled_X.bin").write_bytes(b"")


def eurosat(root: Path) -> None:
    for name in ("River", "Forest"):
        for number in range(6):
            picture(root / "eurosat" / "2750" / name / f"{name}_{number}.jpg", number)


def gtsrb(root: Path) -> None:
    folder = root / "gtsrb" / "GTSRB"
    for name in ("00000", "00001"):
        place = folder / "Training" / name / "00000_00000.ppm"
        place.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(place)
    (folder / "Final_Test" / "Images").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (20, 20)).save(folder / "Final_Test" / "Images" / f"0000{number}.ppm")
    rows = ["Filename;Width;ClassId", "00000.ppm;20;1", "00001.ppm;20;0"]
    lines(root / "gtsrb" / "GT-final_test.csv", *rows)


def pcam(root: Path) -> None:
    import h5py

    folder = root / "pcam"
    folder.mkdir(parents=True)
    for name in ("train", "valid", "test"):
        for kind, values in (
            ("x", np.zeros((2, 96, 96, 3), np.uint8)),
            ("y", np.array([1, 0], np.uint8).reshape(2, 1, 1, 1)),
        ):
            path = folder / f"camelyonpatch_level_2_split_{name}_{kind}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset(kind, data=values)


def clevr_counts(root: Path) -> None:
    folder = root / "clevr" / "CLEVR_v1.0"
    for split in SPLITS:
        scenes: list[dict[str, Any]] = []
        for number in range(4):
            name = f"CLEVR_{split}_{number:06d}.png"
            picture(folder / "images" / split / name, number)
            scenes.append({"image_filename": name, "objects": [{}] * (10 if number % 2 else 3)})
        if split != "test":
            write_json(folder / "scenes" / f"CLEVR_{split}_scenes.json", {"scenes": scenes})


def sun397(root: Path) -> None:
    lines(root / "SUN397" / "ClassName.txt", "/a/abbey", "/c/church/outdoor")
    for place in ("a/abbey", "c/church/outdoor"):
        for number in (3, 1, 2, 0):
            picture(root / "SUN397" / place / f"sun_{number}.jpg", number)


def rendered_sst2(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("positive", "negative"):
            picture(root / "rendered-sst2" / split / name / "0.png")


def country211(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("ZW", "AD"):
            picture(root / "country211" / split / name / "0.jpg")


PROBE_TREES: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        *(food101, cifar10, cifar100, stanford_cars, fgvc_aircraft, dtd, oxford_pets),
        *(caltech101, flowers102, mnist, stl10, eurosat, gtsrb, pcam, clevr_counts, sun397),
        *(rendered_sst2, country211),
    )
}

CHECKED = {"cifar10": "cifar", "cifar100": "cifar", "stl10": "stl10", "flowers102": "flowers102"}
"""Sets of which torchvision wants the archive's md5, and its modules that ask for it."""


def kitti(root: Path, depths: list[str]) -> None:
    """Label files of pictures, each with things ``TYPE:DEPTH`` parted by spaces."""
    folder = root / "Kitti" / "raw" / "training"
    for number, things in enumerate(depths):
        picture(folder / "image_2" / f"{number:06d}.png", number)
        rows = []
        for thing in things.split():
            kind, depth = thing.split(":")
            rows.append(f"{kind} 0.00 0 -1.5 1 2 3 4 1.5 1.6 3.7 -0.6 1.7 {depth} -1.6")
        lines(folder / "label_2" / f"{number:06d}.txt", *rows)


def ucf101(root: Path) -> None:
    videos = [f"{kind}/v_{kind}_g0{n}_c01" for kind in ("Archery", "YoYo") for n in range(2)]
    for number, video in enumerate(videos):
        picture(root / f"{video}{'.jpg' if number % 2 else '.png'}", number)
    train = [f"{videos[0]}.avi 1", f"{videos[2]}.avi 2", "YoYo/v_YoYo_g09_c01.avi 2"]
    lines(root / "ucfTrainTestlist" / "trainlist01.txt", *train)
    lines(root / "ucfTrainTestlist" / "testlist01.txt", f"{videos[3]}.avi")


def fer2013(path: Path, heading: str) -> None:
    rows = [heading]
    for number, usage in enumerate(["Training", "PublicTest", "PrivateTest", "PrivateTest"]):
        cells = {"emotion": str(number), "Usage": usage, "pixels": " ".join([str(number)] * 2304)}
        rows.append(",".join(cells[name.strip()] for name in heading.split(",")))
    lines(path, *rows)
