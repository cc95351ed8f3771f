"""Runs of seconds of the two dual encoders, CLIP's and ALIGN's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tiny_run import TINY, write_recipe

SIZES = {"layers": 1, "width": 16, "heads": 2}
TEXT = {"clip": "clip_text", "align": "flava_text"}
IMAGE: dict[str, dict[str, Any]] = {
    "clip": {"type": "clip_image", **SIZES, "image_size": 48, "patch_size": 8},
    "align": {
        "type": "efficientnet",
        "width_factor": 0.2,
        "depth_factor": 0.2,
        "stochastic_depth": 0.1,
    },
}
RETRIEVAL = {"type": "retrieval", "dataset": {"type": "shapes_pairs", "distinct": True, "size": 16}}


def write_dual(folder: Path, name: str, **changes: object) -> Path:
    """Write the recipe of a dual encoder, with changes at its top level."""
    data = yaml.safe_load(TINY)
    model = {
        "image_encoder": IMAGE[name],
        "text_encoder": {"type": TEXT[name], **SIZES, "max_positions": 64},
        "fused_encoder": None,
        "projection": 16,
    }
    source = data["data"]["sources"]["pairs"] | {"share": 1}
    section = data["data"] | {"sources": {"pairs": source}, "matching": {"negatives": 0}}
    objectives = {"contrastive": data["objectives"]["contrastive"]}
    own = {"model": model, "data": section, "objectives": objectives}
    return write_recipe(
        folder, **(own | {"evaluate": {"tasks": {"retrieval": RETRIEVAL}}} | changes)
    )
