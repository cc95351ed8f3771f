"""ONNX: a traced program to a file, and a file to run. The one file that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(program: Any, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a program as ONNX.

    Args:
        program: Of ``torch.export``.
        path: The file.
        inputs: Names of its inputs.
        outputs: Names of its outputs.

    Raises:
        ValueError: A package is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"ONNX needs {', '.join(missing)}; install with: pip install 'flava-plugin[export]'"
        )
    written: Any = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(inputs),
        output_names=list(outputs),
        optimize=True,
        verbose=False,
    )
    written.save(str(path))


def runner(path: Path, inputs: Sequence[str]) -> Callable[[tuple[Tensor, ...]], list[Tensor]]:
    """Open a file in onnxruntime.

    Args:
        path: The file.
        inputs: Names of its inputs.

    Returns:
        Tensors in, tensors out, on the CPU.
    """
    from onnxruntime import InferenceSession  # type: ignore[attr-defined]

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(given: tuple[Tensor, ...]) -> list[Tensor]:
        arrays = {name: value.numpy() for name, value in zip(inputs, given, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run
