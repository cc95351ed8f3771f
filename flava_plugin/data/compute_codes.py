"""Runs a codebook over a dataset once, so that training need not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from flava_plugin import durable
from flava_plugin.data.codes import LIST, NONE, PART, about_codes, part_name
from flava_plugin.data.look import Look
from flava_plugin.data.reading import attempt
from flava_plugin.pixels import PixelScale, shrink
from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Dataset, Key, Modality


def refuse_chance(section: ImageSection) -> None:
    """Refuse pictures that every epoch sees another part of.

    Args:
        section: The recipe's ``data.image``.

    Raises:
        ValueError: Crops or mirroring are random.
    """
    chance = [
        f"data.image.{key}: {value}"
        for key, value in (("crop", section.crop), ("flip", section.flip))
        if value
    ]
    if chance:
        raise ValueError(
            f"{' and '.join(chance)} choose another part of a picture each time, which stored "
            "codes would not fit; set data.image.crop=null and data.image.flip=false, or go without"
        )


def compute_codes(
    dataset: Dataset,
    modality: Modality,
    section: ImageSection,
    codebook: nn.Module,
    folder: Path,
    *,
    rows: int,
    device: torch.device,
    progress: Callable[[int], object],
) -> Counter[str]:
    """Write the codes of every sample; parts that are there already are kept.

    Args:
        dataset: Holds pictures.
        modality: What its samples hold.
        section: How pictures are looked at; nothing in it may be left to chance.
        codebook: A registered codebook, built.
        folder: Where to; made if need be.
        rows: Pictures at a time.
        device: Where the codebook runs.
        progress: Told how many samples more are done.

    Returns:
        Samples that could not be read, by reason; their codes are ``NONE``.

    Raises:
        ValueError: Crops are random, or the folder holds codes of something else.
    """
    refuse_chance(section)
    about = about_codes(dataset, section, codebook)
    listed = folder / LIST
    if listed.exists():
        try:
            old = json.loads(listed.read_text(encoding="utf-8"))
            same = {key: old[key] for key in about} == about
        except (ValueError, KeyError, TypeError, RecursionError):  # nor is it a list of codes
            same = False
        if not same:
            raise ValueError(f"{folder}: holds codes of something else; name another folder")
    elif folder.exists() and not _is_free(folder):
        raise ValueError(f"{folder}: is no folder of codes, nor an empty one; name another")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{durable.TEMPORARY}*"):  # of a process that was killed
        left.unlink(missing_ok=True)
    durable.write_text(listed, json.dumps({**about, "patches": 0, "complete": False}) + "\n")
    codebook = codebook.to(device).eval()
    faults: Counter[str] = Counter()
    for part in range(-(-len(dataset) // PART)):
        indices = range(part * PART, min(len(dataset), (part + 1) * PART))
        path = folder / part_name(part)
        if (missing := _missing(path, len(indices))) is not None:
            faults["no codes in an earlier run"] += missing
            progress(len(indices))
            continue
        found: list[NDArray[Any]] = []
        for start in range(0, len(indices), rows):
            chosen = indices[start : start + rows]
            found.append(_codes(dataset, modality, section, codebook, chosen, device, faults))
            progress(len(chosen))
        patches = max((codes.shape[1] for codes in found), default=0)
        whole = [codes if codes.size else np.full((len(codes), patches), NONE) for codes in found]
        durable.write_bytes(path, save({"codes": np.concatenate(whole).astype(np.int32)}))
    done = {**about, "patches": _patches(folder), "complete": True}
    durable.write_text(listed, json.dumps(done) + "\n")
    return +faults


def _codes(
    dataset: Dataset,
    modality: Modality,
    section: ImageSection,
    codebook: nn.Module,
    indices: range,
    device: torch.device,
    faults: Counter[str],
) -> NDArray[np.int64]:
    """(n, P) codes, ``NONE`` where a sample cannot be read; (n, 0) where none of them can."""
    size = section.codebook_size if section.codebook_view == "device" else None
    scale = PixelScale(section.mean, section.std, section.codebook_range, size)
    pictures, places = [], []
    for place, index in enumerate(indices):
        look = Look(section, Key("codes", 0, index), 0, with_codebook=True)
        sample, fault = attempt(dataset, "codes", index, modality, look)
        if fault is not None:
            faults[fault.reason] += 1
            continue
        assert sample.views is not None, "attempt looked at it"
        large, small = sample.views
        pictures.append(torch.from_numpy(large if small is None else small))
        places.append(place)
    if not pictures:
        return np.zeros((len(indices), 0), np.int64)
    pixels = torch.stack(pictures).to(device)
    if size is not None:
        pixels = shrink(pixels, size)
    with torch.no_grad():
        codes = codebook(scale.for_codebook(pixels)).flatten(1).cpu().numpy()
    found = np.full((len(indices), codes.shape[1]), NONE, np.int64)
    found[places] = codes
    return found


def _is_free(folder: Path) -> bool:
    """Whether it is a folder that holds nothing, but for what a killed process left behind."""
    return folder.is_dir() and all(p.name.startswith(durable.TEMPORARY) for p in folder.iterdir())


def _missing(path: Path, samples: int) -> int | None:
    """How many rows of a part have no codes; None where the part is not there, or not whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            codes = file.get_tensor("codes")
    except (OSError, SafetensorError):
        return None
    if len(codes) != samples:
        return None
    return int((codes[:, :1] == NONE).sum()) if codes.size else samples


def _patches(folder: Path) -> int:
    return max(shape[1] for shape in _shapes(folder))


def _shapes(folder: Path) -> Iterator[list[int]]:
    for path in sorted(folder.glob(f"{'[0-9]' * 8}.safetensors")):
        with safe_open(path, framework="numpy") as file:
            yield file.get_slice("codes").get_shape()
