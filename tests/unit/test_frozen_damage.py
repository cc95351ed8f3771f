"""Damaged sets of the frozen tasks: a named error or a counted row, and never a figure without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from probe_trees import PROBE_TREES, fer2013, kitti, lines
from published_trees import imagenet, karpathy, picture, write_json

from flava_plugin import registry
from flava_plugin.evaluate.features_cache import compute
from flava_plugin.evaluate.frozen_tasks import remarks
from flava_plugin.evaluate.sharing import ALONE
from flava_plugin.types import Sample


class Seeing:
    """Stands in for ``Flava``: decodes pictures, and sees nothing in them."""

    batch_size = 3
    ranks = ALONE

    def batch(self, samples: list[Sample], modality: str) -> int:
        return len([np.asarray(sample.image) for sample in samples])

    def features(self, batch: int, field: str) -> torch.Tensor:
        return torch.zeros(batch, 1, 4)


def build(kind: str, /, **options: Any) -> Any:
    return registry.datasets.build(kind, **options)


def read_all(dataset: Any) -> None:
    compute(Seeing(), dataset, "class", "image")  # type: ignore[arg-type]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def noise(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mat_of_class_nine(root: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    rows = np.array([("00002.jpg", 9), ("00001.jpg", 1)], dtype=[("fname", "O"), ("class", "O")])
    savemat(root / "stanford_cars/devkit/cars_train_annos.mat", {"annotations": rows})


def torn_png(root: Path) -> None:
    path = root / "rendered-sst2/train/negative/0.png"
    noise(path)
    cut(path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "dtd": (
        lambda root: (root / "dtd/dtd/images/banded/banded_val.jpg").unlink(),
        r"no picture: dtd train: .*banded_val.jpg",
    ),
    "food101": (
        lambda root: (root / "food-101/images/sushi/train.jpg").write_bytes(b"<html>"),
        r"broken picture: food101 train: .*sushi/train.jpg",
    ),
    "rendered_sst2": (torn_png, "broken picture: rendered_sst2 train: .*negative/0.png"),
    "stanford_cars": (mat_of_class_nine, "sample 0 has label 8, of 2 classes"),
    "pcam": (
        lambda root: (root / "pcam/camelyonpatch_level_2_split_train_y.h5").write_bytes(b"no"),
        "broken picture: pcam train: sample 0",
    ),
    "sun397": (lambda root: (root / "SUN397/a/abbey/sun_0.jpg").write_bytes(b"no"), "sun_0.jpg"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_sample_is_named_when_it_is_read(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py" if name == "pcam" else "scipy")
    PROBE_TREES[name](tmp_path)
    damage, message = DAMAGE[name]
    options: dict[str, Any] = {"path": tmp_path, "name": name}
    if name == "sun397":
        lines(tmp_path / "splits/train.txt", "a/abbey/sun_0.jpg", "c/church/outdoor/sun_1.jpg")
        options["splits"] = tmp_path / "splits"
    read_all(build("probe_set", **options))
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_all(build("probe_set", **options))


def test_a_set_that_is_no_such_set_is_named_before(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    for name, file, message in (
        ("dtd", "dtd/dtd/labels/val1.txt", "dtd split val holds no sample; is the set whole"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", "mnist cannot be read"),
        ("pcam", "pcam/camelyonpatch_level_2_split_valid_x.h5", "pcam cannot be read"),
        ("fgvc_aircraft", "fgvc-aircraft-2013b/data/variants.txt", "fgvc_aircraft cannot be read"),
        ("clevr_counts", "clevr/CLEVR_v1.0/scenes/CLEVR_train_scenes.json", "clevr_counts cannot"),
    ):
        PROBE_TREES[name](tmp_path)
        (tmp_path / file).write_bytes(b"")
        with pytest.raises(ValueError, match=message):
            build("probe_set", path=tmp_path, name=name)
    PROBE_TREES["gtsrb"](tmp_path)
    table = tmp_path / "gtsrb" / "GT-final_test.csv"
    table.write_text(table.read_text().replace(";1\n", ";43\n"))
    with pytest.raises(ValueError, match="has label 43, of 43 classes"):
        read_all(build("probe_set", path=tmp_path, name="gtsrb", split="test"))


def test_imagenets_splits_number_classes_alike(tmp_path: Path) -> None:
    imagenet(tmp_path, 2)
    for path in (tmp_path / "val" / "n01440764").iterdir():
        path.unlink()
    val = build("imagenet", path=tmp_path, split="val")
    assert [val.read(n).extra["class"] for n in (0, 2)] == [1, 2]
    torn = tmp_path / "val" / "n02084071" / "n02084071_1.JPEG"
    noise(torn)
    cut(torn)
    with pytest.raises(ValueError, match=r"sample 1: .*n02084071_1.JPEG cannot be decoded"):
        read_all(val)
    picture(tmp_path / "val" / "n09999999" / "n09999999_0.JPEG")
    with pytest.raises(ValueError, match="class 'n09999999' is none of train's"):
        build("imagenet", path=tmp_path, split="val")


def test_what_is_left_out_of_a_set_is_told_beside_its_figures(tmp_path: Path) -> None:
    class Task:
        about = "fold 1"

        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset

    table = tmp_path / "fer2013" / "fer2013.csv"
    fer2013(table, "emotion,pixels,Usage")
    table.write_text(table.read_text("utf-8").replace("0,0 0", "7,0 0", 1), "utf-8")
    faces = build("fer2013", path=tmp_path)
    assert remarks(Task(faces)) == "fold 1; 1 samples, left out 1 x unknown label"
    assert faces.validation.tolist() == [True]
    kitti(tmp_path, ["Car:5", "Car:15", "Van:50"] * 4)
    (tmp_path / "Kitti/raw/training/image_2/000003.png").unlink()
    left = [remarks(Task(build("kitti_distance", path=tmp_path, split=split)))
            for split in ("train", "test")]  # fmt: skip
    assert sum("left out 1 x no picture" in each for each in left) == 1
    options, _ = karpathy(tmp_path / "coco")
    whole = build("karpathy_retrieval", **options, split="test")
    assert remarks(Task(whole)) == "fold 1"
    named = tmp_path / "coco" / "dataset_coco.json"
    whole.path(0).unlink()
    with pytest.raises(ValueError, match="no picture"):
        build("karpathy_retrieval", **options, split="test")
    write_json(named, {"annotations": []})
    with pytest.raises(ValueError, match="dataset_coco.json"):
        build("karpathy_retrieval", **options, split="test")
