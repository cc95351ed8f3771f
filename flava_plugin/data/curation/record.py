"""``curation.json``: how a selection was made, beside it, and in every run that uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flava_plugin.durable import write_text

SELECTION = "selection.safetensors"
RECORD = "curation.json"


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a selection.

    Args:
        folder: Where the selection is.
        record: What is to be known of it, for JSON.
    """
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def read_record(selection: Path, fingerprint: str) -> dict[str, Any]:
    """Read how a selection was made.

    Args:
        selection: Its file.
        fingerprint: Of its content.

    Returns:
        The record; where there is none beside it, or one of another selection, a line that says
        so.
    """
    path = selection.with_name(RECORD)
    try:
        record = json.loads(path.read_text("utf-8"))
        fits = record["selection"] == fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return {"curation": f"no {RECORD} beside {selection.name}"}
    return {"curation": record if fits else f"{RECORD} is of another selection"}
