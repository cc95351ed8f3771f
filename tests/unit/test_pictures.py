"""The two sizes of a photograph from one decode, against PIL's own."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from data_stubs import LetterTokenizer, mixture_of, section
from jpeg_photographs import NAMES, as_jpeg, photograph
from PIL import Image
from torchmultimodal.transforms.flava_transform import FLAVAImageTransform

from flava_plugin.data import look
from flava_plugin.data.collate import collate, pixel_scale
from flava_plugin.data.loader import load_steps
from flava_plugin.data.look import Look
from flava_plugin.data.pictures import choose_box
from flava_plugin.data.randomness import generator
from flava_plugin.data.transforms import Item
from flava_plugin.pixels import shrink
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Key, Sample

KEY = Key("s", 1, 7)
SIZES = [(640, 480), (500, 375), (1024, 768), (375, 500)]


def looked(file, key=KEY, **options):
    return Look(ImageSection(**options), key, 0, with_codebook=True).at(Image.open(BytesIO(file)))


def exact(file, key=KEY, size=224, small=112):
    """What torchmultimodal's transform makes of the same box, before it scales the pixels."""
    picture = Image.open(BytesIO(file)).convert("RGB")
    box = choose_box(*picture.size, (0.9, 1.0), generator(0, "crop", key))
    part = picture.crop(box)
    large = part.resize((size, size), Image.Resampling.BICUBIC)
    little = part.resize((small, small), Image.Resampling.LANCZOS)
    return tuple(np.asarray(each).transpose(2, 0, 1) for each in (large, little))


def apart(got, wanted):
    """Mean difference, of 255."""
    return float(np.abs(got.astype(np.float32) - wanted).mean())


def test_the_reference_is_torchmultimodals_own(monkeypatch):
    file = as_jpeg(photograph("coffee.png", 640, 480))
    left, top, right, bottom = choose_box(640, 480, (0.9, 1.0), generator(0, "crop", KEY))
    theirs = FLAVAImageTransform()
    two_way = theirs.common_transform.transforms[1]
    box = (top, left, bottom - top, right - left)
    monkeypatch.setattr(two_way, "get_params", lambda *_: box)
    shown = theirs.common_transform(Image.open(BytesIO(file)))
    for got, wanted in zip(shown, exact(file), strict=True):
        assert np.array_equal(np.asarray(got).transpose(2, 0, 1), wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("options", "large_limit", "small_limit"),
    [
        ({}, 0.01, 0.5),
        ({"decoder": "pil"}, 0.01, 0.5),
        ({"decoder": "draft"}, 0.01, 0.5),
        ({"codebook_view": "exact"}, 0.01, 0.0),
        ({"resize": "pil"}, 0.0, 0.5),
        ({"resize": "pil", "decoder": "pil", "codebook_view": "exact"}, 0.0, 0.0),
    ],
)
def test_every_way_is_as_near_as_it_says(size, options, large_limit, small_limit):
    for number, name in enumerate(NAMES):
        key = Key("s", 0, number)
        file = as_jpeg(photograph(name, *size))
        got, wanted = looked(file, key, **options), exact(file, key)
        assert apart(got[0], wanted[0]) <= large_limit, name
        assert apart(got[1], wanted[1]) <= small_limit, name
        assert all(view.flags.c_contiguous and view.dtype == np.uint8 for view in got)


@pytest.mark.parametrize(("size", "drafted"), [((1024, 768), None), ((2048, 1537), (1024, 769))])
def test_a_large_photograph_is_drafted_and_a_small_one_is_not(monkeypatch, size, drafted):
    decoded = []
    own = look.decode
    monkeypatch.setattr(look, "decode", lambda given: decoded.append(own(given)) or decoded[-1])
    for number, name in enumerate(NAMES[:4]):
        key, file = Key("s", 0, number), as_jpeg(photograph(name, *size))
        got, wanted = looked(file, key, decoder="draft"), exact(file, key)
        assert [picture.size for picture in decoded] == [drafted] * bool(drafted)
        decoded.clear()
        assert apart(got[0], wanted[0]) < 2
        assert apart(got[1], wanted[1]) < 2


@pytest.mark.parametrize("decoder", ["torchvision", "pil", "draft"])
def test_a_mirrored_view_is_the_view_mirrored(decoder):
    file = as_jpeg(photograph("chelsea.png", 1400, 1400))
    options = {"decoder": decoder, "crop": None}
    plain = looked(file, **options)
    found = {False: 0, True: 0}
    for number in range(20):
        got = looked(file, Key("s", 0, number), flip=True, **options)
        mirrored = not np.array_equal(got[0], plain[0])
        found[mirrored] += 1
        order = slice(None, None, -1 if mirrored else 1)
        assert all(np.array_equal(a, b[:, :, order]) for a, b in zip(got, plain, strict=True))
    assert min(found.values()) > 2


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (300, 300), (150, 100), (900, 13)])
def test_enlarged_codebook_pictures_come_from_the_decoded_one(size):
    file = as_jpeg(photograph("coffee.png", *size))
    got, wanted = looked(file), exact(file)
    assert apart(got[0], wanted[0]) < 0.6, "an enlargement rounds once more"
    assert np.array_equal(got[1], wanted[1]) == (min(size) < 224)


def test_a_codebook_as_large_as_the_encoder_keeps_its_own_filter():
    file = as_jpeg(photograph("coffee.png", 640, 480))
    for size, small in ((64, 64), (64, 48)):
        got = looked(file, size=size, codebook_size=small)
        assert np.array_equal(got[1], exact(file, size=size, small=small)[1])


def test_drawn_pictures_go_the_exact_way_whatever_the_recipe_says():
    drawn = photograph("coffee.png", 300, 260)
    assert drawn.format is None
    file = BytesIO()
    drawn.save(file, "PNG")
    wanted = exact(file.getvalue())
    got = Look(ImageSection(), KEY, 0, with_codebook=True).at(drawn)
    assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


def batch_of(views, image, with_codebook=True):
    items = [Item(image=large, codebook_image=small) for large, small in views]
    return collate(items, "image", pad_id=0, pixels=pixel_scale(image, with_codebook))


def test_the_device_makes_the_codebooks_picture():
    files = [as_jpeg(photograph(name, 640, 480)) for name in NAMES[:3]]
    shared = ImageSection(codebook_range=(0.1, 0.9))
    device = shared.model_copy(update={"codebook_view": "device"})
    keys = [Key("s", 0, number) for number in range(3)]
    pairs = list(zip(files, keys, strict=True))
    usual = batch_of([looked(*pair, codebook_range=(0.1, 0.9)) for pair in pairs], shared)
    bare = batch_of([looked(*pair, codebook_view="device") for pair in pairs], device)
    assert bare.codebook_image is None
    assert torch.equal(bare.image, usual.image)
    small = bare.as_floats().codebook_image
    assert small.shape == (3, 3, 112, 112)
    assert small.dtype == torch.float32
    assert small.min() >= 0.1 and small.max() <= 0.9 + 1e-6
    difference = (small - usual.as_floats().codebook_image).abs() * 255 / 0.8
    assert difference.mean() < 0.3
    assert difference.max() < 12


def test_the_device_makes_none_that_nobody_wants():
    device = ImageSection(codebook_view="device")
    bare = batch_of([looked(as_jpeg(photograph("coffee.png", 300, 300)))], device, False)
    bare = replace(bare, codebook_image=None)
    assert bare.as_floats().codebook_image is None
    wanted = replace(bare, pixels=pixel_scale(device, True))
    assert wanted.as_floats().codebook_image is not None
    coded = replace(wanted, codes=torch.zeros(1, 196, dtype=torch.long))
    assert coded.as_floats().codebook_image is None, "the codes are there already"
    assert pixel_scale(ImageSection(), True).codebook_size is None


def test_shrinking_is_lanczos_in_squares_of_any_ratio():
    large = np.asarray(photograph("chelsea.png", 224, 224)).transpose(2, 0, 1)
    for size in (112, 100, 64, 224):
        got = shrink(torch.from_numpy(large[None].copy()), size)[0].numpy()
        wanted = Image.fromarray(large.transpose(1, 2, 0)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
        assert got.dtype == np.uint8
        assert apart(got, np.asarray(wanted).transpose(2, 0, 1)) < 0.3


def test_a_codebook_larger_than_the_encoder_is_not_made_on_the_device():
    with pytest.raises(ValueError, match=r"128 pixels a side.*take exact"):
        ImageSection(size=64, codebook_size=128, codebook_view="device")


class Photographs:
    """JPEG files, one of them cut short."""

    def __init__(self):
        self.files = [as_jpeg(photograph(name, 200, 150)) for name in NAMES]
        self.files[3] = self.files[3][:2000]

    def __len__(self):
        return len(self.files)

    def read(self, index, /):
        return Sample(Image.open(BytesIO(self.files[index])))


@pytest.mark.parametrize("decoder", ["torchvision", "draft"])
def test_a_step_is_the_same_under_every_number_of_workers(decoder):
    def load(workers, first=0):
        sources = {"only": {"modality": "image", "share": 1.0, "dataset": {"type": "in_memory"}}}
        image = ImageSection(size=32, codebook_size=16, crop=(0.5, 1.0), decoder=decoder)
        data = section(workers=workers, sources=sources, image=image)
        return [
            (step.micro_batches[0], [(fault.index, fault.reason) for fault in step.bad])
            for step in load_steps(
                data,
                mixture_of(data, 3),
                {"only": Photographs()},
                LetterTokenizer(),
                seed=3,
                first=first,
                last=4,
                patch_grid=4,
                with_codebook=True,
            )
        ]

    alone = load(0)
    assert {fault for _, bad in alone for fault in bad} == {(3, "broken picture")}
    for workers, first in ((1, 0), (2, 0), (2, 2)):
        for (batch, bad), (wanted, faults) in zip(load(workers, first), alone[first:], strict=True):
            assert bad == faults
            assert torch.equal(batch.image, wanted.image)
            assert torch.equal(batch.codebook_image, wanted.codebook_image)
