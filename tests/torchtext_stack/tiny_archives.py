"""Archives of torchtext's datasets with a few rows, as the published ones are laid out."""

from __future__ import annotations

import hashlib
import importlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

# Name of the archive, and the lines of its members; a member without a name is the file itself.
CONTENT: dict[str, tuple[str, dict[str, list[str]]]] = {
    "sst2": (
        "SST-2.zip",
        {
            "SST-2/train.tsv": ["sentence\tlabel", "a fine film \t1", "dull \t0"],
            "SST-2/dev.tsv": ["sentence\tlabel", "so so \t0"],
            "SST-2/test.tsv": ["index\tsentence", "0\tunseen words ."],
        },
    ),
    "cola": (
        "cola_public_1.1.zip",
        {
            "cola_public/raw/in_domain_train.tsv": [
                "gj04\t1\t\tLost, as torchtext takes the first for a header.",
                'gj04\t0\t*\t"Quoted he said.',
                "gj04\t1\t\tFine.",
            ],
        },
    ),
    "stsb": (
        "Stsbenchmark.tar.gz",
        {
            "stsbenchmark/sts-dev.csv": [
                'main-news\tMSRvid\t2012\t0001\t2.500\tA "man walks.\tA man is walking.'
            ]
        },
    ),
    "mnli": (
        "multinli_1.0.zip",
        {
            "multinli_1.0/multinli_1.0_dev_matched.txt": [
                "gold_label\tb1\tb2\tp1\tp2\tsentence1\tsentence2",
                "contradiction\tx\tx\tx\tx\tIt rains.\tIt is dry.",
                "-\tx\tx\tx\tx\tNobody agreed.\tLeft out.",
                "neutral\tx\tx\tx\tx\tIt rains.\tIt is cold.",
            ]
        },
    ),
    "qnli": (
        "QNLIv2.zip",
        {
            "QNLI/dev.tsv": [
                "index\tquestion\tsentence\tlabel",
                "0\tWho?\tShe did.\tentailment",
                "1\tWhy?\tShe did.\tnot_entailment",
            ]
        },
    ),
    "rte": (
        "RTE.zip",
        {
            "RTE/train.tsv": ["index\tsentence1\tsentence2\tlabel"]
            + [
                f"{n}\tWord{n % 7} of line {n}.\tLine {n * n}.\t{'not_' * (n % 2)}entailment"
                for n in range(40)
            ],
            "RTE/test.tsv": ["index\tsentence1\tsentence2", "0\tOne.\tTwo."],
        },
    ),
    "mrpc": (
        "msr_paraphrase_test.txt",
        {"": ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t7\t8\tHe "left.\tHe went.']},
    ),
    "qqp": (
        "quora_duplicate_questions.tsv",
        {"": ["id\tqid1\tqid2\tq1\tq2\tis_duplicate", '0\t1\t2\t"What ""is"" it?"\tWhat?\t0']},
    ),
    "ag_news": ("test.csv", {"": ['"3","Stocks up","They rose."', '"1","World","News."']}),
}
FOLDERS = {"sst2": "SST2", "cola": "CoLA", "ag_news": "AG_NEWS"}


def packed(task: str) -> bytes:
    """The bytes of a task's archive."""
    name, members = CONTENT[task]
    if "" in members:
        return ("\n".join(members[""]) + "\n").encode()
    target = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(target, "w") as archive:
            for member, lines in members.items():
                archive.writestr(member, "\n".join(lines) + "\n")
    else:
        with tarfile.open(fileobj=target, mode="w:gz") as archive:
            for member, lines in members.items():
                content = ("\n".join(lines) + "\n").encode()
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def expect(task: str, content: bytes, monkeypatch: pytest.MonkeyPatch, rows: int | None) -> None:
    """Let torchtext expect this archive in place of the published one, and so many rows."""
    module = importlib.import_module(f"torchtext.datasets.{task}")
    md5 = hashlib.md5(content).hexdigest()
    several = isinstance(module.MD5, dict)
    monkeypatch.setattr(module, "MD5", dict.fromkeys(module.MD5, md5) if several else md5)
    if rows is not None:
        monkeypatch.setattr(module, "NUM_LINES", dict.fromkeys(module.NUM_LINES, rows))


def place(task: str, root: Path, monkeypatch: pytest.MonkeyPatch, rows: int | None = None) -> Path:
    """Write a task's archive where torchtext looks for it, and let it pass its check."""
    content = packed(task)
    expect(task, content, monkeypatch, rows)
    file = root / "datasets" / FOLDERS.get(task, task.upper()) / CONTENT[task][0]
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file
