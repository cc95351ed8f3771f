"""Features of a frozen model over a dataset, computed once and kept on disk.

A file is named by what the features are a function of: the weights, how pictures and texts become
tensors, the dataset as the recipe names it, its length, and the content of a few of its samples.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from flava_plugin import durable
from flava_plugin.evaluate.samples import batches, keyed
from flava_plugin.schema import Component
from flava_plugin.types import Modality, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

Reads = Literal["image", "text", "fused"]
MODALITY: dict[Reads, Modality] = {"image": "image", "text": "text", "fused": "pair"}

LOOKED_AT = 8
"""Samples, spread over the dataset, whose content goes into its fingerprint."""


def cached_features(
    flava: Flava, dataset: Any, spec: Component, label: str, *, reads: Reads, cache: Path | None
) -> tuple[Tensor, Tensor]:
    """Read [CLS] of an encoder's last layer for every sample, from disk where it is there.

    It is neither the pooler's output nor the contrastive projection (facebookresearch/multimodal
    issue 378).

    Args:
        flava: The model.
        dataset: The opened dataset.
        spec: The dataset as the recipe names it, at the split it was opened at.
        label: Name of the class in ``Sample.extra``: its number, or a name of ``class_names``.
        reads: The encoder.
        cache: Folder of kept features; None keeps none.

    Returns:
        (N, D) float and (N,) long.

    Raises:
        ValueError: A sample has no such label.
    """
    if cache is None:
        return compute(flava, dataset, label, reads)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{fingerprint(flava, dataset, spec, label, reads)}.safetensors"
    if path.is_file():
        try:
            kept = load_file(path)
            return torch.from_numpy(kept["features"]), torch.from_numpy(kept["labels"])
        except Exception:  # whatever a damaged file raises: it is computed anew
            path.unlink()
    features, labels = compute(flava, dataset, label, reads)
    temporary = path.with_name(f"{durable.TEMPORARY}{path.name}-{os.getpid()}")
    save_file({"features": features.numpy(), "labels": labels.numpy()}, temporary)
    durable.sync(temporary)
    temporary.replace(path)
    durable.sync(cache)
    return features, labels


def compute(flava: Flava, dataset: Any, label: str, reads: Reads) -> tuple[Tensor, Tensor]:
    """Run the model over a dataset.

    Args:
        flava: The model.
        dataset: The opened dataset.
        label: Name of the class in ``Sample.extra``.
        reads: The encoder.

    Returns:
        (N, D) float and (N,) long.

    Raises:
        ValueError: A sample has no such label, or there is no sample.
    """
    names = list(getattr(dataset, "class_names", ()))
    features: list[Tensor] = []
    labels: list[int] = []
    rows = tqdm(keyed(dataset), total=len(dataset), unit="row", leave=False, disable=None)
    for group in batches(rows, flava.batch_size):
        samples = [sample for _, sample in group]
        batch = flava.batch(samples, MODALITY[reads])
        features.append(flava.features(batch, f"{reads}.cls")[:, 0].float().cpu().clone())
        labels += [class_of(sample, key.index, label, names) for key, sample in group]
    if not features:
        raise ValueError("linear_probe: the dataset is empty; check its path and split")
    return torch.cat(features), torch.tensor(labels)


def class_of(sample: Sample, index: int, label: str, names: list[str]) -> int:
    """Read a sample's class.

    Args:
        sample: The sample.
        index: Its index, for the message.
        label: Name of the class in ``Sample.extra``.
        names: Names of the classes, where the dataset has them.

    Returns:
        The class.

    Raises:
        ValueError: There is no such label, or it names no class.
    """
    value = sample.extra.get(label)
    if isinstance(value, str) and value in names:
        return names.index(value)
    number = value if isinstance(value, int) else -1
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or number < 0 or (names and number >= len(names)):
        among = f" of {len(names)}" if names else ""
        known = ", ".join(sample.extra) or "none"
        raise ValueError(
            f"sample {index}: label '{label}' is {value!r}, no class{among}; it has {known}"
        )
    return number


def fingerprint(flava: Flava, dataset: Any, spec: Component, label: str, reads: Reads) -> str:
    """Name the features by what they are a function of.

    Args:
        flava: The model.
        dataset: The opened dataset.
        spec: The dataset as the recipe names it.
        label: Name of the class.
        reads: The encoder.

    Returns:
        32 hex digits.
    """
    digest = blake2b(digest_size=16)
    data = flava.recipe.data
    settings = [data.image, data.text, data.tokenizer, spec]
    digest.update(json.dumps([s.model_dump(mode="json") for s in settings]).encode())
    digest.update(f"{label} {reads} {len(dataset)} {flava.recipe.model.padding}".encode())
    for index in sorted({round(i * (len(dataset) - 1) / LOOKED_AT) for i in range(LOOKED_AT + 1)}):
        sample = dataset.read(index)
        said = (sample.text, sample.second_text, sample.extra.get(label))
        digest.update(f"{index} {said!r}".encode())
        if sample.image is not None:
            digest.update(np.asarray(sample.image.convert("RGB")).tobytes())
    for name, value in sorted(flava.learner.backbone.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
