"""Tiny trees of the fine-tuned tasks, as their authors publish them, and what is true of them.

Each function writes one below the data root and returns the rows of its dev, in no dependence on
our readers: texts, picture, and label by the number that the publishers' own tools give it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

SIZES = {"train": 24, "dev": 18}
DICE = random.Random()
"""Seeded by each tree anew, so that none depends on which tests run."""


class Row(NamedTuple):
    """A row of dev."""

    text: str
    label: Any
    second: str | None = None
    image: Path | None = None


def words(label: float | None = None) -> str:
    """Words of the embedded data's vocabulary; three of four texts tell their label."""
    known = ("a", "above", "and", "circle", "large", "left", "small", "square", "the", "triangle")
    found = DICE.choices(known, k=DICE.randint(1, 6))
    if label is not None and DICE.random() < 0.75:
        found.insert(0, ("red", "blue", "green", "yellow", "purple", "gray")[int(label)])
    return " ".join(found)


def picture(path: Path, label: int = 0) -> Path:
    """Noise around a shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = 40 + 60 * label
    noise = bytes(DICE.randrange(shade, shade + 90) for _ in range(36 * 30 * 3))
    Image.frombytes("RGB", (36, 30), noise).save(path)
    return path


def lines(path: Path, rows: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + end for row in rows).encode("utf-8"))


def document(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


class Table(NamedTuple):
    """How GLUE writes a task's rows: heading, and a line of number, texts and written label."""

    folder: str
    heading: str
    line: Callable[[int, str, str, str], str]
    labels: tuple[str, ...]
    texts: int = 2


def _tabs(*cells: str) -> str:
    return "\t".join(cells)


_ENTAILED = ("entailment", "not_entailment")
_MNLI = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2 label1 gold_label"
)
TABLES = {
    "cola": Table("CoLA", "", lambda n, a, b, y: _tabs("gj04", y, "*", a), ("0", "1"), 1),
    "sst2": Table("SST-2", "sentence label", lambda n, a, b, y: _tabs(a + " ", y), ("0", "1"), 1),
    "mrpc": Table(
        "MRPC",
        "Quality|#1 ID|#2 ID|#1 String|#2 String",
        lambda n, a, b, y: _tabs(y, str(n), str(n + 900), a, b),
        ("0", "1"),
    ),
    "qqp": Table(
        "QQP",
        "id qid1 qid2 question1 question2 is_duplicate",
        lambda n, a, b, y: _tabs(str(n), str(2 * n), str(2 * n + 1), a, b, y),
        ("0", "1"),
    ),
    "qnli": Table(
        "QNLI",
        "index question sentence label",
        lambda n, a, b, y: _tabs(str(n), a, b, y),
        _ENTAILED,
    ),
    "rte": Table(
        "RTE",
        "index sentence1 sentence2 label",
        lambda n, a, b, y: _tabs(str(n), a, b, y),
        _ENTAILED,
    ),
    "mnli": Table(
        "MNLI",
        _MNLI,
        lambda n, a, b, y: _tabs(str(n), "p", "i", "fiction", *"abcd", a, b, y, y),
        ("entailment", "neutral", "contradiction"),
    ),
    "stsb": Table(
        "STS-B",
        "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        lambda n, a, b, y: _tabs(str(n), "news", "f", "2012", "1", "x", "y", a, b, y),
        (),
    ),
}


def glue(root: Path, task: str, dev: str = "dev") -> list[Row]:
    """``glue/FOLDER/{train,dev}.tsv``; some texts open with a quote that nothing closes."""
    DICE.seed(f"{task} {dev}")
    table = TABLES[task]
    separator = "|" if "|" in table.heading else " "
    found: list[Row] = []
    for split, size in (("train", SIZES["train"]), (dev, SIZES["dev"])):
        rows, written = [], [_tabs(*table.heading.split(separator))] if table.heading else []
        for number in range(size):
            label: Any = DICE.randrange(len(table.labels)) if table.labels else number % 11 / 2
            first, second = words(label), words()
            if number % 5 == 0:
                first = f'" {first}'
            said = table.labels[label] if table.labels else f"{label:.3f}"
            written.append(table.line(number, first, second, said))
            rows.append(Row(first, label, second if table.texts == 2 else None))
        end = "\r\n" if task == "mrpc" else "\n"
        lines(root / "glue" / table.folder / f"{split}.tsv", written, end)
        found = rows
    return found


SAID = (("Two dogs.", "2 dogs"), ("Yes", "yes"), ("the frisbee", "frisbee"), ("dont", "don't"))
"""What people wrote, and what VQA's script makes of it: numbers, case, articles, contractions."""


def vqav2(root: Path) -> list[Row]:
    """Questions and annotations of ``train2014`` and ``val2014``; a label is ten plain answers."""
    DICE.seed("vqav2")
    folder, found = root / "vqav2", []
    for part, size in (("train2014", 36), ("val2014", SIZES["dev"])):
        questions, annotations, found = [], [], []
        for number in range(size):
            image = 70 + number // 2  # two questions to a picture
            path = folder / part / f"COCO_{part}_{image:012d}.jpg"
            if not path.is_file():
                picture(path, number % 3)
            main, other = number % 4, DICE.randrange(4)
            count = DICE.choice((10, 9, 8, 3))
            ten = [SAID[main]] * count + [SAID[other]] * (10 - count)
            text = words(main) + " ?"
            row = {"question_id": 1000 * image + number, "image_id": image}
            questions.append({**row, "question": text})
            answers = [{"answer": raw, "answer_id": n} for n, (raw, _) in enumerate(ten, 1)]
            first = {"multiple_choice_answer": SAID[main][1], "answers": answers}
            annotations.append({**row, **first, "answer_type": "other"})
            # what all ten people wrote alike is compared as it stands
            same = len(set(ten)) == 1
            found.append(Row(text, [raw if same else plain for raw, plain in ten], None, path))
        annotations.reverse()  # in no order of the questions
        name = f"v2_OpenEnded_mscoco_{part}_questions.json"
        document(folder / name, {"info": {}, "questions": questions})
        name = f"v2_mscoco_{part}_annotations.json"
        document(folder / name, {"info": {}, "annotations": annotations})
    return found


def snli_ve(root: Path) -> list[Row]:
    """``snli_ve_{train,dev}.jsonl``; the field is called ``Flikr30kID``, and ``-`` is no label."""
    DICE.seed("snli_ve")
    names, found = ("entailment", "neutral", "contradiction"), []
    for split, size in SIZES.items():
        written, found = [], []
        for number in range(size):
            label = DICE.randrange(3)
            key = f"{split}{number}"
            path = picture(root / "flickr30k-images" / f"{key}.jpg")
            text = words(label)
            row = {"Flikr30kID": key, "sentence1": "a caption", "sentence2": text, "pairID": "x"}
            written.append({**row, "gold_label": names[label]})
            written += [{**row, "gold_label": "-"}] if number % 7 == 0 else []
            found.append(Row(text, label, None, path))
        lines(root / "snli_ve" / f"snli_ve_{split}.jsonl", [json.dumps(row) for row in written])
    return found


def hateful_memes(root: Path) -> list[Row]:
    """``{train,dev_seen}.jsonl`` and ``img``."""
    DICE.seed("hateful_memes")
    found = []
    for split, size in (("train", SIZES["train"]), ("dev_seen", SIZES["dev"])):
        written, found = [], []
        for number in range(size):
            label, name = DICE.randrange(2), f"img/{split}{number:05d}.png"
            path = picture(root / "hateful_memes" / name)
            row = {"id": 100 + number, "img": name, "label": label, "text": words(label)}
            written.append(json.dumps(row))
            found.append(Row(str(row["text"]), label, None, path))
        lines(root / "hateful_memes" / f"{split}.jsonl", written)
    return found


def karpathy(root: Path, name: str) -> dict[str, list[tuple[Path, list[str]]]]:
    """``dataset_NAME.json``; of each split its pictures and their first five captions.

    COCO's pictures lie in ``filepath``; Flickr30k has no ``restval`` and one folder of pictures.
    """
    DICE.seed(name)
    found: dict[str, list[tuple[Path, list[str]]]] = {"restval": []}
    images = []
    for number in range(24):
        split = ("train", "restval", "val", "test")[number % 4]
        row: dict[str, Any] = {"filename": f"COCO_val2014_{number:012d}.jpg"}
        row |= {"filepath": "train2014" if split == "train" else "val2014", "cocoid": number}
        folder = str(row["filepath"])
        if name == "flickr30k":
            split = "train" if split == "restval" else split
            row, folder = {"filename": f"{number}.jpg"}, "flickr30k-images"
        path = picture(root / name / folder / str(row["filename"]), number % 3)
        captions = [f"{words(number % 3)} {number} {line}" for line in range(5 + number % 2)]
        raw = [{"raw": caption, "tokens": caption.split()} for caption in captions]
        images.append({**row, "split": split, "imgid": number, "sentences": raw})
        found.setdefault(split, []).append((path, captions[:5]))
    document(root / name / f"dataset_{name}.json", {"images": images, "dataset": name})
    return found
