import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from data_stubs import LetterTokenizer
from PIL import Image
from torchmultimodal.transforms.flava_transform import FLAVAImageTransform
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from flava_plugin.data.collate import collate, pixel_scale
from flava_plugin.data.pictures import choose_box, to_rgb, views
from flava_plugin.data.randomness import generator
from flava_plugin.data.transforms import prepare, prepare_plain
from flava_plugin.sections_data import ImageSection, MaskingSection, TextSection
from flava_plugin.types import IGNORE, Key, Sample

KEY = Key("pairs", 2, 5)
LIMITS = [0.5, 1.0], [3 / 4, 4 / 3]
WHOLE = ImageSection(size=48, codebook_size=24, crop=None)


def photo(width=60, height=50, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def row(sample, key=KEY, image=WHOLE, modality="pair", seed=0, **options):
    return prepare(
        sample,
        key,
        image=image,
        text=options.pop("text", TextSection()),
        masking=MaskingSection(patch_count=14, min_block=4),
        tokenizer=LetterTokenizer(),
        modality=modality,
        seed=seed,
        patch_grid=6,
        with_codebook=options.pop("with_codebook", True),
        **options,
    )


def floats(item, section):
    """What the model sees of an item's pictures."""
    batch = collate([item], "pair", pad_id=0, pixels=pixel_scale(section)).as_floats()
    return batch.image[0].numpy(), batch.codebook_image[0].numpy()


def test_a_pair_becomes_arrays():
    item = row(Sample(photo(), "a red ball", extra={"label": 3}))
    assert item.image.shape == (3, 48, 48)
    assert item.image.dtype == item.codebook_image.dtype == np.uint8
    assert item.codebook_image.shape == (3, 24, 24)
    assert item.patch_mask.shape == (36,)
    assert item.patch_mask.sum() == 14
    assert item.text.tolist() == LetterTokenizer().encode("a red ball", 77)
    assert (item.word_labels != IGNORE).sum() == 1
    assert item.matched
    assert item.extra == {"label": 3}


def test_each_modality_holds_its_own():
    sample = Sample(photo(), "word")
    text = row(sample, modality="text")
    assert text.image is text.patch_mask is text.codebook_image is None
    assert text.text is not None
    image = row(sample, modality="image")
    assert image.text is image.word_labels is None
    assert image.image is not None
    assert row(sample, with_codebook=False).codebook_image is None
    bare = row(sample, masked=False)
    assert bare.patch_mask is bare.text_masked is bare.word_labels is None


def test_texts_are_cut_at_the_length_of_their_modality():
    lengths = TextSection(pair_length=5, text_length=9)
    sample = Sample(photo(), "abcdefghijklm")
    assert len(row(sample, text=lengths).text) == 5
    assert len(row(sample, modality="text", text=lengths).text) == 9


def test_a_wrong_caption_takes_the_place_of_the_right_one():
    item = row(Sample(photo(), "right"), caption="wrong")
    assert not item.matched
    assert item.text.tolist() == LetterTokenizer().encode("wrong", 77)


def test_pixels_equal_those_of_torchmultimodal():
    picture = photo(61, 47)
    theirs = FLAVAImageTransform(
        is_train=False, encoder_input_size=48, codebook_input_size=24
    ).transform(picture)
    section = ImageSection(size=48, codebook_size=24, crop=None, codebook_range=(0.1, 0.9))
    image, codebook_image = floats(row(Sample(picture, "x"), image=section), section)
    assert image.dtype == codebook_image.dtype == np.float32
    assert np.abs(image - theirs["image"].numpy()).max() < 1e-5
    # torchmultimodal resizes the already resized picture outside of training, and we the original
    assert codebook_image.min() >= 0.1 - 1e-6
    assert codebook_image.max() <= 0.9 + 1e-6


def test_both_sizes_show_the_same_part():
    picture, box = photo(90, 70), (11, 5, 71, 55)
    large, small = views(picture, WHOLE, with_codebook=True, box=box)
    for got, size, how in (
        (large, 48, InterpolationMode.BICUBIC),
        (small, 24, InterpolationMode.LANCZOS),
    ):
        wanted = resized_crop(picture, 5, 11, 50, 60, [size, size], how)
        assert np.array_equal(got, np.asarray(wanted).transpose(2, 0, 1))


def test_a_picture_of_the_right_size_is_not_resampled():
    picture = photo(48, 48)
    section = ImageSection(size=48, codebook_size=48, crop=None)
    item = row(Sample(picture, "x"), image=section)
    assert np.array_equal(item.codebook_image, np.asarray(picture).transpose(2, 0, 1))
    assert np.abs(floats(item, section)[1] * 255 - item.codebook_image).max() < 1e-4


def test_crops_lie_inside_and_keep_their_area():
    shares, torch_shares = [], []
    for number in range(800):
        width, height = 40 + number % 37, 30 + number % 41
        left, top, right, bottom = choose_box(
            width, height, (0.5, 1.0), generator(0, "crop", (number,))
        )
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        shares.append((right - left) * (bottom - top) / (width * height))
        _, _, h, w = RandomResizedCrop.get_params(torch.empty(3, height, width), *LIMITS)
        torch_shares.append(h * w / (width * height))
    assert min(shares) > 0.47
    assert abs(np.mean(shares) - np.mean(torch_shares)) < 0.02
    assert abs(np.std(shares) - np.std(torch_shares)) < 0.02
    assert choose_box(1000, 10, (0.9, 1.0), generator(0, "crop", (0,))) == (493, 0, 506, 10)
    assert choose_box(1, 1, (0.9, 1.0), generator(0, "crop", (0,))) == (0, 0, 1, 1)


def test_a_flip_mirrors_both_sizes():
    section = ImageSection(size=48, codebook_size=48, crop=None, flip=True)
    picture = photo(48, 48)
    plain = row(Sample(picture, "x"), image=section.model_copy(update={"flip": False}))
    mirrored = 0
    for number in range(60):
        item = row(Sample(picture, "x"), Key("s", 0, number), image=section)
        flipped = not (item.image == plain.image).all()
        mirrored += flipped
        order = slice(None, None, -1) if flipped else slice(None)
        assert (item.image == plain.image[:, :, order]).all()
        assert (item.codebook_image == plain.codebook_image[:, :, order]).all()
    assert 15 < mirrored < 45


def test_chance_is_a_function_of_seed_and_key():
    sample = Sample(photo(), "some longer caption")
    section = ImageSection(size=48, codebook_size=24, crop=(0.5, 1.0))
    first, again = row(sample, image=section), row(sample, image=section)
    for name in ("image", "codebook_image", "patch_mask", "text_masked", "word_labels"):
        assert (getattr(first, name) == getattr(again, name)).all()
    for other in (row(sample, Key("pairs", 3, 5), section), row(sample, image=section, seed=1)):
        assert (first.patch_mask != other.patch_mask).any()
        assert (first.image != other.image).any()


def test_masks_are_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from PIL import Image\n"
        "from data_stubs import LetterTokenizer\n"
        "from flava_plugin.data.transforms import prepare\n"
        "from flava_plugin.sections_data import ImageSection, MaskingSection, TextSection\n"
        "from flava_plugin.types import Key, Sample\n"
        "sample = Sample(Image.linear_gradient('L'), 'some longer caption')\n"
        "item = prepare(sample, Key('pairs', 2, 5), image=ImageSection(size=48), "
        "text=TextSection(), masking=MaskingSection(patch_count=14, min_block=4), "
        "tokenizer=LetterTokenizer(), modality='pair', seed=0, patch_grid=6, with_codebook=False)\n"
        "print(item.patch_mask.tolist(), item.text_masked.tolist(), item.image[:, 9, 9].tolist())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "77")
    }
    sample = Sample(Image.linear_gradient("L"), "some longer caption")
    item = row(sample, image=ImageSection(size=48))
    here = (item.patch_mask.tolist(), item.text_masked.tolist(), item.image[:, 9, 9].tolist())
    assert answers == {" ".join(map(str, here)) + "\n"}


def test_plain_rows_hide_nothing_unless_asked_and_never_crop():
    sample, tokenizer = Sample(photo(), "a caption"), LetterTokenizer()
    section = ImageSection(size=48, codebook_size=24, crop=(0.1, 0.2), flip=True)
    plain = prepare_plain(
        sample, image=section, text=TextSection(), tokenizer=tokenizer, modality="pair"
    )
    assert (plain.image == row(sample).image).all()
    assert plain.patch_mask is plain.text_masked is plain.codebook_image is None
    hidden = prepare_plain(
        sample,
        image=section,
        text=TextSection(),
        tokenizer=tokenizer,
        modality="pair",
        key=KEY,
        masking=MaskingSection(patch_count=14, min_block=4),
        patch_grid=6,
        caption="wrong",
    )
    assert (hidden.patch_mask == row(sample).patch_mask).all()
    assert not hidden.matched


def test_transparent_parts_become_white():
    picture = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    picture.putpixel((1, 0), (10, 20, 30, 0))
    assert np.asarray(to_rgb(picture)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    half = to_rgb(Image.new("LA", (1, 1), (0, 128)))
    assert half.getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    assert to_rgb(palette).getpixel((1, 0)) == (200, 0, 0)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(palette).getpixel((1, 0)) == (200, 0, 0)


def test_grey_pictures_of_every_depth_keep_their_brightness(tmp_path):
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    wanted = [[[0] * 3, [100] * 3, [255] * 3]]
    with Image.open(tmp_path / "deep.png") as opened:
        pictures = [
            deep,
            opened.copy(),
            Image.open(tmp_path / "deep.png"),
            Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)),
            Image.fromarray(np.array([[0, 100, 255]], dtype=np.int32)),
            Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.int32)),
            Image.fromarray(np.array([[0, 100 / 255, 1]], dtype=np.float32)),
            Image.fromarray(np.array([[0, 100, 255]], dtype=np.float32)),
        ]
    for picture in pictures:
        assert np.asarray(to_rgb(picture)).tolist() == wanted, picture.mode
    bits = np.asarray(to_rgb(Image.fromarray(np.array([[True, False]]))))
    assert bits.tolist() == [[[255] * 3, [0] * 3]]


def test_other_modes_become_rgb():
    for mode in ("CMYK", "YCbCr", "HSV", "LAB"):
        assert to_rgb(photo().convert("RGB").convert(mode) if mode != "LAB" else
                      Image.new("LAB", (3, 3))).mode == "RGB"  # fmt: skip
    picture = photo()
    assert to_rgb(picture) is picture


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_orientation_is_honoured(tmp_path, kind):
    picture = Image.new("RGB", (40, 20), "blue")
    picture.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    picture.save(tmp_path / f"p.{kind}", exif=exif)
    with Image.open(tmp_path / f"p.{kind}") as opened:
        turned = to_rgb(opened)
        assert to_rgb(turned).size == turned.size == (20, 40)
        red, _, blue = turned.getpixel((10, 5))
        assert red > 200 > blue


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (47, 49), (640, 11)])
def test_odd_sizes_are_prepared(size):
    for section in (WHOLE, ImageSection(size=48, codebook_size=24)):
        item = row(Sample(photo(*size), "x"), image=section)
        assert item.image.shape == (3, 48, 48)


def test_global_generators_are_left_alone():
    before = torch.get_rng_state()
    row(Sample(photo(), "some caption"), image=ImageSection(size=48, codebook_size=24))
    assert (torch.get_rng_state() == before).all()
