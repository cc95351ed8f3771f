"""Entries are found as MetaCLIP finds them, and balanced as its Algorithm 1 does."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from flava_plugin.data.curation.balance import balance, threshold_of_tail
from flava_plugin.data.curation.facts import hash_of
from flava_plugin.data.curation.matches import Matching
from flava_plugin.data.curation.part_files import PartFiles
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.curation.phrases import Phrases, read_entries, spaced
from flava_plugin.data.curation.sections import BalanceStep
from flava_plugin.data.curation.table import Table
from flava_plugin.data.randomness import key_of, mix, uniform
from flava_plugin.data.shards.manifest import ShardEntry, gather

WORDS = ["a", "dog", "Dog", "cat", "fire", "engine", "of", "New", "York", "hot", "x,", "b.", ""]


def literal_matches(text: str, entries: list[str]) -> list[int]:
    """The paper's code says: is ' entry ' in the spaced text?"""
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        text = text.replace(mark, f" {mark} ")
    for mark in ["\t", "\n", "\r"]:
        text = text.replace(mark, " ")
    return [n for n, entry in enumerate(entries) if f" {entry} " in f" {text} "]


def test_matches_are_those_of_the_literal_search() -> None:
    dice = random.Random(1)
    entries = list({" ".join(dice.choices(WORDS[:-1], k=dice.randint(1, 3))) for _ in range(200)})
    phrases = Phrases(entries)
    matched = 0
    for _ in range(2000):
        text = dice.choice([" ", "  ", "\t"]).join(dice.choices(WORDS, k=dice.randint(0, 9)))
        found = phrases.found_in(text)
        assert found == literal_matches(text, entries), text
        matched += bool(found)
    assert matched > 1000


def test_case_and_marks() -> None:
    phrases = Phrases(["dog", "fire engine", "St. Louis"])
    assert phrases.found_in("A Dog, a fire engine.") == [1]
    assert phrases.found_in("hot dogs; dog") == [0]
    assert Phrases(["dog"], ignore_case=True).found_in("A DOG!") == [0]
    assert phrases.found_in("St. Louis") == []
    assert phrases.unreachable() == 1
    assert spaced("a,b") == " a , b "


def made_up(folder: Path, texts: list[str], entries: list[str]) -> tuple[Table, Matching]:
    """Tables of captions in parts of 100, as a scan leaves them."""
    blocks = [texts[n : n + 100] for n in range(0, len(texts), 100)]
    lines = [
        ShardEntry(f"{n:03d}.tar", len(block), 0, bytes([n] * 16), bytes(16))
        for n, block in enumerate(blocks)
    ]
    manifest = gather(lines, kind="pair", caption_key="", faults={})
    parts = Parts([None] * len(texts), manifest)  # type: ignore[arg-type]
    scanned = PartFiles(folder, "scan", "")
    for n, block in enumerate(blocks):
        names = [f"{n} {row}".encode() for row in range(len(block))]
        encoded = [text.encode() for text in block]
        columns = {
            "key": np.array(list(map(hash_of, names)), np.uint64),
            "text": np.array(list(map(hash_of, encoded)), np.uint64),
            "picture": np.zeros(len(block), np.uint64),
            "texts": np.frombuffer(b"".join(encoded), np.uint8),
            "text_ends": np.cumsum(list(map(len, encoded)), dtype=np.uint32),
        }
        scanned.write(n, parts.content(n), columns)
    matching = Matching(parts, scanned, folder, Phrases(entries))
    for n in matching.todo():
        matching.do(n)
    assert not matching.todo()
    return Table(parts, scanned, {}), matching


def algorithm_1(
    texts: list[str], entries: list[str], kept: np.ndarray, t: int, table: Table, seed: int
) -> list[int]:
    """The paper's pseudo-code, line by line, with the same random numbers."""
    D = [n for n in range(len(texts)) if kept[n]]  # noqa: N806 - the paper's names
    M = entries  # noqa: N806
    matched_entry_ids = {n: literal_matches(texts[n], M) for n in D}
    entry_count = [0] * len(M)
    for n in D:
        for entry_id in matched_entry_ids[n]:
            entry_count[entry_id] += 1
    entry_prob = [t / max(count, t) for count in entry_count]
    D_star = []  # noqa: N806
    for n in D:
        for entry_id in matched_entry_ids[n]:
            identity = np.uint64(0)
            for name in ("key", "text", "picture"):
                identity = mix(np.array([identity ^ table.column(name)[n]]))[0]
            counter = np.array([identity ^ Phrases(M).marks()[entry_id]])
            if uniform(key_of(seed, "balance")[0], counter)[0] < entry_prob[entry_id]:
                D_star.append(n)
                break
    return D_star


def test_balancing_is_algorithm_1(tmp_path: Path) -> None:
    dice = random.Random(2)
    entries = ["dog", "cat", "fire engine", "New York", "zebra", "hot"]
    weights = [30, 9, 14, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1]
    texts = [" ".join(dice.choices(WORDS, weights, k=5)) for _ in range(950)]
    kept = np.array([dice.random() < 0.9 for _ in texts])
    table, matching = made_up(tmp_path, texts, entries)
    step = BalanceStep(type="balance", metadata=Path("x"), threshold=40)
    left, report = balance(table, kept, step, matching, seed=7)
    expected = algorithm_1(texts, entries, kept, 40, table, 7)
    assert np.flatnonzero(left).tolist() == expected
    assert 50 < len(expected) < 400
    assert report["most"]["dog"] > 300
    assert report["entries_head"] >= 1
    assert report["entries_matched"] < len(entries)
    other, _ = balance(table, kept, step, matching, seed=8)
    assert (other != left).any()


def test_how_many_stay_is_what_the_chances_say(tmp_path: Path) -> None:
    texts = ["dog"] * 3000 + ["dog cat"] * 400 + ["nothing here"] * 50 + ["cat"] * 100
    table, matching = made_up(tmp_path, texts, ["dog", "cat"])
    step = BalanceStep(type="balance", metadata=Path("x"), threshold=340)
    left, report = balance(table, np.ones(len(texts), bool), step, matching, seed=0)
    dog, cat = 340 / 3400, 340 / 500
    expected = 3000 * dog + 400 * (1 - (1 - dog) * (1 - cat)) + 100 * cat
    spread = (3000 * dog * (1 - dog) + 500 * 0.25) ** 0.5
    assert abs(int(left.sum()) - expected) < 4 * spread
    assert not left[3400:3450].any()
    assert report["unmatched"] == 50
    keep = step.model_copy(update={"unmatched": "keep"})
    again, _ = balance(table, np.ones(len(texts), bool), keep, matching, seed=0)
    assert again[3400:3450].all()
    assert int(again.sum()) == int(left.sum()) + 50


def test_an_entry_more_changes_nothing_for_the_others(tmp_path: Path) -> None:
    texts = ["dog"] * 500
    table, matching = made_up(tmp_path, texts, ["dog"])
    _, more = made_up(tmp_path, texts, ["aardvark", "dog"])
    step = BalanceStep(type="balance", metadata=Path("x"), threshold=50)
    every = np.ones(len(texts), bool)
    first, _ = balance(table, every, step, matching, 0)
    second, _ = balance(table, every, step, more, 0)
    assert first.any()
    assert (first == second).all()


def test_threshold_of_a_tail() -> None:
    counts = np.array([1] * 10 + [5] * 4 + [70, 0, 0])  # shares of 100 matches: 0.1, 0.2, 0.7
    assert threshold_of_tail(counts, 0.09) == 1
    assert threshold_of_tail(counts, 0.1) == 5
    assert threshold_of_tail(counts, 0.3) == 70
    assert threshold_of_tail(np.zeros(3, np.int64), 0.3) == 1


def test_lists_of_entries(tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    path.write_bytes(b"\xef\xbb\xbfdog\r\n\n  cat \ndog\n")
    assert read_entries(path) == (["dog", "cat"], {"empty": 1, "repeated": 1})
    listed = tmp_path / "entries.json"
    listed.write_text(json.dumps(["dog", "hot dog"]))
    assert read_entries(listed)[0] == ["dog", "hot dog"]
    for content, named in [
        (b"", "no entry"),
        (b" \n\n", "no entry"),
        (b"\xff\xfe", "no list"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=named):
            read_entries(path)
    for text in ('{"a": 1}', "[1]", "["):
        listed.write_text(text)
        with pytest.raises(ValueError, match="entries.json"):
            read_entries(listed)
    with pytest.raises(ValueError, match="No such file"):
        read_entries(tmp_path / "none.txt")
