"""GLUE and second texts: columns, quotes, splits, and how two texts become one sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_trees import MRPC, glue, table

from flava_plugin import registry
from flava_plugin.components.torchtext_bert import TorchtextBert
from flava_plugin.data.tokenizer import fit_pair
from flava_plugin.data.transforms import prepare_plain
from flava_plugin.data.wordpiece import SPECIAL, WordPieceTokenizer
from flava_plugin.sections_data import ImageSection, TextSection
from flava_plugin.types import Sample

TASKS = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")


def build(path: Path, task: str, split: str = "train", **options: Any) -> Any:
    return registry.datasets.build("glue", path=path, task=task, split=split, **options)


def rows_of(dataset: Any) -> list[tuple[str | None, str | None, Any]]:
    samples = [dataset.read(n) for n in range(len(dataset))]
    return [(each.text, each.second_text, each.extra.get("label")) for each in samples]


QUOTED = '" so it begins'
EXPECTED: dict[str, list[tuple[str, str | None, Any]]] = {
    "cola": [("dev it works .", None, 1), (QUOTED, None, 0)],
    "sst2": [("dev fine", None, 1), (QUOTED, None, 0), ("dull", None, 0)],
    "mrpc": [("dev one", QUOTED, 1), ("a cat", "a dog", 0)],
    "qqp": [("who ?", "whom ?", 1), (QUOTED, "b", 0)],
    "stsb": [("dev a", "b", 2.5), (QUOTED, "d", 5.0)],
    "mnli": [("dev_matched premise", QUOTED, 2)],
    "qnli": [("why ?", QUOTED, 1)],
    "rte": [("it rains", "wet", 0)],
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_reads_its_columns(task: str, tmp_path: Path) -> None:
    dataset = build(glue(tmp_path), task, "dev")
    assert rows_of(dataset) == EXPECTED[task]
    assert isinstance(dataset.read(0).extra["label"], float if task == "stsb" else int)
    sizes = [len(f"{a}{b or ''}") for a, b, _ in EXPECTED[task]]
    assert dataset.text_sizes(np.arange(len(dataset))).tolist() == sizes
    assert dataset.fingerprint != build(tmp_path, task, "train").fingerprint or task in (
        *("qqp", "qnli", "rte"),
    )
    inner = {"sst2": "SST-2", "stsb": "STS-B", "cola": "CoLA"}.get(task, task.upper())
    assert rows_of(build(tmp_path / inner, task, "dev")) == EXPECTED[task]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    found = build(glue(tmp_path), "qqp").coverage
    assert found["dropped"] == {"broken line": 1} and "train.tsv:3" in str(found["examples"])


def test_splits_of_mnli_and_tests(tmp_path: Path) -> None:
    glue(tmp_path)
    assert rows_of(build(tmp_path, "mnli", "dev_mismatched"))[0][0] == "dev_mismatched premise"
    other = build(tmp_path, "mnli", "dev", mismatched=True)
    assert rows_of(other) == rows_of(build(tmp_path, "mnli", "dev_mismatched"))
    assert rows_of(build(tmp_path, "mnli", mismatched=True)) == rows_of(build(tmp_path, "mnli"))
    assert build(tmp_path, "mnli").class_names == ("entailment", "neutral", "contradiction")
    assert rows_of(build(tmp_path, "sst2", "test")) == [("unseen", None, None)]
    assert rows_of(build(tmp_path, "cola", "test")) == [("unseen", None, None)]
    with pytest.raises(ValueError, match="rte has no split 'dev_matched'"):
        build(tmp_path, "rte", "dev_matched")
    with pytest.raises(ValueError, match="rte has no mismatched sets"):
        build(tmp_path, "rte", "dev", mismatched=True)
    with pytest.raises(ValueError, match="RTE/test.tsv: no such file"):
        build(tmp_path, "rte", "test")


def test_mrpc_as_microsoft_publishes_it(tmp_path: Path) -> None:
    rows = [["1", "7", "8", "a", "b"], ["0", "9", "10", "c", "d"], ["1", "11", "12", "e", "f"]]
    whole = table(tmp_path / "MRPC" / "msr_paraphrase_train.txt", [MRPC, *rows], "\r\n")
    whole.write_bytes(b"\xef\xbb\xbf" + whole.read_bytes())
    table(tmp_path / "MRPC" / "msr_paraphrase_test.txt", [MRPC, rows[0]])
    train = build(tmp_path, "mrpc")
    assert len(train) == 3 and "GLUE's dev is part of it" in train.about
    with pytest.raises(ValueError, match="put GLUE's dev_ids.tsv beside it"):
        build(tmp_path, "mrpc", "dev")
    table(tmp_path / "MRPC" / "dev_ids.tsv", [["9", "10"]])
    assert rows_of(build(tmp_path, "mrpc", "dev")) == [("c", "d", 0)]
    assert len(build(tmp_path, "mrpc")) == 2 and not build(tmp_path, "mrpc").about
    assert rows_of(build(tmp_path, "mrpc", "test")) == [("a", "b", 1)]


def test_hugging_faces_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"premise": ["p", "q"], "hypothesis": ["h", "i"], "label": [2, 0], "idx": [0, 1]}
    (tmp_path / "mnli").mkdir()
    file = tmp_path / "mnli" / "validation_matched-00000-of-00001.parquet"
    parquet.write_table(arrow.table(rows), file)
    assert rows_of(build(tmp_path, "mnli", "dev")) == [("p", "h", 2), ("q", "i", 0)]


def test_labels_that_are_none(tmp_path: Path) -> None:
    rows = [["0", "a", "b", "entailed"]] * 11 + [["0", "a", "b", "entailment"]]
    table(tmp_path / "RTE" / "train.tsv", [["index", "sentence1", "sentence2", "label"], *rows])
    with pytest.raises(ValueError, match="11 of 12 lines are broken.*did you mean 'entailment'"):
        build(tmp_path, "rte")
    assert len(build(tmp_path, "rte", broken_lines=0.95)) == 1
    table(tmp_path / "RTE" / "dev.tsv", [["index", "sentence1", "sentence2", "label"]])
    with pytest.raises(ValueError, match="no row is left: it is empty"):
        build(tmp_path, "rte", "dev")
    table(tmp_path / "RTE" / "dev.tsv", [["index", "premise", "sentence2", "label"]])
    with pytest.raises(ValueError, match="no column 'sentence1'; its first row is index, premise"):
        build(tmp_path, "rte", "dev")


VOCAB = [*SPECIAL, *"abcdefg", "##x"]


def test_two_texts_are_one_sequence() -> None:
    tokenizer = WordPieceTokenizer(VOCAB, lowercase=True)
    a, b, x = VOCAB.index("a"), VOCAB.index("b"), VOCAB.index("##x")
    assert tokenizer.encode("a ax", 16, "b") == [2, a, a, x, 3, b, 3]
    assert tokenizer.words(tokenizer.encode("a ax", 16, "b")) == [-1, 0, 1, 1, -1, 2, -1]
    assert tokenizer.encode("a", 16, "") == [2, a, 3, 3]
    assert tokenizer.encode("a a a a a", 8, "b b b b b b") == [2, a, a, a, 3, b, b, 3]
    assert tokenizer.encode("a a a a a a a", 7, "b") == [2, a, a, a, 3, b, 3]
    assert tokenizer.encode("a", 3, "b") == [2, 3, 3]


def bert_pair(first: list[int], second: list[int], room: int) -> tuple[int, int]:
    """``_truncate_seq_pair`` of google-research/bert, word for word."""
    one, two = list(first), list(second)
    while len(one) + len(two) > room:
        if len(one) > len(two):
            one.pop()
        else:
            two.pop()
    return len(one), len(two)


def test_cutting_is_berts() -> None:
    for one in range(9):
        for two in range(9):
            for room in range(20):
                expected = bert_pair([0] * one, [0] * two, room)
                assert fit_pair([0] * one, [0] * two, room) == expected, (one, two, room)


def test_torchtexts_tokenizer_cuts_alike() -> None:
    exact = WordPieceTokenizer(VOCAB, lowercase=True)
    tokenizer = object.__new__(TorchtextBert)
    tokenizer._exact = exact
    tokenizer.cls_id, tokenizer.sep_id = exact.cls_id, exact.sep_id
    tokenizer._encoder = lambda text: exact.encode(text, 999)[1:-1]
    for length in range(3, 14):
        for pair in (("a a ax b", "c c c"), ("a", "a\u20e4 b \U0001f600 c c c"), ("a b", None)):
            assert tokenizer.encode(pair[0], length, pair[1]) == exact.encode(
                pair[0], length, pair[1]
            )


@pytest.mark.parametrize(("caption", "expected"), [(None, "a [SEP] b"), ("c", "c")])
def test_rows_have_both_texts(caption: str | None, expected: str) -> None:
    tokenizer = WordPieceTokenizer(VOCAB, lowercase=True)
    item = prepare_plain(
        Sample(text="a", second_text="b"),
        image=ImageSection(),
        text=TextSection(),
        tokenizer=tokenizer,
        modality="text",
        caption=caption,
    )
    assert item.text is not None
    assert " ".join(VOCAB[n] for n in item.text) == f"[CLS] {expected} [SEP]"


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_has_labels_and_both_texts(task: str, tmp_path: Path) -> None:
    import torch

    from flava_plugin.data.collate import collate, pixel_scale

    dataset = build(glue(tmp_path), task, "dev")
    tokenizer = registry.tokenizers.build("wordpiece")
    items = [
        prepare_plain(
            dataset.read(n),
            image=ImageSection(),
            text=TextSection(text_length=12),
            tokenizer=tokenizer,
            modality="text",
        )
        for n in range(len(dataset))
    ]
    scale = pixel_scale(ImageSection())
    batch = collate(items, "text", pad_id=tokenizer.pad_id, pixels=scale)
    assert batch.text is not None and batch.text.shape[1] <= 12
    ends = (batch.text == tokenizer.sep_id).sum(1).tolist()
    assert ends == [1 if task in ("cola", "sst2") else 2] * len(dataset)
    labels = batch.extra["label"]
    assert labels.dtype == (torch.float32 if task == "stsb" else torch.int64)
    assert labels.tolist() == [label for _, _, label in EXPECTED[task]]
