"""Features of a frozen model over a dataset, computed once and kept on disk.

A file is named by what the features are a function of: the weights, how pictures and texts become
tensors, the dataset as the recipe names it, and its samples, as far as ``content`` sees them.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from flava_plugin import durable
from flava_plugin.evaluate.content import content_of
from flava_plugin.evaluate.samples import batches, decoded
from flava_plugin.evaluate.sharing import first, share
from flava_plugin.schema import Component
from flava_plugin.types import Modality, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

Reads = Literal["image", "text", "fused"]
MODALITY: dict[Reads, Modality] = {"image": "image", "text": "text", "fused": "pair"}


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
        (N, D) float and (N,) long; of several ranks the first has them, the others have no row.

    Raises:
        ValueError: A sample has no such label.
    """
    if cache is None:
        return compute(flava, dataset, label, reads)
    there = list[tuple[Tensor, Tensor]]()

    def look() -> Path | None:
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{fingerprint(flava, dataset, spec, label, reads)}.safetensors"
        if path.is_file():
            try:
                kept = load_file(path)
                there.append((torch.from_numpy(kept["features"]), torch.from_numpy(kept["labels"])))
                return None
            except Exception:  # whatever a damaged file raises: it is computed anew
                path.unlink()
        return path

    path = first(flava, look)  # ranks may see a shared folder at different times
    if path is None:
        return there[0] if there else (torch.zeros(0, 0), torch.zeros(0, dtype=torch.long))
    features, labels = compute(flava, dataset, label, reads)
    if flava.ranks.rank:
        return features, labels
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
        (N, D) float and (N,) long; of several ranks the first has them, the others have no row.

    Raises:
        ValueError: A sample has no such label or no picture that can be read, or there is none.
    """
    if not len(dataset):
        raise ValueError("linear_probe: the dataset is empty; check its path and split")
    names = list(getattr(dataset, "class_names", ()))

    def read(rows: list[int]) -> tuple[Tensor, list[int]]:
        group = list(decoded(dataset, rows))
        batch = flava.batch([sample for _, sample in group], MODALITY[reads])
        states = flava.features(batch, f"{reads}.cls")[:, 0].float().cpu().clone()
        return states, [class_of(sample, key.index, label, names) for key, sample in group]

    features, labels = list[Tensor](), list[int]()
    writes = flava.ranks.rank == 0
    shown = None if writes else True  # None: on a terminal
    with tqdm(total=len(dataset), unit="row", leave=False, disable=shown) as bar:
        for states, classes in share(flava, batches(range(len(dataset)), flava.batch_size), read):
            bar.update(len(classes))
            if writes:
                features.append(states)
                labels += classes
    if not writes:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
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
    digest.update(f"{label} {reads} {flava.recipe.model.padding}".encode())
    digest.update(content_of(dataset).encode())
    for name, value in sorted(flava.learner.backbone.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
