"""Tiny trees of the tasks with texts, in the layouts their authors publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from published_trees import picture, write_json

MNLI = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse"] + [
    *("sentence2_binary_parse", "sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
    *("label1", "gold_label"),
]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2"] + [
    *("sentence1", "sentence2", "score"),
]
MRPC = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]


def table(path: Path, rows: list[list[str]], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join("\t".join(row) + end for row in rows).encode("utf-8"))
    return path


def json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def glue(folder: Path) -> Path:
    """Every task's train and dev; a sentence opens with a quote that nothing closes."""
    quoted = '" so it begins'
    for split in ("train", "dev"):
        table(
            folder / "CoLA" / f"{split}.tsv",
            [["gj04", "1", "", f"{split} it works ."], ["gj04", "0", "*", quoted]],
        )
        table(
            folder / "SST-2" / f"{split}.tsv",
            [["sentence", "label"], [f"{split} fine ", "1"], [quoted, "0"], ["dull", "0"]],
        )
        rows = [["1", "7", "8", f"{split} one", quoted], ["0", "9", "10", "a cat", "a dog"]]
        table(folder / "MRPC" / f"{split}.tsv", [MRPC, *rows], "\r\n")
        head = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
        rows = [["1", "2", "3", "who ?", "whom ?", "1"], ["2", "3", "4", "broken"]]
        table(folder / "QQP" / f"{split}.tsv", [head, *rows, ["5", "6", "7", quoted, "b", "0"]])
        start = ["0", "news", "f", "2012", "1", "x", "y"]
        rows = [[*start, f"{split} a", "b", "2.500"], [*start, quoted, "d", "5.000"]]
        table(folder / "STS-B" / f"{split}.tsv", [STSB, *rows])
        head = ["index", "question", "sentence", "label"]
        table(folder / "QNLI" / f"{split}.tsv", [head, ["0", "why ?", quoted, "not_entailment"]])
        head = ["index", "sentence1", "sentence2", "label"]
        table(folder / "RTE" / f"{split}.tsv", [head, ["0", "it rains", "wet", "entailment"]])
    for split in ("train", "dev_matched", "dev_mismatched"):
        start = [str(number) for number in range(8)]
        rows = [[*start, f"{split} premise", quoted, "neutral", "contradiction"]]
        table(folder / "MNLI" / f"{split}.tsv", [MNLI, *rows])
    table(folder / "SST-2" / "test.tsv", [["index", "sentence"], ["0", "unseen"]])
    table(folder / "CoLA" / "test.tsv", [["index", "sentence"], ["0", "unseen"]])
    return folder


def vqa(folder: Path) -> Path:
    """Two parts with two pictures and three questions each; ten answers to a question."""
    for part, first in (("train2014", 1), ("val2014", 11)):
        questions, annotations = [], []
        for number in range(3):
            key, image = first * 1000 + number, first + number % 2
            picture(folder / part / f"COCO_{part}_{image:012d}.jpg", image)
            row = {"question_id": key, "image_id": image}
            questions.append({**row, "question": f"what is it {number} ?"})
            said = ["Two dogs."] * 2 + ["2 dogs"] + ["yes"] * 6 + ["it's a cat"]
            answers = [{"answer": word, "answer_id": n} for n, word in enumerate(said, 1)]
            main = "yes" if number else "2 dogs"
            annotations.append({**row, "multiple_choice_answer": main, "answers": answers})
        annotations.reverse()  # in no order of the questions
        name = f"v2_OpenEnded_mscoco_{part}_questions.json"
        write_json(folder / name, {"info": {}, "questions": questions})
        name = f"v2_mscoco_{part}_annotations.json"
        write_json(folder / name, {"info": {}, "annotations": annotations})
    picture(folder / "test2015" / "COCO_test2015_000000000001.jpg")
    row = {"question_id": 1, "image_id": 1, "question": "what ?"}
    for part in ("test2015", "test-dev2015"):
        write_json(folder / f"v2_OpenEnded_mscoco_{part}_questions.json", {"questions": [row]})
    return folder


def snli_ve(folder: Path) -> dict[str, Path]:
    for split in ("train", "dev", "test"):
        rows = []
        for number, label in enumerate(["entailment", "neutral", "contradiction", "-"]):
            name = f"47055529{number}"
            picture(folder / "flickr30k-images" / f"{name}.jpg", number)
            row = {"Flikr30kID": name, "gold_label": label, "sentence1": "a caption"}
            rows.append({**row, "sentence2": f"{split} says {label}", "pairID": "x"})
        json_lines(folder / f"snli_ve_{split}.jsonl", rows)
    return {"path": folder, "images": folder / "flickr30k-images"}


def memes(folder: Path) -> Path:
    for split in ("train", "dev_seen", "dev_unseen", "test_seen"):
        rows: list[dict[str, Any]] = []
        for number in range(2):
            image = f"img/0{number}23.png"
            picture(folder / image, number)
            text = f'{split} "quoted" meme'
            rows.append({"id": f"0{number}23", "img": image, "label": number, "text": text})
        if split == "test_seen":
            rows = [{key: row[key] for key in ("id", "img", "text")} for row in rows]
        json_lines(folder / f"{split}.jsonl", rows)
    return folder


def karpathy(folder: Path, captions: int = 6) -> dict[str, Path]:
    """``dataset_flickr30k.json``, whose pictures lie in one folder without ``filepath``."""
    images = []
    for number, split in enumerate(("train", "restval", "val", "test", "test")):
        name = f"10000{number}.jpg"
        picture(folder / "flickr30k-images" / name, number)
        sentences = [{"raw": f"{split} {number} caption {n}"} for n in range(captions)]
        row = {"filename": name, "split": split, "imgid": number, "sentences": sentences}
        images.append(row)
    path = write_json(folder / "dataset_flickr30k.json", {"images": images, "dataset": "f"})
    return {"path": path, "images": folder / "flickr30k-images"}
