"""Writes the encoders of a run as graphs for programs without this package, and checks them.

Each file is read back and compared with the model itself, padding left out as in training, on
inputs of other sizes than it was traced with; one that differs is not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from flava_plugin import durable
from flava_plugin.evaluate import export_parts
from flava_plugin.evaluate.export_parts import INPUTS, OUTPUTS, PartName, Sizes

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

Format = Literal["onnx", "torch_export"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
TOLERANCE = 1e-4
"""Largest difference of an output from the model's that is put up with; of the last layers before
the norm, whose numbers grow with depth and width, as a share of their largest number above 1.

There the absolute difference is fp32's own: of 12 text layers 768 wide whose weights are drawn with
a deviation of 0.08, last states reach 127, the model is 1.7e-4 off itself in fp64, onnxruntime
2.2e-4 off that, and they differ by 2.6e-4, which is 2.1e-6 of 127; after the norm by 9.1e-6."""

NEEDED = (2, 6)
"""Oldest torch that is tried. Torch 2.3 cannot: its ``torch.onnx.export`` knows no ``dynamo``, and
its ``torch.export`` takes the rows of the fused encoder for a constant. Made with 2.11."""

TRACED = (3, 7)
"""Rows and tokens that a graph is traced with."""

TRIED = ((1, 2), (2, 5), (5, 3), (8, 1_000_000))
"""Rows and tokens that it is checked with; tokens are cut to what the model takes."""

Runner = Callable[[tuple[Tensor, ...]], Sequence[Tensor]]


def export_run(
    flava: Flava, folder: Path, parts: Sequence[PartName], form: Format
) -> dict[PartName, float]:
    """Write parts of a model with a description, ``export.json``.

    Args:
        flava: The model, on the CPU.
        folder: Where to; it must not exist yet, or be empty.
        parts: Which encoders.
        form: ``onnx``, or ``torch_export`` for torch's own (``torch.export.load``).

    Returns:
        By part the largest difference from the model.

    Raises:
        ValueError: torch is too old, the model is on a GPU, the folder is taken, an encoder cannot
            be written as a graph, or what was written gives other numbers. Nothing is left then.
    """
    version = tuple(int(word) for word in torch.__version__.split(".")[:2])
    if version < NEEDED:
        raise ValueError(
            f"export needs torch {NEEDED[0]}.{NEEDED[1]} or later, and here is {torch.__version__}"
        )
    if flava.device.type != "cpu":
        raise ValueError(f"export needs the model on the CPU, not on {flava.device}; load it there")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{durable.TEMPORARY}{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    sizes = sizes_of(flava)
    try:
        found = {}
        for part in parts:
            module = export_parts.build_part_module(flava.learner.backbone, part)
            path = temporary / f"{part}{SUFFIX[form]}"
            with flava.evaluating():
                # graphs are traced without gradients, but not in inference mode
                with torch.inference_mode(False), torch.no_grad():
                    run = _write(module, part, sizes, path, form)
                found[part] = _difference(
                    module, part, sizes, run, flava.learner.backbone.padding == "released"
                )
            if not found[part] <= TOLERANCE:
                raise ValueError(
                    f"the {part} encoder written as {form} differs from the model by "
                    f"{found[part]:.2g}, more than {TOLERANCE}; it is not kept"
                )
        _describe(flava, temporary, sizes, found, form)
        if folder.exists():
            folder.rmdir()
        durable.rename_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return found


def sizes_of(flava: Flava) -> Sizes:
    """Collect the sizes of a model's inputs.

    Args:
        flava: The model.

    Returns:
        The sizes; most tokens are the text encoder's, or the recipe's where it has no bound.
    """
    backbone: Any = flava.learner.backbone
    pair_length = flava.recipe.data.text.pair_length
    return Sizes(
        image=flava.recipe.data.image.size,
        tokens=int(getattr(backbone.text_encoder, "max_positions", pair_length)),
        words=flava.tokenizer.vocab_size,
        image_width=backbone.image_encoder.width,
        text_width=backbone.text_encoder.width,
        patches=int(backbone.image_encoder.num_patches),
    )


def _write(module: nn.Module, part: PartName, sizes: Sizes, path: Path, form: Format) -> Runner:
    """Write a part and return what runs the file."""
    inputs = export_parts.random_inputs(part, sizes, TRACED[0], min(TRACED[1], sizes.tokens))
    rows = torch.export.Dim("rows", min=1)
    tokens = torch.export.Dim("tokens", min=1, max=sizes.tokens)
    by_name = {
        name: {0: rows} if name.startswith("image") else {0: rows, 1: tokens}
        for name in INPUTS[part]
    }
    try:
        with export_parts.dense(module):
            program = torch.export.export(module, inputs, dynamic_shapes=by_name, strict=False)
    except Exception as error:  # torch has many kinds for what it cannot trace
        kind = type(error).__name__
        raise ValueError(
            f"the {part} encoder cannot be written as a graph with rows and tokens left open "
            f"({kind}: {str(error).partition(chr(10))[0]}); an encoder of one's own must not let "
            "shapes depend on values"
        ) from error
    if form == "torch_export":
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
        return lambda given: _listed(loaded(*given))
    from flava_plugin.evaluate.export_onnx import runner, write

    write(program, path, INPUTS[part], OUTPUTS[part])
    return runner(path, INPUTS[part])


def _difference(
    module: nn.Module, part: PartName, sizes: Sizes, run: Runner, padding_is_read: bool
) -> float:
    """Largest difference from the model, NaN where something is no number."""
    worst = 0.0
    for rows, tokens in TRIED:
        inputs = export_parts.random_inputs(part, sizes, rows, min(tokens, sizes.tokens))
        counts = None if padding_is_read else export_parts.counted(part, inputs)
        outputs = zip(OUTPUTS[part], _listed(module(*inputs)), run(inputs), strict=True)
        for name, expected, got in outputs:
            if expected.shape != got.shape:
                return float("nan")
            gap = (expected.float() - got.float()).abs()
            if counts is not None and gap.dim() == 3:
                gap = gap[counts]
            largest = float(gap.max())
            if name.endswith("_last"):  # before the norm, and so as large as layers make it
                largest /= max(1.0, float(expected.abs().max()))
            if largest != largest:
                return largest
            worst = max(worst, largest)
    return worst


def _listed(outputs: Any) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _describe(
    flava: Flava, folder: Path, sizes: Sizes, found: dict[PartName, float], form: Format
) -> None:
    """Write ``export.json`` and copy the vocabulary."""
    image, tokenizer = flava.recipe.data.image, flava.recipe.data.tokenizer
    vocabulary = _vocabulary(flava)
    if vocabulary is not None:
        shutil.copyfile(vocabulary, folder / "vocab.txt")
    shapes = {
        "image": ["rows", 3, sizes.image, sizes.image],
        "ids": ["rows", "tokens"],
        "padding": ["rows", "tokens"],
        "image_last": ["rows", 1 + sizes.patches, sizes.image_width],
        "image_states": ["rows", 1 + sizes.patches, sizes.image_width],
        "text_last": ["rows", "tokens", sizes.text_width],
        "text_states": ["rows", "tokens", sizes.text_width],
        "image_projected": ["rows", flava.width],
        "text_projected": ["rows", flava.width],
        "fused_states": ["rows", f"{2 + sizes.patches} + tokens", _fused_width(flava)],
    }
    kinds = {"ids": "int64", "padding": "bool, true at real tokens, false behind them"}

    def tensors(names: Sequence[str]) -> list[dict[str, Any]]:
        return [{"name": n, "type": kinds.get(n, "float32"), "shape": shapes[n]} for n in names]

    text = {
        "format": form,
        "torch": torch.__version__,
        "parts": {
            part: {
                "file": f"{part}{SUFFIX[form]}",
                "inputs": tensors(INPUTS[part]),
                "outputs": tensors(OUTPUTS[part]),
                "largest_difference": gap,
            }
            for part, gap in found.items()
        },
        "most_tokens": sizes.tokens,
        "logit_scale": flava.scale,
        "image": {
            "size": image.size,
            "resize": "the whole picture to size x size, RGB, bicubic, then / 255",
            "mean": list(image.mean),
            "std": list(image.std),
        },
        "text": {
            "tokenizer": tokenizer.type,
            "lowercase": bool(tokenizer.options.get("lowercase", True)),
            "vocabulary": None if vocabulary is None else "vocab.txt",
            "pair_length": flava.recipe.data.text.pair_length,
            "padding_id": flava.tokenizer.pad_id,
            "model_padding": flava.recipe.model.padding,
        },
    }
    durable.write_text(folder / "export.json", json.dumps(text, indent=2) + "\n")


def _fused_width(flava: Flava) -> int:
    return int(getattr(flava.learner.backbone.mm_encoder, "width", 0))


def _vocabulary(flava: Flava) -> Path | None:
    spec = flava.recipe.data.tokenizer
    named = spec.options.get("vocab")
    if named is not None:
        return Path(named)
    if spec.type == "wordpiece":  # whose default is the vocabulary of the embedded data
        return Path(durable.__file__).parent / "assets" / "shapes_vocab.txt"
    return None
