"""Near-duplicates of real photographs are found, different ones are not, and no pair is missed."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from flava_plugin.data.curation import near_duplicates, perceptual
from flava_plugin.data.curation.duplicates import group_report, one_of_each
from flava_plugin.data.curation.facts import facts_of, hash_of, key_of_name
from flava_plugin.data.curation.near_duplicates import drop_near, groups_of, masks
from flava_plugin.data.curation.perceptual import differing_bits, perceptual_hash
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Sample

# Textures and stereo pairs aside: those are near-duplicates in truth, or have no large shapes.
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "moon", "retina")
PHOTOGRAPHS += ("hubble_deep_field", "horse", "page", "clock_motion")


def photographs() -> dict[str, Image.Image]:
    data = pytest.importorskip("skimage.data")
    folder = Path(data.__file__).parent
    found = {path.stem: path for path in [*folder.glob("*.png"), *folder.glob("*.jpg")]}
    named = {name: found[name] for name in PHOTOGRAPHS if name in found}
    assert len(named) > 7
    return {name: Image.open(path).convert("RGB") for name, path in named.items()}


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 100, height // 100, width - width // 100, height - height // 100))


def seen(content: bytes) -> int:
    return facts_of(RawSample(content, "jpg", name="x"), "x").perceptual


def test_what_is_near_and_what_is_not() -> None:
    pictures = photographs()
    hashes = {name: perceptual_hash(picture) for name, picture in pictures.items()}
    for one, other in combinations(hashes.values(), 2):
        assert (one ^ other).bit_count() >= 16
    for name, picture in pictures.items():
        variants = {
            "file": encoded(picture),
            "half": encoded(picture.resize((picture.width // 2, picture.height // 2))),
            "square": encoded(picture.resize((256, 256))),
            "quality 40": encoded(picture, 40),
            "darker": encoded(ImageEnhance.Brightness(picture).enhance(0.85)),
            "lighter": encoded(ImageEnhance.Brightness(picture).enhance(1.1)),
            "cropped 2 %": encoded(cropped(picture)),
        }
        for change, content in variants.items():
            distance = (seen(content) ^ hashes[name]).bit_count()
            assert distance <= (6 if change == "cropped 2 %" else 4), (name, change, distance)


def test_groups_of_photographs() -> None:
    pictures = photographs()
    hashes, names = [], []
    for name, picture in pictures.items():
        for content in (encoded(picture), encoded(cropped(picture)), encoded(picture, 50)):
            hashes.append(seen(content))
            names.append(name)
    groups = groups_of(np.array(hashes, np.uint64), 6)
    for (one, first), (other, second) in combinations(zip(names, groups, strict=True), 2):
        assert (one == other) == (first == second), (one, other)


def test_a_plain_picture_and_the_two_ways_of_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    for colour in ("white", "black", (12, 200, 90)):
        assert perceptual_hash(Image.new("RGB", (300, 200), colour)) == 0
    words = np.random.default_rng(0).integers(0, 2**64, (2, 5000), np.uint64, endpoint=False)
    expected = [(a ^ b).bit_count() for a, b in zip(*words.tolist(), strict=True)]
    assert differing_bits(*words).tolist() == expected
    if hasattr(np, "bitwise_count"):
        monkeypatch.delattr(np, "bitwise_count")
    assert differing_bits(*words).tolist() == expected
    assert perceptual.SIDE == 32


def brute_force(hashes: np.ndarray, distance: int) -> list[int]:
    groups = list(range(len(hashes)))

    def root(n: int) -> int:
        while groups[n] != n:
            n = groups[n]
        return n

    for one in range(len(hashes)):
        for other in np.flatnonzero(differing_bits(hashes, hashes[one : one + 1]) <= distance):
            low, high = sorted((root(one), root(int(other))))
            groups[high] = low
    return [root(n) for n in range(len(hashes))]


@pytest.mark.parametrize("distance", [0, 1, 2, 4, 6, 8])
def test_blocks_find_what_brute_force_finds(distance: int) -> None:
    dice = np.random.default_rng(distance)
    hashes = dice.integers(0, 2**64, 1500, np.uint64, endpoint=False)
    for copies in range(500, 1500):  # most are some bits away from an earlier one
        origin = hashes[dice.integers(0, copies)]
        for bit in dice.integers(0, 64, dice.integers(0, 2 * distance + 2)).tolist():
            origin ^= np.uint64(1 << bit)
        hashes[copies] = origin
    found = groups_of(hashes, distance)
    expected = brute_force(hashes, distance)
    firsts: dict[int, int] = {}
    for n, group in enumerate(found.tolist()):
        firsts.setdefault(group, n)
    assert [firsts[group] for group in found.tolist()] == expected
    assert distance == 0 or len(set(expected)) < 1300


def test_every_choice_of_blocks_covers_all_pairs_at_ten_million() -> None:
    dice = np.random.default_rng(0)
    for distance in range(1, 9):
        chosen = list(masks(10_000_000, distance))
        for _ in range(300):
            bits = dice.permutation(64)[:distance]
            apart = np.uint64(sum(1 << int(bit) for bit in bits))
            assert any(not (mask & apart) for mask in chosen)
        assert distance > 6 or len(chosen) < 100


def test_pairs_are_joined_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.array([0, 1, 3, 7, 15, 31, 63, 3 << 40], np.uint64)
    whole = groups_of(hashes, 1)
    monkeypatch.setattr(near_duplicates, "_AT_ONCE", 1)
    assert groups_of(hashes, 1).tolist() == whole.tolist() == [0, 0, 0, 0, 0, 0, 0, 7]


def test_which_one_stays() -> None:
    labels = np.array([5, 5, 5, 2, 2, 9])
    chosen, sizes = one_of_each(labels, None)
    assert chosen.tolist() == [True, False, False, True, False, True]
    assert sorted(sizes.tolist()) == [1, 2, 3]
    values = np.array([1, 3, 3, np.nan, -5, np.nan], np.float32)
    assert one_of_each(labels, values)[0].tolist() == [False, True, False, False, True, True]
    assert group_report(sizes) == {"groups": 2, "in_groups": 5, "largest_group": 3}
    none, sizes = one_of_each(np.zeros(0, np.int64), None)
    assert not len(none)
    assert group_report(sizes)["largest_group"] == 0


def test_without_hash_all_stay() -> None:
    hashes = np.zeros(4, np.uint64)
    kept = np.array([True, True, True, False])
    left, report = drop_near(kept, hashes, np.array([True, True, False, True]), 2, None)
    assert left.tolist() == [True, False, True, False]
    assert report["in_groups"] == 2


def test_facts() -> None:
    raw = RawSample(encoded(Image.new("RGB", (300, 200))), "jpg", "A  Dog à la mode", name="x")
    facts = facts_of(raw, "k")
    assert (facts.width, facts.height, facts.words, facts.chars) == (300, 200, 5, 16)
    assert facts.ascii == pytest.approx(10 / 11)
    assert facts.key == hash_of(b"k")
    assert facts.text == facts_of(Sample(text="a dog à LA mode "), "").text
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 200)).save(turned, "JPEG", exif=exif)
    assert facts_of(RawSample(turned.getvalue(), "jpg"), "")[4:6] == (200, 300)
    assert facts_of(raw, "k", pictures=False).width == 0
    decoded = facts_of(Sample(image=Image.new("RGB", (300, 200))), "k")
    assert (decoded.width, decoded.words) == (300, 0)
    with pytest.raises(DamagedSampleError):
        facts_of(Sample(), "")
    with pytest.raises(DamagedSampleError, match="broken picture"):
        facts_of(RawSample(b"\xff\xd8\xff no picture", "jpg"), "")
    assert key_of_name("00000.tar:some/000000123.seg.jpg") == "000000123"
    assert key_of_name("photos/cat.jpg") == "cat"
