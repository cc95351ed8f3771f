"""A folder that Hugging Face's ``save_pretrained`` wrote, read without transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from flava_plugin.model.weights_file import read_pickled, read_safetensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"

FIXED: dict[str, dict[str, Any]] = {
    "image_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": True},
    "text_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
        "pad_token_id": 0,
    },
    "multimodal_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
        "use_cls_token": True,
    },
}
"""What our encoders do, and so the only values that a configuration may have: by section and key
(``FlavaConfig``'s defaults)."""

SECTIONS = tuple(FIXED)


LOSS_WEIGHTS = {
    "mlm": "mlm_weight",
    "mim": "mim_weight",
    "mmm_text": "mmm_text_weight",
    "mmm_image": "mmm_image_weight",
    "itm": "itm_weight",
    "contrastive": "global_contrastive_weight",
}
"""Objective -> the key of ``FlavaConfig`` that its loss is multiplied by (default 1)."""


def read_folder(
    folder: Path,
) -> tuple[dict[str, Tensor], tuple[int, int, int], dict[str, float]]:
    """Read a folder that ``save_pretrained`` wrote.

    Args:
        folder: With ``config.json`` and weights, in one file or in shards.

    Returns:
        Tensors by Hugging Face's names, the encoders' numbers of attention heads, and what losses
        are weighed by where that is not 1.

    Raises:
        ValueError: A file is missing or damaged, or the configuration is none that our encoders
            compute.
    """
    config = _json(folder / CONFIG)
    said = _heads(config, folder / CONFIG), _loss_weights(config, folder / CONFIG)
    for name in (WEIGHTS, "pytorch_model.bin"):
        path = folder / name
        read = read_pickled if path.suffix == ".bin" else lambda file: read_safetensors(file)[0]
        if path.is_file():
            return (read(path), *said)
        index = path.with_name(f"{name}.index.json")
        if index.is_file():
            state: dict[str, Tensor] = {}
            for shard in _shards(index):
                state |= read(folder / shard)
            return (state, *said)
    raise ValueError(f"{folder}: holds {CONFIG}, but neither {WEIGHTS} nor shards of it")


def _shards(index: Path) -> list[str]:
    """The files that an index names, each beside it."""
    named = _json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{index}: weight_map is {named!r:.80}, and not the shard of each weight")
    for name, shard in named.items():
        # A shard elsewhere would be a file of someone else's; no file is named by what is no text.
        sound = isinstance(shard, str) and shard.isprintable() and Path(shard).name == shard
        if not sound or shard in ("", ".", ".."):
            raise ValueError(
                f"{index}: weight_map names {shard!r:.80} for {name!r:.80}; a shard is the name of "
                "a file in the same folder"
            )
    return sorted(set(named.values()))


def _heads(config: dict[str, Any], path: Path) -> tuple[int, int, int]:
    """Check a configuration and read what weights do not say: the encoders' attention heads."""
    if config.get("model_type") != "flava":
        raise ValueError(f"{path}: model_type is {config.get('model_type')!r:.80}, and not 'flava'")
    heads, faults = [], []
    for section in SECTIONS:
        given = config.get(section)
        given = {} if given is None else given  # older files leave a section of defaults out
        if not isinstance(given, dict):
            faults.append(f"  {section}: {given!r:.80} is no section of keys")
            continue
        for key, wanted in FIXED[section].items():
            if given.get(key, wanted) != wanted:
                faults.append(f"  {section}.{key}: {given[key]!r:.80}, and {wanted!r} here")
        number = given.get("num_attention_heads", 12)  # their default, left out of older files
        if type(number) is not int or number < 1:
            faults.append(f"  {section}.num_attention_heads: {number!r:.80} is no number above 0")
        heads.append(number)
    if faults:
        raise ValueError(f"{path}: this package computes no such model:\n" + "\n".join(faults))
    return (heads[0], heads[1], heads[2])


def _loss_weights(config: dict[str, Any], path: Path) -> dict[str, float]:
    found = {}
    for objective, key in LOSS_WEIGHTS.items():
        weight = config.get(key, 1.0)
        number = type(weight) in (int, float)
        if not number or not 0 <= weight <= sys.float_info.max:  # false for what is no number too
            raise ValueError(f"{path}: {key} is {weight!r:.80}, and not a number from 0")
        if weight != 1:
            found[objective] = float(weight)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; a folder of Hugging Face's has it") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}, and not keys")
    return found
