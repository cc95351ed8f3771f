"""Weights of torchmultimodal's FLAVA, of Hugging Face's and of ours, each way, strictly.

The backbone's names are torchmultimodal's under another first word. A head of ours is one of the
peers'; the heads' objectives must bear the names of ``pretrain/flava_base``. Tensors are handed on
as they are, so that a round trip gives the same bits.

What weights do not say is part of a result all the same: ``HEAD_NORM_EPS`` and ``PADDING``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from flava_plugin.model.weights_names import NAMINGS, Format, Naming
from flava_plugin.model.weights_shapes import (
    ENCODERS,
    OBJECTIVES,
    count_layers,
    misshaped,
    no_tensor,
    objective_of,
    shapes,
)

CODEBOOK = "image_codebook."
"""Prefix of what both peers save with the model and we keep apart: the frozen codebook."""

HEAD_NORM_EPS: dict[Format, float] = {"torchmultimodal": 1e-5, "hugging_face": 1e-12}
"""Epsilon of the masked heads' layer norm, ``objectives.*.head.norm_eps``, that weights from there
were made with (tests/parity/README.md)."""

PADDING: dict[Format, Literal["masked", "released"]] = {
    "torchmultimodal": "released",
    "hugging_face": "masked",
}
"""What the multimodal encoder does with padding there, ``model.padding``."""

BIAS, TIED_BIAS = "bias", "decoder.bias"
POSITION_IDS = "embeddings.position_ids"


def from_torchmultimodal(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchmultimodal's weights to ours; their heads have ``norm_eps`` 1e-5.

    Args:
        state: State of a ``FLAVAForPreTraining`` or a ``FLAVAModel``. The codebook's weights are
            left out: it is no part of the learner.

    Returns:
        The same tensors by our names. Names that are unknown or missing and tensors of a wrong
        shape are refused (``check``).
    """
    return _inwards(state, NAMINGS["torchmultimodal"])


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Hugging Face's weights to ours; their heads have ``norm_eps`` 1e-12.

    Args:
        state: State of a ``FlavaForPreTraining`` or a ``FlavaModel``. The codebook's weights and
            the position ids of older files are left out.

    Returns:
        The same tensors by our names. Names that are unknown or missing and tensors of a wrong
        shape are refused (``check``).
    """
    return _inwards(state, NAMINGS["hugging_face"])


def to_torchmultimodal(
    state: Mapping[str, Tensor], *, model_only: bool = False, partial: bool = False
) -> dict[str, Tensor]:
    """Rename our weights to torchmultimodal's.

    Args:
        state: State of a learner.
        model_only: Whether only the backbone is wanted, by the names of ``FLAVAModel``.
        partial: Whether names may be missing, as among gradients.

    Returns:
        The same tensors by the names of ``FLAVAForPreTraining``, without its codebook; a masked
        head's bias under both its names. What has no counterpart is refused (``check``).
    """
    return _outwards(state, NAMINGS["torchmultimodal"], model_only, partial)


def to_hugging_face(
    state: Mapping[str, Tensor], *, model_only: bool = False, partial: bool = False
) -> dict[str, Tensor]:
    """Rename our weights to Hugging Face's.

    Args:
        state: State of a learner.
        model_only: Whether only the backbone and the logit scale are wanted, by the names of
            ``FlavaModel``.
        partial: Whether names may be missing, as among gradients.

    Returns:
        The same tensors by the names of ``FlavaForPreTraining``, without its codebook; a masked
        head's bias under both its names. What has no counterpart is refused (``check``).
    """
    return _outwards(state, NAMINGS["hugging_face"], model_only, partial)


def guess_format(names: Iterable[str]) -> Format:
    """Tell whose names they are.

    Args:
        names: Of a state.

    Returns:
        The implementation.

    Raises:
        ValueError: They are nobody's.
    """
    signs: dict[Format, tuple[str, ...]] = {
        "flava_plugin": ("backbone.",),
        "hugging_face": ("flava.", "image_model.", "text_model.", "multimodal_model."),
        "torchmultimodal": ("model.", "image_encoder.", "text_encoder.", "mm_encoder."),
    }
    known = list(names)
    for origin, beginnings in signs.items():
        if any(name.startswith(beginnings) for name in known):
            return origin
    shown = ", ".join(sorted(known)[:3]) or "none at all"
    raise ValueError(
        f"these are not the names of a FLAVA that is known here: {shown}; known are "
        "torchmultimodal, hugging_face and flava_plugin"
    )


def check(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check a state by our names: every name known, none missing, every shape fitting the others.

    Args:
        state: State of a learner with a FLAVA backbone. Objectives may be absent, but only whole.

    Returns:
        The state. Anything wrong is refused in one error that names all.
    """
    return _translate(state, NAMINGS["flava_plugin"], "", partial=False)


def _inwards(state: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    kept = {name: value for name, value in state.items() if not name.startswith(CODEBOOK)}
    whole = any(name.startswith((naming.prefix, "loss.")) or "_head." in name for name in kept)
    return _translate(kept, naming, "" if whole else naming.prefix, partial=False)


def _outwards(
    state: Mapping[str, Tensor], naming: Naming, model_only: bool, partial: bool
) -> dict[str, Tensor]:
    if model_only:
        model = ("backbone.", "losses.contrastive.")
        state = {name: value for name, value in state.items() if name.startswith(model)}
    ours = _translate(state, NAMINGS["flava_plugin"], "", partial=partial)
    renamed = {}
    for name, value in ours.items():
        theirs = naming.name(name)
        renamed[theirs] = value
        if name.endswith(".cls.bias"):
            renamed[theirs.removesuffix(BIAS) + TIED_BIAS] = value
    if not model_only:
        return renamed
    model_names = [name for name in renamed if name.startswith(naming.prefix)]
    return {name.removeprefix(naming.prefix): renamed[name] for name in model_names}


def _translate(
    state: Mapping[str, Tensor], naming: Naming, left_out: str, *, partial: bool
) -> dict[str, Tensor]:
    """Rename to ours and check; ``left_out`` is the prefix that the names lack."""
    faults: dict[str, str] = {}
    given: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(POSITION_IDS) and naming.format != "flava_plugin":
            if not _counts_up(value):
                faults[name] = "holds other positions than 0, 1, 2 and so on"
        elif fault := no_tensor(value):
            faults[name] = fault
        else:
            given[left_out + name] = value
    _untie(given, faults, left_out)

    # Which names there are depends on the number of layers, which only the names tell.
    first = {naming.name(name): name for name in shapes(dict.fromkeys(ENCODERS, 1), OBJECTIVES)}
    numbered = (_first_layer(name) for name in given)
    layers = count_layers(
        first[head].replace(".layer.0.", f".layer.{number}.")
        for head, number in numbered
        if head in first and number
    )
    known = shapes(layers, OBJECTIVES)
    table = {naming.name(name): name for name in known}
    ours = {table[name]: value for name, value in given.items() if name in table}
    for name in given.keys() - table.keys():
        faults[name.removeprefix(left_out)] = "is unknown"
    present = set(map(objective_of, ours)) | {None}
    needed = {name: shape for name, shape in known.items() if objective_of(name) in present}
    wrong = misshaped(ours, needed)
    if not partial:
        told = {left_out + name for name in faults}
        absent = [n for n in needed if n not in ours and naming.name(n) not in told]
        wrong |= dict.fromkeys(absent, "is missing")
    for name, fault in wrong.items():
        faults[naming.name(name).removeprefix(left_out)] = fault
    if faults:
        lines = "\n".join(f"  {name}: {fault}" for name, fault in sorted(faults.items()))
        raise ValueError(
            f"{len(faults)} names of {naming.format} do not fit a FLAVA:\n{lines}\n"
            "name objectives as in pretrain/flava_base, and leave other heads out"
        )
    return {name: ours[name] for name in table.values() if name in ours}


def _first_layer(name: str) -> tuple[str, str]:
    """A layer's name as it is in the first layer, and the layer's number ('' for none)."""
    head, found, tail = name.partition(".layer.")
    number, _, rest = tail.partition(".")
    return (f"{head}.layer.0.{rest}", number) if found else (name, "")


def _counts_up(value: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return False
    return torch.equal(value.flatten().long(), torch.arange(value.numel(), device=value.device))


def _untie(given: dict[str, Tensor], faults: dict[str, str], left_out: str) -> None:
    """Take away the second name that both peers give a masked head's bias."""
    for name in [name for name in given if name.endswith(TIED_BIAS)]:
        single = name.removesuffix(TIED_BIAS) + BIAS
        tied = given.pop(name)
        if not torch.equal(tied, given.setdefault(single, tied)):
            faults[name.removeprefix(left_out)] = (
                f"and '{single}' are one parameter, but their values differ"
            )
