"""Text files: packing, what is dropped, and the places that are kept."""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flava_plugin import registry
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.wordpiece import WordPieceTokenizer, read_vocab, train_vocab

ROOM = 40


def build(**options: Any) -> Any:
    return registry.datasets.build("text_files", **options)


def texts_of(dataset: Any) -> list[str]:
    return [dataset.read_text(n) for n in range(len(dataset))]


def docstrings(count: int) -> list[str]:
    """Documentation of Python's own library: prose of every length, at hand everywhere."""
    found = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(file.read_text("utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node)
                if text:
                    found.append(" ".join(text.split()))
        if len(found) >= count:
            break
    return found[:count]


@pytest.fixture(scope="module")
def prose() -> list[str]:
    return docstrings(1500)


@pytest.fixture(scope="module")
def vocab(prose: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(train_vocab(prose, 3000)) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_packing_loses_nothing_and_fills_texts(
    kind: str, prose: list[str], vocab: Path, tmp_path: Path
) -> None:
    for part in range(3):
        write(tmp_path / f"{part}.{kind}", prose[part::3])
    dataset = build(path=tmp_path, tokens=ROOM, vocab=vocab)
    texts = texts_of(dataset)
    in_order = [text for part in range(3) for text in prose[part::3]]
    # a word too long for a text is cut inside
    assert "".join("".join(texts).split()) == "".join("".join(in_order).split())
    tokenizer = WordPieceTokenizer(read_vocab(vocab), lowercase=True)
    counts = [len(tokenizer.encode(text, 10_000)) for text in texts]
    assert max(counts) <= ROOM
    assert [n - 2 for n in counts] == dataset.packs.tokens.tolist()
    sizes = dataset.text_sizes(np.arange(len(dataset)))
    assert sizes.tolist() == [len(text.encode()) for text in texts]
    assert dataset.read(3).text == dataset.read_raw(3).text == texts[3]


def write(path: Path, texts: list[str]) -> None:
    if path.suffix == ".txt":
        path.write_text("".join(text + "\n" for text in texts), "utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="pip install '.[hf]'")
        import pyarrow.parquet as parquet

        parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=100)


def test_packed_prose_has_less_than_a_twentieth_of_padding(
    prose: list[str], vocab: Path, tmp_path: Path, record_property: Any
) -> None:
    write(tmp_path / "prose.txt", prose)
    shares = {}
    for how in ("off", "document", "full"):
        dataset = build(path=tmp_path, pack_as=how, tokens=512, vocab=vocab)
        shares[how] = padding(dataset, vocab)
        record_property(f"padding_{how}", round(shares[how], 4))
    uncut = build(path=tmp_path, tokens=512, vocab=vocab, slack=None)
    shares["whole sentences"] = padding(uncut, vocab)
    print(shares, file=sys.stderr)
    assert shares["full"] < 0.03 < shares["whole sentences"] < shares["off"]


def padding(dataset: Any, vocab: Path, rows: int = 8) -> float:
    """Share of padding in batches of some rows, each padded to its longest, in a mixed order."""
    tokenizer = WordPieceTokenizer(read_vocab(vocab), lowercase=True)
    order = np.random.default_rng(0).permutation(len(dataset))
    lengths = [len(tokenizer.encode(dataset.read_text(int(n)), 512)) for n in order]
    batches = [lengths[n : n + rows] for n in range(0, len(lengths) - rows + 1, rows)]
    return 1 - sum(map(sum, batches)) / sum(max(batch) * len(batch) for batch in batches)


def test_documents_stay_apart(tmp_path: Path, vocab: Path) -> None:
    text = "one a.\none b.\n\ntwo a.\ntwo b.\n\n\nthree.\n"
    (tmp_path / "a.txt").write_text(text, "utf-8")
    (tmp_path / "b.txt").write_text("four. Five.", "utf-8")

    def packed(**options: Any) -> list[str]:
        return texts_of(build(path=tmp_path, vocab=vocab, tokens=64, **options))

    assert packed() == ["one a. one b. two a. two b. three. four. Five."]
    blocks = packed(pack_as="document", documents="blocks")
    assert blocks == ["one a. one b.", "two a. two b.", "three.", "four. Five."]
    lines = [*text.split("\n"), "four. Five."]
    assert packed(pack_as="document") == packed(pack_as="off") == [line for line in lines if line]
    assert build(path=tmp_path, vocab=vocab).coverage["dropped"] == {"empty line": 3}


def test_a_sentence_that_is_too_long_is_cut_between_words(tmp_path: Path, vocab: Path) -> None:
    words = [f"word{n}" for n in range(300)]
    (tmp_path / "a.txt").write_text("Short. " + "  ".join(words) + ". End.\n", "utf-8")
    texts = texts_of(build(path=tmp_path, vocab=vocab, tokens=32))
    assert " ".join(texts).split() == ["Short.", *words[:-1], "word299.", "End."]
    assert len(texts) > 20
    (tmp_path / "a.txt").write_text("One. " + "-=" * 200 + "x Two. " + "한" * 90, "utf-8")
    dataset = build(path=tmp_path, vocab=vocab, tokens=16)
    said = "".join(" ".join(texts_of(dataset)).split())
    assert said == "One." + "-=" * 200 + "xTwo." + "한" * 90
    assert dataset.packs.tokens.max() <= 14


def test_broken_lines_are_passed_over_in_reading_as_in_packing(tmp_path: Path, vocab: Path) -> None:
    lines = [b"The first.", b"a caf\xe9", b"", b"The \0 second.", b"The third.", b"The fourth."]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    for tokens in (16, 64):
        dataset = build(path=tmp_path, vocab=vocab, tokens=tokens)
        assert " ".join(texts_of(dataset)) == "The first. The third. The fourth."
        counted = {"broken line": 1, "empty line": 1, "text is not UTF-8": 1}
        assert dataset.coverage["dropped"] == counted
    with pytest.raises(ValueError, match=r"broken_lines"):
        (tmp_path / "a.txt").write_bytes(b"caf\xe9\n" * 11 + b"fine\n")
        build(path=tmp_path, vocab=vocab)
    (tmp_path / "a.txt").write_bytes(b"\n\n")
    with pytest.raises(ValueError, match="holds no text"):
        build(path=tmp_path, vocab=vocab)


def test_a_compressed_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x1f\x8b\x08 and so on")
    with pytest.raises(ValueError, match=r"a.txt: is compressed.*gzip -d"):
        build(path=tmp_path)


def test_a_file_that_changes_under_a_run(tmp_path: Path, vocab: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The first line.\nThe second line.\n", "utf-8")
    dataset = build(path=path, vocab=vocab)
    path.write_text("Another first line.\nThe second line.\n", "utf-8")
    with pytest.raises(DamagedSampleError, match="has changed"):
        dataset.read(0)


def test_kept_places_serve_until_anything_changes(
    prose: list[str], vocab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "prose.txt", prose[:200])
    keep = tmp_path / "places.safetensors"
    options = {"path": tmp_path / "prose.txt", "vocab": vocab, "tokens": 64, "keep": str(keep)}
    first = build(**options)
    with monkeypatch.context() as patched:
        patched.setattr(WordPieceTokenizer, "encode", None)  # nobody counts tokens
        again = build(**options)
        assert again.fingerprint == first.fingerprint and texts_of(again) == texts_of(first)
        assert again.coverage == first.coverage
        with pytest.raises(TypeError):
            build(**options | {"tokens": 65})
    assert len(build(**options | {"tokens": 128})) < len(first)
    write(tmp_path / "prose.txt", prose[:100])
    assert len(build(**options)) < len(first)
    keep.write_bytes(keep.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"places.safetensors: holds no places.*delete it"):
        build(**options)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
