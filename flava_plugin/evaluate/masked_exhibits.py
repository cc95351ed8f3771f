"""What the model puts at hidden words and patches, example by example, for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from flava_plugin.data.pictures import to_rgb
from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.types import IGNORE, Key, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

BLANK = "____"


def word_exhibit(flava: Flava, objective: str, chosen: Sequence[tuple[Key, Sample]]) -> Exhibit:
    """Show the guesses for each hidden word of a few pairs.

    Args:
        flava: The model.
        objective: The objective whose head guesses.
        chosen: Pairs and their keys.

    Returns:
        One row per hidden word.
    """
    rows = []
    for key, sample in chosen:
        batch = flava.batch([sample], "pair", keys=[key])
        prediction = flava.predict(objective, batch)
        assert batch.text_masked is not None
        assert batch.word_labels is not None
        assert batch.patch_mask is not None
        with flava.evaluating():
            shares = prediction.decode(prediction.hidden).float().softmax(-1)
        places = (batch.word_labels[0] != IGNORE).nonzero().flatten().tolist()
        shown = _hidden(flava, sample, batch.patch_mask[0])
        for row, place in enumerate(places):
            truth = int(batch.word_labels[0, place])
            text = _blanked(flava.tokenizer, batch.text_masked[0].tolist(), place)
            best = shares[row].topk(3)
            cells = [Cell("", shown), Cell(text), Cell(flava.tokenizer.decode([truth]))]
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            for order, (share, word) in enumerate(pairs):
                verdict = word == truth if order == 0 or word == truth else None
                cells.append(Cell(f"{flava.tokenizer.decode([word])} {share:.0%}", None, verdict))
            rows.append(cells)
    note = (
        f"Captions with words hidden ({BLANK}; the one asked for in brackets; as in training, some "
        "words to guess are replaced by another or left). The picture is what the model sees of it."
    )
    return Exhibit(
        "Masked words", note, ("picture", "caption", "hidden word", "guesses"), rows[:12]
    )


def patch_exhibit(flava: Flava, objective: str, chosen: Sequence[tuple[Key, Sample]]) -> Exhibit:
    """Show what the model puts at the hidden patches of a few pairs.

    Args:
        flava: The model.
        objective: The objective whose head guesses.
        chosen: Pairs and their keys.

    Returns:
        One row per pair. Codes are drawn as patches where the codebook has a method ``decode``,
        (P,) codes to (P, 3, p, p) pixels in its range; otherwise a hidden patch is green where the
        guess is right and red where it is wrong.
    """
    low, high = flava.recipe.data.image.codebook_range
    codebook = flava.learner.codebook
    decode = getattr(codebook, "decode", None)
    rows = []
    for key, sample in chosen:
        batch = flava.batch([sample], "pair", keys=[key])
        with flava.evaluating():
            prediction = flava.predict(objective, batch)
            guesses = prediction.decode(prediction.hidden).argmax(-1)
            assert codebook is not None
            assert batch.codebook_image is not None
            assert batch.patch_mask is not None
            codes = codebook(batch.codebook_image).flatten(1)
            filled = codes.clone()
            filled[batch.patch_mask] = guesses
            pixels = ((batch.codebook_image[0] - low) / (high - low)).clamp(0, 1)
            cells = _cells(batch.patch_mask[0], flava.patch_grid, pixels.shape[-1])
            right = filled == codes
            if decode is not None:
                drawn, best = (
                    ((_assemble(decode(each[0])) - low) / (high - low)).clamp(0, 1)
                    for each in (filled, codes)
                )
            else:
                drawn = _tint(pixels, _cells(right[0], flava.patch_grid, pixels.shape[-1]))
                best = pixels
            guessed = pixels.where(~cells, drawn)
            share = float((guesses == prediction.labels).float().mean())
        pictures = [
            Cell("", _image(pixels)),
            Cell("", _image(pixels.where(~cells, pixels.new_tensor(0.5)))),
            Cell(f"{share:.0%} of codes right", _image(guessed)),
        ]
        if decode is not None:
            pictures.append(Cell("", _image(pixels.where(~cells, best))))
        rows.append([*pictures, Cell(sample.text or "")])
    names = ["original", "masked", "the model's guess"]
    note = "The model sees the masked picture and the caption, itself with words hidden. "
    if decode is None:
        note += (
            "Hidden patches are green where the guessed code is right and red where it is wrong."
        )
    else:
        names.append("the codebook's best")
        note += (
            "Guessed codes are drawn as the codebook's patches; no guess can look better than the "
        )
        note += "last picture, which draws the right codes."
    return Exhibit("Masked patches", note, (*names, "caption"), rows)


def _cells(flags: Tensor, grid: int, side: int) -> Tensor:
    """Enlarge (P,) flags of patches to the pixels of a picture: (1, side, side) bool."""
    small = flags.view(1, 1, grid, grid).float()
    return interpolate(small, size=(side, side), mode="nearest")[0].bool()


def _assemble(patches: Tensor) -> Tensor:
    """Lay (P, 3, p, p) patches out row by row: (3, h, w)."""
    grid, side = math.isqrt(len(patches)), patches.shape[-1]
    rows = patches.view(grid, grid, 3, side, side).permute(2, 0, 3, 1, 4)
    return rows.reshape(3, grid * side, grid * side)


def _tint(pixels: Tensor, right: Tensor) -> Tensor:
    """Mix a (3, h, w) picture with green where right and red where wrong."""
    green = pixels.new_tensor([0.1, 0.6, 0.3]).view(3, 1, 1)
    red = pixels.new_tensor([0.8, 0.2, 0.2]).view(3, 1, 1)
    return (pixels + green.where(right, red)) / 2


def _image(pixels: Tensor) -> Image.Image:
    values = (pixels * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(values)


def _hidden(flava: Flava, sample: Sample, mask: Tensor) -> Image.Image:
    """Grey out the (P,) hidden patches of a sample's picture."""
    size = flava.recipe.data.image.size
    assert sample.image is not None
    shown = to_rgb(sample.image).resize((size, size))
    cells = _cells(mask.cpu(), flava.patch_grid, size)[0].byte() * 255
    shown.paste((128, 128, 128), mask=Image.fromarray(cells.numpy()))
    return shown


def _blanked(tokenizer: Any, ids: Sequence[int], place: int) -> str:
    special = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
    words = []
    for index, token in enumerate(ids):
        if token in special:
            continue
        word = BLANK if token == tokenizer.mask_id else tokenizer.decode([token])
        words.append(f"[{word}]" if index == place else word)
    return " ".join(words)
