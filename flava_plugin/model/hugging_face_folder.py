"""A folder that Hugging Face's ``save_pretrained`` wrote, read without transformers."""

from __future__ import annotations

import json
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


def read_folder(folder: Path) -> tuple[dict[str, Tensor], tuple[int, int, int]]:
    """Read a folder that ``save_pretrained`` wrote.

    Args:
        folder: With ``config.json`` and weights, in one file or in shards.

    Returns:
        Tensors by Hugging Face's names, and the encoders' numbers of attention heads.

    Raises:
        ValueError: A file is missing or damaged, or the configuration is none that our encoders
            compute.
    """
    heads = heads_of(folder / CONFIG)
    for name in (WEIGHTS, "pytorch_model.bin"):
        path = folder / name
        read = read_pickled if path.suffix == ".bin" else lambda file: read_safetensors(file)[0]
        if path.is_file():
            return read(path), heads
        index = path.with_name(f"{name}.index.json")
        if index.is_file():
            state: dict[str, Tensor] = {}
            for shard in sorted(set(_json(index).get("weight_map", {}).values())):
                if Path(shard).name != shard:  # a shard elsewhere would be a file of someone else's
                    raise ValueError(f"{index}: names the shard '{shard}' outside its folder")
                state |= read(folder / shard)
            return state, heads
    raise ValueError(f"{folder}: holds {CONFIG}, but neither {WEIGHTS} nor shards of it")


def heads_of(path: Path) -> tuple[int, int, int]:
    """Check a configuration and read what weights do not say.

    Args:
        path: A ``config.json``.

    Returns:
        Attention heads of the image, text and multimodal encoder.

    Raises:
        ValueError: It is no configuration of a FLAVA, or one that our encoders do not compute.
    """
    config = _json(path)
    if config.get("model_type") != "flava":
        raise ValueError(f"{path}: model_type is {config.get('model_type')!r}, and not 'flava'")
    heads, faults = [], []
    for section in SECTIONS:
        given = config.get(section) or {}
        for key, wanted in FIXED[section].items():
            if given.get(key, wanted) != wanted:
                faults.append(f"  {section}.{key}: {given[key]!r}, and {wanted!r} here")
        number = given.get("num_attention_heads", 12)  # their default, left out of older files
        if type(number) is not int or number < 1:
            faults.append(f"  {section}.num_attention_heads: {number!r} is no number above 0")
        heads.append(number)
    if faults:
        raise ValueError(f"{path}: this package computes no such model:\n" + "\n".join(faults))
    return (heads[0], heads[1], heads[2])


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
