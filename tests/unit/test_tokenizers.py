"""WordPiece: encoding, vocabulary files, and training one from the command line."""

import pickle
from pathlib import Path

import pytest

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.wordpiece import SPECIAL, WordPieceTokenizer, read_vocab, train_vocab

VOCAB = [*SPECIAL, "play", "##ing", "##ed", "red", "circle", ",", "[", "]", "mask", "e"]


@pytest.fixture
def tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCAB, lowercase=True)


def test_encoding(tokenizer: WordPieceTokenizer) -> None:
    ids = tokenizer.encode("Playing, RED", 16)
    assert [VOCAB[i] for i in ids] == ["[CLS]", "play", "##ing", ",", "red", "[SEP]"]
    assert tokenizer.words(ids) == [-1, 0, 0, 1, 2, -1]
    assert tokenizer.decode(ids) == "playing, red"
    assert tokenizer.encode("playing, red", 4) == [2, 5, 6, 3]
    assert tokenizer.encode("", 4) == [2, 3]
    assert VOCAB[tokenizer.encode("é", 8)[1]] == "e"
    assert tokenizer.encode("zebra", 8)[1] == tokenizer.unk_id
    assert tokenizer.vocab_size == len(VOCAB)
    assert tokenizer.special_ids == {0, 1, 2, 3, 4}


def test_a_special_name_in_a_text_is_no_special_token(tokenizer: WordPieceTokenizer) -> None:
    ids = tokenizer.encode("[MASK] [SEP] [PAD]", 32)
    assert tokenizer.mask_id not in ids
    assert tokenizer.pad_id not in ids
    assert ids.count(tokenizer.sep_id) == 1


def test_words_of_odd_rows(tokenizer: WordPieceTokenizer) -> None:
    ing, play = VOCAB.index("##ing"), VOCAB.index("play")
    assert tokenizer.words([ing, ing, play]) == [0, 0, 1]
    assert tokenizer.words([tokenizer.cls_id, ing, tokenizer.sep_id, 0]) == [-1, 0, -1, -1]
    assert tokenizer.words([]) == []


def test_a_tokenizer_survives_pickling(tokenizer: WordPieceTokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("playing red", 9) == tokenizer.encode("playing red", 9)
    assert copy.words([5, 6]) == [0, 0]


def test_the_embedded_vocabulary_knows_every_word_of_the_embedded_data() -> None:
    tokenizer = registry.tokenizers.build("wordpiece")
    for name in ("shapes_pairs", "shapes_sentences", "shapes_questions", "shapes_entailment"):
        for options in ({}, {"variant": "grid", "split": "publish"}):
            dataset = registry.datasets.build(name, **options)
            for index in range(300):
                sample = dataset.read(index)
                for text in filter(None, (sample.text, sample.negative_text)):
                    ids = tokenizer.encode(text, 64)
                    assert tokenizer.unk_id not in ids, text
                    assert len(ids) == len(text.split()) + 2 <= 36
    images = registry.datasets.build("shapes_images")
    for template in images.templates:
        for name in images.class_names:
            assert tokenizer.unk_id not in tokenizer.encode(template.format(name), 64)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[PAD]\r\n[UNK]\r\n", r"vocab.txt:1: Windows line end"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"lacks \[MASK\]"),
        (b"", r"vocab.txt:1: empty line"),
        (b"[PAD]\n\n[UNK]\n", r"vocab.txt:2: empty line"),
        (b"[PAD]\na\na\n", r"vocab.txt:3: 'a' stands in line 2 already"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        registry.tokenizers.build("wordpiece", vocab=path)


TEXTS = ["the lower house", "the lowest house", "lower and lowest", "a new house"] * 5


def test_training_is_deterministic_and_covers_its_texts(tmp_path: Path) -> None:
    tokens = train_vocab(TEXTS, 60)
    for size in (30, 40, 60):
        first = train_vocab(TEXTS, size)
        assert all(train_vocab(TEXTS, size) == first for _ in range(4))
    assert tuple(tokens[:5]) == SPECIAL and len(tokens) <= 60
    small = train_vocab(TEXTS, 60, used_only=True)
    assert set(small) < set(tokens)
    whole, part = (WordPieceTokenizer(each, lowercase=True) for each in (tokens, small))
    for text in TEXTS:
        assert whole.decode(whole.encode(text, 64)) == text
        assert [tokens[i] for i in whole.encode(text, 64)] == [
            small[i] for i in part.encode(text, 64)
        ]
    with pytest.raises(ValueError, match="no room"):
        train_vocab(TEXTS, 8)
    with pytest.raises(ValueError, match="no text"):
        train_vocab(["", " "], 80)


def test_train_vocab_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, out = tmp_path / "a.txt", tmp_path / "vocab.txt"
    text.write_text("\n".join(TEXTS), encoding="utf-8")
    command = ["data", "train-vocab", str(text), "--size", "90", "--out", str(out)]
    assert main([*command, "--dataset", "shapes_sentences", "seed=3", "--texts", "50"]) == 0
    assert "tokens from 70 lines" in capsys.readouterr().out
    tokenizer = registry.tokenizers.build("wordpiece", vocab=out)
    assert tokenizer.vocab_size == len(read_vocab(out)) <= 90


def test_train_vocab_reads_folders_and_captions(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("alpha alpha\n", encoding="utf-8")
    rows = tmp_path / "captions.jsonl"
    rows.write_text('{"text": "beta beta"}\n\n{"text": ["gamma", "gamma"]}\n', encoding="utf-8")
    out = tmp_path / "vocab"
    command = ["data", "train-vocab", str(tmp_path), str(rows), "--size", "90", "--out", str(out)]
    assert main([*command, "--caption-key", "text"]) == 0
    assert {"alpha", "beta", "gamma"} <= set(read_vocab(out))
    assert main(command) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "name text files"),
        (["missing.txt"], 2, "missing.txt"),
        (["--dataset", "shape_sentences"], 2, "did you mean 'shapes_sentences'"),
        (["--dataset", "shapes_sentences", "sed=1"], 2, "sed"),
        (["--dataset", "shapes_sentences", "seed"], 2, "no key=value"),
        (["--dataset", "shapes_images"], 1, "no text"),
    ],
)
def test_train_vocab_refuses(
    words: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "v.txt")
    assert (
        main(["data", "train-vocab", "--size", "90", "--texts", "5", "--out", out, *words]) == code
    )
    assert told in capsys.readouterr().err
    assert not Path(out).exists()
