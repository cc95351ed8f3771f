"""What decoders make of good, odd and damaged files."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from jpeg_photographs import NAMES, as_jpeg, photograph
from PIL import Image

from flava_plugin.data import look, torchvision_jpeg
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.decoding import decode, plain_jpeg
from flava_plugin.data.look import Look
from flava_plugin.data.reading import attempt, read
from flava_plugin.data.torchvision_jpeg import decode_by_torchvision
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Key, Sample

KEY = Key("s", 0, 0)
DECODERS = ("torchvision", "pil", "draft")
PHOTO = as_jpeg(photograph("coffee.png", 320, 240))


class Files:
    def __init__(self, *files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def read(self, index, /):
        return Sample(Image.open(BytesIO(self.files[index])), "a caption")


def views(file, decoder="torchvision", **options):
    section = ImageSection(decoder=decoder, **{"size": 96, "codebook_size": 48, **options})
    return Look(section, KEY, 0, with_codebook=True).at(Image.open(BytesIO(file)))


def verdict(file, decoder):
    """The encoder's picture, or the reason why there is none."""
    section = ImageSection(size=96, codebook_size=48, decoder=decoder)
    sample, fault = attempt(Files(file), "s", 0, "pair", Look(section, KEY, 0, True))
    return sample.views[0] if fault is None else fault.reason


def saved(picture, kind, **options):
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return as_jpeg(photograph("coffee.png", 320, 240), exif=exif)


def odd_files():
    photo = photograph("coffee.png", 320, 240)
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    see_through = photo.copy()
    see_through.putalpha(photo.convert("L"))
    return {
        "cmyk": as_jpeg(photo.convert("CMYK"), subsampling=-1),
        "grey": as_jpeg(photo.convert("L"), subsampling=-1),
        "progressive": as_jpeg(photo, progressive=True),
        "4:4:4": as_jpeg(photo, subsampling="4:4:4"),
        "restart": as_jpeg(photo, restart_marker_blocks=3),
        **{f"turned {value}": turned(value) for value in range(2, 9)},
        "palette": saved(photo.quantize(64), "PNG"),
        "alpha": saved(see_through, "PNG"),
        "deep": saved(Image.fromarray(deep), "PNG"),
        "webp": saved(photo, "WEBP"),
        "gif": saved(photo, "GIF"),
        "tiff": saved(photo, "TIFF"),
        "bits": saved(photo.convert("1"), "PNG"),
    }


ODD = odd_files()


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("decoder", ["torchvision", "draft"])
def test_odd_files_look_the_same_through_every_decoder(kind, decoder):
    for got, wanted in zip(views(ODD[kind], decoder), views(ODD[kind], "pil"), strict=True):
        assert np.array_equal(got, wanted)
    whole = decode(Image.open(BytesIO(ODD[kind])))
    exact = whole.crop(look.choose_box(*whole.size, (0.9, 1.0), look.generator(0, "crop", KEY)))
    exact = exact.resize((96, 96), Image.Resampling.BICUBIC)
    got = views(ODD[kind], decoder)[0].transpose(1, 2, 0)
    assert np.abs(got.astype(int) - np.asarray(exact)).mean() < 0.05


def test_torchvision_decodes_what_is_plain_and_only_that(monkeypatch):
    seen = []
    monkeypatch.setattr(look, "decode_by_torchvision", lambda *given: seen.append(given[1]) or None)
    for kind in ("cmyk", "grey", "turned 6", "webp", "palette"):
        views(ODD[kind])
    views(PHOTO, "pil")
    assert not seen
    views(ODD["progressive"])
    views(PHOTO)
    assert seen == [(320, 240)] * 2
    loaded = Image.open(BytesIO(PHOTO))
    loaded.load()
    assert plain_jpeg(loaded) is None


def test_torchvision_without_jpeg_leaves_it_to_pil(monkeypatch):
    wanted = views(PHOTO)

    def unbuilt(*_):
        raise RuntimeError("decode_jpeg: torchvision not compiled with libjpeg support")

    monkeypatch.setattr(torchvision_jpeg, "decode_jpeg", unbuilt)
    assert all(np.array_equal(a, b) for a, b in zip(views(PHOTO), wanted, strict=True))


def test_a_lazy_picture_can_be_looked_at_again_and_shown():
    for decoder in DECODERS:
        picture = Image.open(BytesIO(as_jpeg(photograph("coffee.png", 800, 600))))
        section = ImageSection(size=96, codebook_size=48, decoder=decoder)
        first, second = (Look(section, KEY, 0, True).at(picture) for _ in range(2))
        assert picture.size == decode(picture).size == (800, 600)
        limit = 2 if decoder == "draft" else 0  # decoded by now, and so no draft any more
        assert np.abs(first[0].astype(int) - second[0]).mean() <= limit


@pytest.mark.parametrize("decoder", DECODERS)
def test_pictures_beyond_max_pixels_are_bad(decoder):
    section = ImageSection(size=96, decoder=decoder, max_pixels=320 * 240 - 1)
    _, fault = attempt(Files(PHOTO), "s", 0, "pair", Look(section, KEY, 0, False))
    assert fault.reason == "decompression bomb"
    assert "320 x 240 pixels, more than data.image.max_pixels: 76799" in fault.detail
    section = ImageSection(size=96, decoder=decoder, max_pixels=320 * 240)
    assert attempt(Files(PHOTO), "s", 0, "pair", Look(section, KEY, 0, False))[1] is None


def test_max_pixels_may_allow_what_pil_warns_of(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    plain = attempt(Files(PHOTO), "s", 0, "pair")[1]
    assert plain.reason == "decompression bomb"
    section = ImageSection(size=96, max_pixels=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attempt(Files(PHOTO), "s", 0, "pair", Look(section, KEY, 0, False))[1] is None
    assert Image.MAX_IMAGE_PIXELS == 60_000
    with pytest.raises(ValueError, match="max_pixels"):
        ImageSection(max_pixels=200_000_000)


def test_a_disk_that_fails_is_no_broken_picture():
    class Torn(BytesIO):
        whole = True

        def read(self, *given):
            if not self.whole:
                raise OSError(5, "Input/output error")
            return super().read(*given)

    class Failing(Files):
        def read(self, index, /):
            file = Torn(self.files[index])
            picture = Image.open(file)
            file.whole = False
            return Sample(picture, "x")

    section = ImageSection(size=96)
    _, fault = attempt(Failing(PHOTO), "s", 0, "pair", Look(section, KEY, 0, False))
    assert fault.reason == "OSError"
    assert "Input/output error" in fault.detail


def test_a_mistake_in_code_is_no_broken_picture(monkeypatch):
    def wrong(*_):
        raise ValueError("a mistake")

    monkeypatch.setattr(look, "choose_box", wrong)
    with pytest.raises(ValueError, match="a mistake"):
        read(Files(PHOTO), KEY, "pair", 0, Look(ImageSection(), KEY, 0, False))


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_substitution_covers_the_decode(decoder):
    dataset = Files(PHOTO[:3000], *[PHOTO] * 5)
    section = ImageSection(size=96, codebook_size=48, decoder=decoder)
    sample, faults = read(dataset, KEY, "pair", 0, Look(section, KEY, 0, True))
    assert {(fault.index, fault.reason) for fault in faults} == {(0, "broken picture")}
    assert sample.image is None
    assert sample.views[0].shape == (3, 96, 96)


def damaged(count):
    """Files cut short, with bits turned, with headers hit and with bytes overwritten."""
    photos = [photograph(name, 160, 120) for name in NAMES[:4]]
    good = [as_jpeg(photo) for photo in photos]
    good += [
        as_jpeg(photos[0], progressive=True),
        saved(photos[1], "PNG"),
        saved(photos[2], "WEBP"),
    ]
    chance = np.random.default_rng(0)
    for number, file in zip(range(count), itertools.cycle(good)):
        data = bytearray(file)
        kind = number // len(good) % 4
        if kind == 0:
            data = data[: chance.integers(1, len(data))]
        elif kind in (1, 2):
            end = len(data) if kind == 1 else 700
            for place in chance.integers(0, min(end, len(data)), chance.integers(1, 6)):
                data[place] ^= 1 << int(chance.integers(8))
        else:
            place, length = chance.integers(0, len(data) - 50), chance.integers(1, 50)
            data[place : place + length] = chance.bytes(length)
        yield bytes(data)


def test_damaged_files_are_decoded_or_named_alike_by_both_decoders(capfd):
    reasons, apart = Counter(), 0
    for file in damaged(500):
        began = time.monotonic()
        ours, pil = (verdict(file, decoder) for decoder in ("torchvision", "pil"))
        assert time.monotonic() - began < 5
        if isinstance(pil, str):
            assert ours == pil
            reasons[pil] += 1
        else:
            assert not isinstance(ours, str)
            apart += not np.array_equal(ours, pil)
    capfd.readouterr()  # libjpeg's own words about streams that are broken inside
    assert set(reasons) == {"broken picture", "OSError"}, "the latter where it cannot be opened"
    assert 100 < reasons.total() < 400
    # a stream that is broken inside is guessed at, and the two may guess differently
    assert apart <= 10


def test_torchvision_says_nothing_of_what_it_refuses():
    assert decode_by_torchvision(PHOTO[:3000], (320, 240)) is None
    assert decode_by_torchvision(PHOTO, (320, 241)) is None
    with pytest.raises(DamagedSampleError, match="broken picture: .*truncated"):
        decode(Image.open(BytesIO(PHOTO[:3000])))
