"""The conversion itself: read, rename, write beside, compare, and only then give it its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from flava_plugin import durable
from flava_plugin.cli.weights_source import Heads, Source, read_source
from flava_plugin.cli.weights_target import DifferentError, check_target, put
from flava_plugin.model.weights import (
    HEAD_NORM_EPS,
    PADDING,
    check,
    from_torchmultimodal,
    to_hugging_face,
    to_torchmultimodal,
)
from flava_plugin.model.weights_compare import TOLERANCE, Runner, compare, runner
from flava_plugin.model.weights_file import Settings, read_pickled, read_safetensors
from flava_plugin.model.weights_names import Format
from flava_plugin.model.weights_shapes import OBJECTIVES, Sizes, sizes_of


def convert(
    source: Path,
    target: Path,
    *,
    origin: Format | None,
    goal: Format,
    model_only: bool,
    heads: Heads | None,
    force: bool,
) -> None:
    """Convert weights and print how far source and result are apart.

    Args:
        source: What ``read_source`` reads.
        target: File to write; for Hugging Face a folder.
        origin: Whose names the source has; None guesses.
        goal: Whose names to write.
        model_only: Whether to leave heads out.
        heads: Attention heads, where the source does not say.
        force: Whether an existing target is replaced.

    Raises:
        ValueError: The source or the target is refused; nothing was written.
        DifferentError: The result differs, or the disk fails; nothing is left.
    """
    check_target(source, target, goal, force=force)
    read = read_source(source, origin=origin, heads=heads, model_only=model_only)
    if model_only and goal != "hugging_face":  # whose FlavaModel alone holds the logit scale
        state = {n: v for n, v in read.state.items() if n.startswith("backbone.")}
        read = replace(read, state=state, sizes=sizes_of(state))
    check_sizes(read, goal)
    if "hugging_face" in (read.origin, goal):
        from flava_plugin.model.hugging_face import transformers

        transformers()
    for line in (*read.told, *_notes(read, goal, model_only=model_only)):
        print(f"note: {line}")
    settings = replace(
        read.settings,
        padding=PADDING.get(goal, read.settings.padding),
        norm_eps=HEAD_NORM_EPS.get(goal, read.settings.norm_eps),
    )
    temporary = target.with_name(f"{durable.TEMPORARY}{os.getpid()}-{target.name}")
    try:
        _write(temporary, read, settings, goal, model_only=model_only)
        _compare(temporary, read, settings, goal)
        put(temporary, target)
    except (OSError, SafetensorError) as error:
        raise DifferentError(f"{target} cannot be written: {error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    print(f"wrote {target}")


def check_sizes(source: Source, goal: Format) -> None:
    """Refuse a model that the target's implementation cannot hold.

    Args:
        source: The weights.
        goal: The target's implementation.

    Raises:
        ValueError: It cannot.
    """
    sizes = source.sizes
    if sizes.types != 2 and "flava_plugin" in (source.origin, goal):
        raise ValueError(f"{sizes.types} token types; this package's text encoder has BERT's 2")
    widths = (sizes.image.width, sizes.text.width, sizes.fused.width)
    if goal != "flava_plugin" and len(set(widths)) > 1 and sizes.objectives - {"contrastive"}:
        raise ValueError(
            f"the encoders' widths are {widths}, and the heads of {goal} are all of one width; "
            "leave them out with --model-only"
        )


def _notes(source: Source, goal: Format, *, model_only: bool) -> list[str]:
    notes = []
    settings, objectives = source.settings, source.sizes.objectives
    eps, padding = HEAD_NORM_EPS.get(goal), PADDING.get(goal)
    if objectives - {"itm", "contrastive"}:
        if eps is None:
            notes.append(f"set objectives.*.head.norm_eps: {settings.norm_eps:g} for these heads")
        elif eps != settings.norm_eps:
            notes.append(
                f"the heads were made with norm_eps {settings.norm_eps:g} and {goal} has {eps:g}; "
                "the check below uses the former in both, and a line says what the latter changes"
            )
    if padding is None:
        notes.append(
            f"set model.padding: {settings.padding} to do with padding what the source did"
        )
    elif padding != settings.padding:
        notes.append(
            f"the source's model.padding is {settings.padding}, and {goal} does as "
            f"{padding}; padded pairs give other numbers there"
        )
    lacking = [name for name in OBJECTIVES if name not in objectives]
    if model_only:
        lacking = [] if goal != "hugging_face" or "contrastive" in objectives else ["contrastive"]
    for name, weight in source.loss_weights.items():
        if name in objectives and goal == "flava_plugin":
            notes.append(
                f"set objectives.{name}.weight: {weight:g}, as the source weighs this loss"
            )
        elif name in objectives:
            notes.append(
                f"the source weighs the loss of {name} by {weight:g}; that is not written, so set "
                f"it in {goal} again"
            )
    if lacking:
        notes.append(f"the source has no weights for {', '.join(lacking)}; they are left out")
    return notes


def _write(
    temporary: Path, source: Source, settings: Settings, goal: Format, *, model_only: bool
) -> None:
    """Write the result under a temporary name and onto the disk."""
    if goal == "hugging_face":
        from flava_plugin.model.hugging_face import config_of, write_folder

        state = separate(to_hugging_face(source.state, model_only=model_only))
        temporary.mkdir()
        config = config_of(source.sizes, settings, model_only=model_only)
        write_folder(temporary, state, config)
        for file in temporary.iterdir():
            durable.sync(file)
    elif goal == "torchmultimodal":
        _write_file(temporary, separate(to_torchmultimodal(source.state, model_only=model_only)))
    else:
        _write_file(temporary, separate(source.state), settings.metadata())
    durable.sync(temporary)


def _write_file(
    temporary: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    if temporary.suffix == ".pt":
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error)) from error
    else:
        save_file(state, temporary, metadata or {"format": "pt"})


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors so that no two share memory, which safetensors refuses.

    Args:
        state: Tensors by name.

    Returns:
        Contiguous copies, each in memory of its own.
    """
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }


def _compare(temporary: Path, source: Source, settings: Settings, goal: Format) -> None:
    """Compare the source's implementation with the target's, read back from the disk."""
    sizes = source.sizes
    # What is no weight is made equal where it can be: ours can do both with padding, and the
    # heads' epsilon is a number in all three.
    ours = "flava_plugin" in (source.origin, goal)
    peer = goal if source.origin == "flava_plugin" else source.origin
    common = replace(source.settings, padding=PADDING.get(peer, source.settings.padding))
    target = _target(temporary, sizes, common, goal)
    same_padding = ours or source.origin == goal
    origin = runner(source.origin, source.state, sizes, common)
    found = compare(origin, target, sizes, same_padding=same_padding)
    print(found.table())
    if not same_padding:
        print("(of padded pairs, what the multimodal encoder makes is not compared: see above)")
    print(f"largest: {found.worst:.1e}, admitted: {TOLERANCE:.0e} of the largest value, at least 1")
    if not found.worst <= TOLERANCE:
        raise DifferentError(
            f"the result differs by {found.worst:.1e}, more than {TOLERANCE:.0e}; no file is left"
        )
    if settings.norm_eps != common.norm_eps:
        other = _target(temporary, sizes, replace(common, norm_eps=settings.norm_eps), goal)
        changed = compare(target, other, sizes, same_padding=True, padded=False)
        print(f"norm_eps {settings.norm_eps:g} instead changes a loss by {changed.worst:.1e}")


def _target(temporary: Path, sizes: Sizes, settings: Settings, goal: Format) -> Runner:
    if goal == "hugging_face":
        from flava_plugin.model.hugging_face import load_folder, run_face, with_norm_eps

        face = with_norm_eps(load_folder(temporary), settings.norm_eps)
        return lambda batch: run_face(face, batch, sizes)
    pickled = temporary.suffix == ".pt"
    state = read_pickled(temporary) if pickled else read_safetensors(temporary)[0]
    ours = check(state) if goal == "flava_plugin" else from_torchmultimodal(state)
    return runner(goal, ours, sizes, settings)
