"""The eighteen sets of FLAVA's linear probes that torchvision reads: classes, splits, layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flava_plugin.data.split_choice import SplitRule

ProbeName = Literal[
    "food101",
    "cifar10",
    "cifar100",
    "stanford_cars",
    "fgvc_aircraft",
    "dtd",
    "oxford_pets",
    "caltech101",
    "flowers102",
    "mnist",
    "stl10",
    "eurosat",
    "gtsrb",
    "pcam",
    "clevr_counts",
    "sun397",
    "rendered_sst2",
    "country211",
]

Options = Mapping[str, Any]


@dataclass(frozen=True)
class ProbeSet:
    """How torchvision reads a set.

    Attributes:
        kind: Class of ``torchvision.datasets``.
        folder: What has to lie below the root.
        train: Its options, for each part that is joined to train: the first is fitted to while
            lambda is chosen on the second, the published validation part, if there is one.
        test: Its options for what is measured.
        rule: How a split is drawn where none is published, after CLIP's sizes.
        names: Names of the classes where torchvision has none.
        lowest: The label that becomes 0.
        quirk: What a reader of the results has to know about the split.
    """

    kind: str
    folder: str
    train: Sequence[Options] = ({"split": "train"},)
    test: Sequence[Options] = ({"split": "test"},)
    rule: SplitRule | None = None
    names: Sequence[str] = ()
    lowest: int = 0
    quirk: str = ""


_JOINED: Sequence[Options] = ({"split": "train"}, {"split": "val"})
_TRUE: Sequence[Options] = ({"train": True},)
_FALSE: Sequence[Options] = ({"train": False},)
_WHOLE: Sequence[Options] = ({},)

PROBES: dict[str, ProbeSet] = {
    "food101": ProbeSet("Food101", "food-101"),
    "cifar10": ProbeSet("CIFAR10", "cifar-10-batches-py", _TRUE, _FALSE),
    "cifar100": ProbeSet("CIFAR100", "cifar-100-python", _TRUE, _FALSE),
    "stanford_cars": ProbeSet("StanfordCars", "stanford_cars"),
    "fgvc_aircraft": ProbeSet("FGVCAircraft", "fgvc-aircraft-2013b", _JOINED),
    "dtd": ProbeSet("DTD", "dtd", _JOINED),
    "oxford_pets": ProbeSet("OxfordIIITPet", "oxford-iiit-pet", ({"split": "trainval"},)),
    "caltech101": ProbeSet(
        "Caltech101",
        "caltech101",
        _WHOLE,
        _WHOLE,
        rule=SplitRule(30, None, True),
        quirk="101 classes, without the background that CLIP's table counts as one",
    ),
    "flowers102": ProbeSet(
        "Flowers102", "flowers-102", _JOINED, names=tuple(map(str, range(1, 103)))
    ),
    "mnist": ProbeSet("MNIST", "MNIST", _TRUE, _FALSE),
    "stl10": ProbeSet(
        "STL10", "stl10_binary", ({"split": "train", "folds": 0},), quirk="train is fold 0 of ten"
    ),
    "eurosat": ProbeSet("EuroSAT", "eurosat", _WHOLE, _WHOLE, rule=SplitRule(10_000, 5_000)),
    "gtsrb": ProbeSet("GTSRB", "gtsrb", names=tuple(map(str, range(43)))),
    "pcam": ProbeSet("PCAM", "pcam", _JOINED, names=("no tumor", "tumor")),
    "clevr_counts": ProbeSet(
        "CLEVRClassification",
        "clevr/CLEVR_v1.0",
        test=({"split": "val"},),
        rule=SplitRule(2_000, 500),
        names=tuple(map(str, range(3, 11))),
        lowest=3,
        quirk="drawn from CLEVR's train, and from its val to measure on",
    ),
    "sun397": ProbeSet("SUN397", "SUN397", _WHOLE, _WHOLE, rule=SplitRule(50, 50, True)),
    "rendered_sst2": ProbeSet("RenderedSST2", "rendered-sst2", _JOINED),
    "country211": ProbeSet("Country211", "country211", ({"split": "train"}, {"split": "valid"})),
}
"""By name; sizes after CLIP's table 9 (Radford et al. 2021), which FLAVA's probes follow. Aircraft,
DTD, Flowers102, PCAM, Rendered SST2 and Country211 publish a validation part; of the others a share
of train is held out (its appendix A.3)."""


def names_and_labels(part: Any, lowest: int) -> tuple[list[str], list[int]]:
    """Give paths and labels of a set without a published split, without reading a picture.

    Args:
        part: The torchvision dataset.
        lowest: The label that becomes 0.

    Returns:
        Relative paths, and labels from 0.

    Raises:
        ValueError: It is none of those that a split is drawn of.
    """
    kind = type(part).__name__
    if kind == "EuroSAT":
        folder = Path(part._data_folder)  # noqa: SLF001 (torchvision offers no other way)
        return [Path(path).relative_to(folder).as_posix() for path, _ in part.samples], [
            int(label) for _, label in part.samples
        ]
    if kind == "Caltech101":
        places = zip(part.y, part.index, strict=True)
        names = [f"{part.categories[y]}/image_{number:04d}.jpg" for y, number in places]
        return names, [int(y) for y in part.y]
    if kind in ("SUN397", "CLEVRClassification"):
        folder = part._data_dir if kind == "SUN397" else part._data_folder / "images"  # noqa: SLF001
        files = part._image_files  # noqa: SLF001
        labels = [int(label) - lowest for label in part._labels]  # noqa: SLF001
        return [Path(file).relative_to(folder).as_posix() for file in files], labels
    raise ValueError(f"{kind}: has a split of its own")
