"""What a figure has to be read with: machine, versions, threads, load."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchmultimodal-nightly", "transformers", "flava-plugin")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "sve", "bf16")
"""What decides how fast fp32 and bf16 are on a CPU."""


def describe(clock: str) -> dict[str, Any]:
    """Collect it.

    Args:
        clock: What times are read from.
    """
    found: dict[str, Any] = {
        "clock": clock,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    fields = _cpu()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    found["cpu"] = fields.get("model name", platform.processor() or platform.machine())
    found["cpu_flags"] = [flag for flag in FLAGS if flag in flags]
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def _cpu() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text("utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
