"""The ids of torchtext's tokenizer are those of ``tokenizers``, whatever the text."""

from __future__ import annotations

import pickle
import random
import unicodedata
from pathlib import Path

import pytest

from flava_plugin import registry
from flava_plugin.components.torchtext_bert import TorchtextBert, reads_alike
from flava_plugin.data.wordpiece import SPECIAL, WordPieceTokenizer, train_vocab

pytestmark = pytest.mark.torchtext
LONG = 10_000


class Two:
    """Both tokenizers over one vocabulary."""

    def __init__(self, tokens: list[str], *, lowercase: bool) -> None:
        self.tokens = tokens
        self.ours = WordPieceTokenizer(tokens, lowercase=lowercase)
        self.theirs = TorchtextBert(tokens, lowercase)

    def differ(self, texts: list[str]) -> list[str]:
        return [
            text for text in texts if self.theirs.encode(text, LONG) != self.ours.encode(text, LONG)
        ]

    def raw(self, text: str) -> list[int]:
        """What torchtext says without our help."""
        return [int(number) for number in self.theirs._encoder(text)]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def trained(request: pytest.FixtureRequest, source_lines: list[str]) -> Two:
    vocab = train_vocab(source_lines[:6000], 4000, lowercase=request.param)
    return Two(vocab, lowercase=request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def every_letter(request: pytest.FixtureRequest) -> Two:
    """A vocabulary of single characters: no word is [UNK], so nothing hides a difference."""
    kinds = {"C", "Z"}
    found = {c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] not in kinds}
    tokens = [*SPECIAL, *sorted(found), *(f"##{c}" for c in sorted(found))]
    return Two(tokens, lowercase=request.param)


def test_20_000_lines(trained: Two, source_lines: list[str]) -> None:
    lines = source_lines[:20_000]
    assert len(lines) == 20_000 and len(set(lines)) > 15_000
    assert trained.differ(lines) == []
    known = [t for line in lines[:500] for t in trained.ours.encode(line, LONG)[1:-1]]
    assert known.count(trained.ours.unk_id) < len(known) / 20  # else they would agree in nothing
    # and it is torchtext that read them
    assert sum(map(reads_alike, lines)) > 0.99 * len(lines)
    assert all(trained.raw(line) == trained.ours.encode(line, LONG)[1:-1] for line in lines[:500])


def test_texts_by_chance(every_letter: Two) -> None:
    chance = random.Random(5)
    settled = [c for c in map(chr, range(1, 0x20000)) if reads_alike(f"é{c}")]
    assert len(settled) > 40_000
    pools = (
        settled,
        [chr(n) for n in range(0x530)],
        [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000],
        list("aZé中ж가 #[]\0\u0301\u200b.") + ["[MASK]", "\r\n"],
    )
    texts = [
        "".join(chance.choice(pool) for _ in range(chance.choice((1, 4, 12, 60, 120))))
        for pool in pools
        for _ in range(1500)
    ]
    assert every_letter.differ(texts) == []
    assert sum(map(reads_alike, texts)) > 1500


def test_every_character_that_is_left_to_torchtext(every_letter: Two) -> None:
    """Both tables agree on it, between letters; and lower-casing never makes it longer."""
    settled = [c for c in map(chr, range(1, 0x20000)) if reads_alike(f"é{c}")]
    wrong = [
        hex(ord(c))
        for c in settled
        if every_letter.raw(f"a{c}b") != every_letter.ours.encode(f"a{c}b", LONG)[1:-1]
    ]
    assert wrong == []
    for c in settled:
        apart = unicodedata.normalize("NFD", c)
        assert len(apart.lower().encode()) <= len(apart.encode()) or c == "\u0130", hex(ord(c))


@pytest.mark.parametrize(
    "text",
    [
        "before\0after \0 end",
        "a photo \N{GRINNING FACE} of a cat\N{VARIATION SELECTOR-16}",
        "\u2028line\u2029",
        "é" * 60,
        "\N{OHM SIGN}" * 34,
        "가" * 20,
        "ж" * 100 + " " + "ж" * 101 + " " + "z" * 101,
        "[MASK] [SEP] [CLS][PAD] [UNK] ##ing",
        "\ufeffa\u200bb\xad c\x85d\x1ce",
        "",
        " \t\n",
    ],
)
def test_texts_that_part_the_two_libraries(every_letter: Two, text: str) -> None:
    assert every_letter.differ([text]) == []


def test_torchtext_alone_would_differ(every_letter: Two) -> None:
    """What ``reads_alike`` guards against is there."""
    lowercase = every_letter.ours.encode("Ab", LONG) == every_letter.ours.encode("ab", LONG)
    texts = ("before\0after", "ж" * 60) if lowercase else ("é" * 60, "\N{OHM SIGN}" * 34)
    for text in (*texts, "a\u0378b"):
        assert every_letter.raw(text) != every_letter.ours.encode(text, LONG)[1:-1], ascii(text)


def test_the_protocol(trained: Two) -> None:
    ours, theirs = trained.ours, trained.theirs
    for name in ("pad_id", "unk_id", "cls_id", "sep_id", "mask_id", "special_ids", "vocab_size"):
        assert getattr(theirs, name) == getattr(ours, name), name
    text = "def encode(self, text): return unbelievably long words"
    ids = theirs.encode(text, 12)
    assert ids == ours.encode(text, 12) and len(ids) == 12
    assert theirs.encode(text, 2) == [ours.cls_id, ours.sep_id]
    assert theirs.words(ids) == ours.words(ids)
    assert theirs.decode(ids) == ours.decode(ids)
    copy = pickle.loads(pickle.dumps(theirs))
    assert copy.encode(text, 64) == ours.encode(text, 64)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\na\r\n", "Windows line end"),
        (b"[PAD]\n[CLS]\n[SEP]\n[MASK]\na\n", r"lacks \[UNK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n\na\n", "empty line"),
    ],
)
def test_vocabularies_that_torchtext_would_misread(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        registry.tokenizers.build("torchtext_bert", vocab=path)


def test_tokens_that_hold_blanks_keep_the_ids_of_others(tmp_path: Path) -> None:
    tokens = [*SPECIAL, "a b", "c\xa0", "\u2028", "red", " d", "é"]
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join(tokens).encode())
    built = registry.tokenizers.build("torchtext_bert", vocab=path, lowercase=False)
    assert built.encode("red é d", 9) == [2, tokens.index("red"), tokens.index("é"), 1, 3]
