"""The paper's 35 tasks as one table: what measures them, where the data lies, what was printed.

Figures are those of Singh et al. 2021 (arXiv 2112.04482), table 4, in per cent. Columns: ``flava``
(column 6), ``clip_pmd`` (7: CLIP ViT-B/16 trained on PMD), ``clip_400m`` (8: OpenAI's) and
``flava_mm`` (4: without unimodal data). Rules of its averages: language and vision are means over
tasks, the multimodal average is over 11 figures (retrieval gives four for each of its two sets),
and the macro average is the mean of those three. MRPC and QQP are the mean of accuracy and F1, MNLI
that of matched and mismatched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Group = Literal["language", "vision", "multimodal"]
GROUPS: tuple[Group, ...] = ("language", "vision", "multimodal")
COLUMNS = ("flava", "clip_pmd", "clip_400m", "flava_mm")


class PaperTask(NamedTuple):
    """One of the 35.

    Attributes:
        name: The name users say.
        group: Which average it belongs to.
        metric: How it is measured.
        kind: ``probe`` and ``retrieval`` are measured on a frozen model; ``finetuned`` by a run of
            its own.
        dataset: Name of the dataset's builder.
        options: Options of the builder without its path.
        folder: Path of the data under the data root.
        printed: By figure, the printed per cents in the order of ``COLUMNS``.
    """

    name: str
    group: Group
    metric: str
    kind: Literal["probe", "retrieval", "finetuned"]
    dataset: str
    options: Mapping[str, Any]
    folder: str
    printed: Mapping[str, tuple[float, ...]]

    @property
    def recipe(self) -> str:
        """The recipe of a fine-tuned task, or an empty string."""
        if self.kind != "finetuned":
            return ""
        if self.dataset == "glue":
            own = self.name in _OWN_RECIPES
            return f"finetune/glue_{self.name}" if own else "finetune/glue"
        return f"finetune/{self.name}"

    @property
    def changes(self) -> tuple[str, ...]:
        """What ``flava train`` takes besides the recipe, which names another of GLUE's tasks."""
        if self.recipe != "finetune/glue" or self.name == "rte":
            return ()
        keys = ("data.sources.train", "evaluate.tasks.glue")
        named = [f"{key}.dataset.task={self.name}" for key in keys]
        return (*named, f"evaluate.metric=glue.{self.metric}")


_LANGUAGE = """
mnli accuracy        80.33 32.85 33.52 76.82
cola matthews        50.65 11.02 25.37 38.97
mrpc accuracy_and_f1 84.16 68.74 69.91 79.14
qqp  accuracy_and_f1 88.74 59.17 65.33 88.49
sst2 accuracy        90.94 83.49 88.19 89.33
qnli accuracy        87.31 49.46 50.54 84.77
rte  accuracy        57.76 53.07 55.23 51.99
stsb pearson         85.67 13.70 15.98 84.29
"""

# Name, metric (CLIP's table of its data sets), folder under the data root, figures.
_VISION = """
imagenet      accuracy       imagenet              75.54 72.95 80.20 74.34
food101       accuracy       food-101              88.51 85.49 91.56 87.53
cifar10       accuracy       cifar-10-batches-py   92.87 91.25 94.93 92.37
cifar100      accuracy       cifar-100-python      77.68 74.40 81.10 78.01
cars          accuracy       stanford_cars         70.87 62.84 85.92 72.07
aircraft      mean_per_class fgvc-aircraft-2013b   47.31 40.02 51.40 48.90
dtd           accuracy       dtd                   77.29 73.40 78.46 76.91
pets          mean_per_class oxford-iiit-pet       84.82 79.61 91.66 84.93
caltech101    mean_per_class caltech101            95.74 93.76 95.51 95.32
flowers102    mean_per_class flowers-102           96.37 94.94 97.12 96.39
mnist         accuracy       MNIST                 98.42 97.38 99.01 98.58
stl10         accuracy       stl10_binary          98.89 97.29 99.09 98.31
eurosat       accuracy       eurosat               97.26 95.70 95.38 96.98
gtsrb         accuracy       gtsrb                 79.46 76.34 88.61 77.93
kitti         accuracy       Kitti                 89.04 84.89 86.56 88.84
pcam          accuracy       pcam                  85.31 83.99 83.72 85.51
ucf101        accuracy       ucf101                83.32 77.85 85.17 82.90
clevr         accuracy       clevr                 79.66 73.64 75.89 81.66
fer2013       accuracy       fer2013               61.12 57.04 68.36 60.87
sun397        accuracy       SUN397                82.17 79.96 82.05 81.41
rendered_sst2 accuracy       rendered-sst2         57.11 56.84 74.68 59.25
country211    accuracy       country211            28.92 25.12 30.10 26.75
"""

_MULTIMODAL = """
vqav2         vqa_accuracy 72.49 59.81 54.83 71.69
snli_ve       accuracy     78.89 73.53 74.27 78.36
hateful_memes auroc        76.09 56.59 63.93 70.72
"""

# TR asks by picture for texts, IR by text for pictures.
_RETRIEVAL = """
flickr30k image_to_text_r1 67.70 60.90 82.20 69.30
flickr30k image_to_text_r5 94.00 88.90 96.60 92.90
flickr30k text_to_image_r1 65.22 56.48 62.08 63.16
flickr30k text_to_image_r5 89.38 83.60 85.68 87.70
coco      image_to_text_r1 42.74 37.12 52.48 43.48
coco      image_to_text_r5 76.76 69.48 76.68 76.76
coco      text_to_image_r1 38.38 33.29 33.07 38.46
coco      text_to_image_r5 67.47 62.47 58.37 67.68
"""

_OWN_BUILDERS = {
    "imagenet": "imagenet",
    "kitti": "kitti_distance",
    "ucf101": "ucf101_frames",
    "fer2013": "fer2013",
}
"""Probes whose data a builder of their own reads; the others are names of ``probe_set``."""

_PROBE_NAMES = {
    "cars": "stanford_cars",
    "aircraft": "fgvc_aircraft",
    "pets": "oxford_pets",
    "clevr": "clevr_counts",
}
"""Names of ``probe_set`` that are not the task's."""

_OWN_RECIPES = frozenset({"mnli", "stsb"})
"""Tasks of GLUE with a recipe of their own: two sets to measure on, and a regression."""


def _numbers(words: list[str]) -> tuple[float, ...]:
    return tuple(map(float, words))


def _table() -> dict[str, PaperTask]:
    found: dict[str, PaperTask] = {}
    for line in _LANGUAGE.strip().splitlines():
        name, metric, *figures = line.split()
        printed = {metric: _numbers(figures)}
        found[name] = PaperTask(
            name, "language", metric, "finetuned", "glue", {"task": name}, "glue", printed
        )
    for line in _VISION.strip().splitlines():
        name, metric, folder, *figures = line.split()
        dataset = _OWN_BUILDERS.get(name, "probe_set")
        options = {"name": _PROBE_NAMES.get(name, name)} if dataset == "probe_set" else {}
        printed = {metric: _numbers(figures)}
        found[name] = PaperTask(name, "vision", metric, "probe", dataset, options, folder, printed)
    for line in _MULTIMODAL.strip().splitlines():
        name, metric, *figures = line.split()
        printed = {metric: _numbers(figures)}
        found[name] = PaperTask(name, "multimodal", metric, "finetuned", name, {}, name, printed)
    retrieval: dict[str, dict[str, tuple[float, ...]]] = {}
    for line in _RETRIEVAL.strip().splitlines():
        name, figure, *figures = line.split()
        retrieval.setdefault(name, {})[figure] = _numbers(figures)
    for name, printed in retrieval.items():
        found[name] = PaperTask(
            name, "multimodal", "recall", "retrieval", "karpathy_retrieval", {}, name, printed
        )
    return found


TASKS: Mapping[str, PaperTask] = _table()
"""The 35 tasks by name, in the order of the paper's table."""


def paper_column(column: str) -> dict[str, dict[str, float]]:
    """Read one column of the paper's table.

    Args:
        column: One of ``COLUMNS``.

    Returns:
        Per cents by task and figure.
    """
    place = COLUMNS.index(column)
    return {
        task.name: {figure: values[place] for figure, values in task.printed.items()}
        for task in TASKS.values()
    }
