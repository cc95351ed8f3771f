"""Hugging Face's FLAVA: its configuration from sizes, its model from weights, its folder.

The only file that imports transformers, and only inside functions, for it is an extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flava_plugin.model.hugging_face_folder import FIXED, SECTIONS, WEIGHTS
from flava_plugin.model.weights import to_hugging_face
from flava_plugin.model.weights_file import Settings
from flava_plugin.model.weights_probe import Found, without_padding
from flava_plugin.model.weights_shapes import MASKED_HEADS, Sizes
from flava_plugin.types import IGNORE, Batch

LOSSES = {"contrastive": "global_contrastive"}
"""Objective -> its name in ``FlavaLosses``, where that is another."""

IGNORED_THERE = -100
"""Hugging Face's label of a position that no loss reads (``ce_ignore_index``)."""


def transformers() -> ModuleType:
    """Import transformers.

    Returns:
        The module.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"Hugging Face's FLAVA needs transformers ({error}): "
            "pip install 'flava-plugin[hugging-face]'"
        ) from error
    return transformers


def config_of(sizes: Sizes, settings: Settings, *, model_only: bool) -> Any:
    """Describe a FLAVA as Hugging Face does.

    Args:
        sizes: Its sizes.
        settings: Its attention heads.
        model_only: Whether it is their ``FlavaModel``.

    Returns:
        A ``FlavaConfig``, without a codebook: targets are given as ``mim_labels``.
    """
    sections = {}
    for section, encoder, heads in zip(
        SECTIONS, (sizes.image, sizes.text, sizes.fused), settings.heads, strict=True
    ):
        sections[section] = {
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.layers,
            "num_attention_heads": heads,
            "intermediate_size": encoder.mlp,
            **FIXED[section],
        }
    sections["image_config"] |= {
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "vocab_size": sizes.codes or 8192,  # DALL-E's, where no head says
    }
    sections["text_config"] |= {
        "vocab_size": sizes.words,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
    }
    return transformers().FlavaConfig(
        **sections,
        hidden_size=sizes.fused.width,
        projection_dim=sizes.projection,
        init_codebook=False,
        architectures=["FlavaModel" if model_only else "FlavaForPreTraining"],
    )


def build_face(state: Mapping[str, Tensor], sizes: Sizes, settings: Settings) -> nn.Module:
    """Build Hugging Face's FLAVA with given weights.

    Args:
        state: Checked weights by our names (``weights.check``).
        sizes: Their sizes.
        settings: What they were made with; its heads get this ``norm_eps``, which no configuration
            of theirs can say.

    Returns:
        A ``FlavaForPreTraining`` in evaluation; heads without weights are not to be read.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn from the global stream
        model: nn.Module = transformers().FlavaForPreTraining(
            config_of(sizes, settings, model_only=False)
        )
    fresh, unknown = model.load_state_dict(to_hugging_face(state), strict=False)
    inside = [n for n in fresh if n.startswith("flava.") and n != "flava.logit_scale"]
    assert not unknown and not inside, (unknown, inside)
    return cast(nn.Module, with_norm_eps(model, settings.norm_eps).eval())


def with_norm_eps(model: Any, eps: float) -> Any:
    """Set the epsilon of the masked heads' layer norm.

    Args:
        model: A ``FlavaForPreTraining``.
        eps: The epsilon.

    Returns:
        The model, changed.
    """
    for name in MASKED_HEADS:
        getattr(model, f"{name}_head").transform.LayerNorm.eps = eps
    return model


def run_face(model: Any, batch: Batch, sizes: Sizes) -> Found:
    """Compute features and mean losses of a batch.

    Args:
        model: A ``FlavaForPreTraining``.
        batch: One of ``weights_probe.probes``.
        sizes: Say which objectives have weights.

    Returns:
        What was found.
    """
    padding = None if batch.text_padding is None else batch.text_padding.long()
    labels = batch.word_labels
    given = {
        "input_ids": batch.text,
        "input_ids_masked": batch.text_masked,
        "pixel_values": batch.image,
        "attention_mask": padding,
        "bool_masked_pos": batch.patch_mask,
        "mim_labels": None if batch.codes is None else batch.codes.clone(),  # it writes into them
        "mlm_labels": None if labels is None else labels.where(labels != IGNORE, IGNORED_THERE),
        "itm_labels": None if batch.matched is None else batch.matched.long(),
    }
    output = model(**given, return_loss=True)
    found = {
        "image": output.image_embeddings,
        "image_masked": output.image_masked_embeddings,
        "text": output.text_embeddings,
        "text_masked": output.text_masked_embeddings,
    }
    for name in ("image", "text"):
        states = found[name]
        if states is not None:
            project = getattr(model.flava, f"{name}_projection")
            found[f"{name}_projected"] = project(states[:, 0])
    if batch.modality == "pair":  # again, for its output holds the rows that count alone
        found["fused"] = model.flava(
            input_ids=batch.text_masked,
            pixel_values=batch.image,
            attention_mask=padding,
            bool_masked_pos=batch.patch_mask,
        ).multimodal_embeddings
    losses = output.loss_info
    found |= {f"loss.{n}": getattr(losses, LOSSES.get(n, n)) for n in sizes.objectives}
    return without_padding({n: v for n, v in found.items() if v is not None}, batch)


def write_folder(folder: Path, state: Mapping[str, Tensor], config: Any) -> None:
    """Write what ``from_pretrained`` reads.

    Args:
        folder: An empty folder.
        state: Tensors by Hugging Face's names, no two of which share memory.
        config: From ``config_of``.
    """
    config.save_pretrained(folder)
    save_file(dict(state), folder / WEIGHTS, {"format": "pt"})  # which from_pretrained asks for


def load_folder(folder: Path) -> Any:
    """Read a folder as a user of Hugging Face's does.

    Args:
        folder: The folder.

    Returns:
        A ``FlavaForPreTraining`` in evaluation; what the folder lacks is drawn at random.
    """
    logging = transformers().utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # that heads are missing is said by the conversion itself
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            model = transformers().FlavaForPreTraining.from_pretrained(
                folder, local_files_only=True
            )
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    return model.float().eval()
