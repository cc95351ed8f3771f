"""Reads what ``flava weights convert`` is given: a file, a Hugging Face folder or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flava_plugin.model.hugging_face_folder import CONFIG, read_folder
from flava_plugin.model.weights import (
    HEAD_NORM_EPS,
    PADDING,
    check,
    from_hugging_face,
    from_torchmultimodal,
    guess_format,
)
from flava_plugin.model.weights_file import PICKLED, Settings, read_pickled, read_safetensors
from flava_plugin.model.weights_names import Format
from flava_plugin.model.weights_shapes import Sizes, objective_of, sizes_of
from flava_plugin.train import checkpoint

Heads = tuple[int, int, int]

HEAD_WIDTH = 64
"""Width of an attention head in every published FLAVA (768 / 12)."""

UNSEEN = "the check cannot see a wrong number of attention heads, for both sides are given the same"


@dataclass(frozen=True)
class Source:
    """Weights as they were read.

    Attributes:
        state: Checked tensors by our names.
        origin: Whose names they had.
        sizes: Their sizes.
        settings: What they were made with.
        told: What had to be assumed or left out, for the user.
        loss_weights: What the source weighs a loss by where that is not 1, by objective.
    """

    state: Mapping[str, Tensor]
    origin: Format
    sizes: Sizes
    settings: Settings
    told: tuple[str, ...]
    loss_weights: Mapping[str, float]


def read_source(
    path: Path, *, origin: Format | None, heads: Heads | None, model_only: bool
) -> Source:
    """Read and check weights of any known kind.

    Args:
        path: A file, a folder of Hugging Face's, or a run folder.
        origin: Whose names they have; None guesses.
        heads: Attention heads, where the source does not say.
        model_only: Whether heads are left out, foreign ones included.

    Returns:
        The weights.

    Raises:
        ValueError: They cannot be read, do not fit a FLAVA, or contradict ``origin`` or ``heads``.
    """
    state, settings, known_heads, loss_weights = _read(path)
    try:
        found = guess_format(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if origin is not None and origin != found:
        raise ValueError(f"{path}: --from says {origin}, but these are the names of {found}")
    told = []
    if found == "flava_plugin" and model_only:
        state = {n: v for n, v in state.items() if objective_of(n) in (None, "contrastive")}
    translate = {
        "torchmultimodal": from_torchmultimodal,
        "hugging_face": from_hugging_face,
        "flava_plugin": check,
    }[found]
    try:
        ours = translate(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if model_only:
        ours = {n: v for n, v in ours.items() if objective_of(n) in (None, "contrastive")}
    if any(name.startswith("image_codebook.") for name in state):
        told.append("the codebook of the source is left out; 'flava weights dalle' converts it")
    sizes = sizes_of(ours)
    if settings is None:
        if known_heads is None:
            known_heads = heads or _usual_heads(sizes, path)
            if heads is None:
                told.append(
                    f"the source does not say its attention heads; width / {HEAD_WIDTH} is taken, "
                    "and --heads says otherwise"
                )
            told.append(UNSEEN)
        settings = Settings(
            known_heads,
            HEAD_NORM_EPS.get(found, 1e-5),
            PADDING.get(found, "masked"),
        )
        if found == "flava_plugin":
            told.append("the source does not say norm_eps and padding; 1e-5 and masked are taken")
    if heads is not None and heads != settings.heads:
        raise ValueError(f"{path}: --heads says {heads}, but the source says {settings.heads}")
    for encoder, number in zip((sizes.image, sizes.text, sizes.fused), settings.heads, strict=True):
        if encoder.width % number:
            raise ValueError(
                f"{path}: width {encoder.width} is not a multiple of {number} attention heads; "
                "say the right number with --heads"
            )
    return Source(ours, found, sizes, settings, tuple(told), loss_weights)


Read = tuple[dict[str, Tensor], Settings | None, Heads | None, Mapping[str, float]]


def _read(path: Path) -> Read:
    """Tensors, settings where known whole, heads where only these are known, losses' weights."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_dir():
        if (path / CONFIG).is_file():
            state, heads, loss_weights = read_folder(path)
            return state, None, heads, loss_weights
        if (path / "checkpoints").is_dir():
            found = checkpoint.find(path)
            return found.model(), settings_of(found.state.get("recipe"), path), None, {}
        raise ValueError(
            f"{path}: neither a folder of Hugging Face's, for it has no {CONFIG}, nor a run "
            "folder, for it has no checkpoints"
        )
    if path.suffix == ".safetensors":
        state, settings = read_safetensors(path)
        beside = path.parent / CONFIG
        if settings is None and path.name == "model.safetensors" and beside.is_file():
            raise ValueError(f"{path}: is part of a folder with a {CONFIG}; name the folder")
        return state, settings, None, {}
    if path.suffix in PICKLED:
        return read_pickled(path), None, None, {}
    raise ValueError(f"{path}: '{path.suffix}' is not .safetensors, {', '.join(PICKLED)}")


def settings_of(recipe: Any, path: Path) -> Settings:
    """Read from a run's recipe what its weights do not say.

    Args:
        recipe: The recipe as its checkpoint holds it, plain data with every default.
        path: Of the run, for messages.

    Returns:
        The settings.

    Raises:
        ValueError: Its encoders say no ``heads``, or its masked heads differ in ``norm_eps``.
    """
    try:
        model = recipe["model"]
        if model["fused_encoder"] is None:
            raise ValueError("model.fused_encoder is null: a dual encoder, which neither peer has")
        heads = tuple(
            int(model[name]["heads"]) for name in ("image_encoder", "text_encoder", "fused_encoder")
        )
        eps = {
            name: float(objective["head"]["norm_eps"])
            for name, objective in recipe["objectives"].items()
            if "norm_eps" in objective["head"]
        }
        padding = model["padding"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: its recipe does not say the encoders' heads and padding ({error!r}); only "
            "runs with FLAVA's own encoders can be converted"
        ) from error
    if len(set(eps.values())) > 1:
        raise ValueError(f"{path}: its heads differ in norm_eps, which no peer can say: {eps}")
    return Settings((heads[0], heads[1], heads[2]), next(iter(eps.values()), 1e-5), padding)


def _usual_heads(sizes: Sizes, path: Path) -> Heads:
    widths = (sizes.image.width, sizes.text.width, sizes.fused.width)
    if any(width % HEAD_WIDTH for width in widths):
        raise ValueError(
            f"{path}: does not say its attention heads, and its encoders' widths {widths} are no "
            f"multiples of {HEAD_WIDTH}, which would tell; say them with --heads"
        )
    return (widths[0] // HEAD_WIDTH, widths[1] // HEAD_WIDTH, widths[2] // HEAD_WIDTH)
