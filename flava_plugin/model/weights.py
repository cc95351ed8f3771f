"""Names of weights in torchmultimodal's ``FLAVAForPreTraining`` and in ours, both ways, strictly.

The backbone's names are torchmultimodal's under another first word. A head of ours is one of its
losses; the heads' objectives must bear the names of ``pretrain/flava_base``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

PREFIXES = {
    "backbone.": "model.",
    "heads.mlm.": "loss.mlm_loss.",
    "heads.mim.": "loss.mim_loss.",
    "heads.mmm_text.": "loss.mmm_loss.mlm.",
    "heads.mmm_image.": "loss.mmm_loss.mim.",
    "heads.itm.": "loss.itm_loss.",
    "losses.contrastive.": "loss.contrastive_loss.",
}
"""Ours -> torchmultimodal's."""

CODEBOOK = "image_codebook."
"""Prefix of what torchmultimodal saves with the model and we keep apart: the frozen codebook."""

BIAS = "cls.bias"
TIED_BIAS = "cls.decoder.bias"
"""Second name that torchmultimodal gives a masked head's bias."""


def from_torchmultimodal(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of torchmultimodal's model to ours.

    Args:
        state: State of a ``FLAVAForPreTraining``, or of a part of it, under its names there. The
            codebook's weights are left out: it is no part of the learner.

    Returns:
        The same tensors by our names.

    Raises:
        ValueError: A name is unknown, or a head's bias differs under its two names.
    """
    kept = {name: value for name, value in state.items() if not name.startswith(CODEBOOK)}
    for name in [name for name in kept if name.endswith(TIED_BIAS)]:
        tied = kept.pop(name)
        single = name.removesuffix(TIED_BIAS) + BIAS
        if not torch.equal(tied, kept.setdefault(single, tied)):
            raise ValueError(f"'{name}' and '{single}' are one parameter, but their values differ")
    return rename(kept, {theirs: ours for ours, theirs in PREFIXES.items()}, "torchmultimodal")


def to_torchmultimodal(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our weights to torchmultimodal's.

    Args:
        state: State of a learner.

    Returns:
        The same tensors by the names of ``FLAVAForPreTraining``, without its codebook. A name
        without a counterpart there is refused (``rename``).
    """
    renamed = rename(state, PREFIXES, "flava_plugin")
    for name in [name for name in renamed if name.endswith(BIAS)]:
        renamed[name.removesuffix(BIAS) + TIED_BIAS] = renamed[name]
    return renamed


def rename(
    state: Mapping[str, Tensor], prefixes: Mapping[str, str], origin: str
) -> dict[str, Tensor]:
    """Exchange the beginnings of names.

    Args:
        state: Tensors by name.
        prefixes: New beginning by old beginning.
        origin: Whose names they are, for the message.

    Returns:
        Tensors by new name.

    Raises:
        ValueError: A name begins with none of ``prefixes``; each is listed.
    """
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in state.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if old is None:
            unknown.append(name)
        else:
            renamed[prefixes[old] + name.removeprefix(old)] = value
    if unknown:
        raise ValueError(
            f"{len(unknown)} names of {origin} have no counterpart:\n  "
            + "\n  ".join(sorted(unknown))
            + "\nname objectives as in pretrain/flava_base, and leave other heads out"
        )
    return renamed
