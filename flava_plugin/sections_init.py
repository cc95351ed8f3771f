"""Where a run's first weights come from: a section of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from flava_plugin.schema import InputPath, Section

PICKLED = (".pt", ".pth", ".bin")
"""Endings that files of ViTs have besides .safetensors (``model/weights_vit.py``)."""


class ImageInit(Section):
    """Weights the image encoder starts from: either ``run`` or ``weights``.

    Attributes:
        run: A run folder; the image encoder of its newest checkpoint is taken.
        weights: A file of ours, whose image encoder is taken, or a ViT by the names of timm, DINO,
            DINOv2 or Hugging Face.
        head: Take besides the head of objective ``mim``. Whatever of it does not fit is refused.
    """

    run: InputPath | None = None
    weights: InputPath | None = None
    head: bool = False

    @field_validator("weights")
    @classmethod
    def _is_weights(cls, path: Path | None) -> Path | None:
        _no_folder(path, "init.image.run")
        if path is not None and path.suffix not in (".safetensors", *PICKLED):
            raise ValueError(f"is none of .safetensors, {', '.join(PICKLED)}")
        return path

    @model_validator(mode="after")
    def _one_of_both(self) -> ImageInit:
        _one_of(self.run, self.weights)
        return self


class TextInit(Section):
    """Weights the text encoder starts from: either ``run`` or ``weights``.

    Attributes:
        run: A run folder; the text encoder of its newest checkpoint is taken. Its tokenizer has to
            be this recipe's.
        weights: A file of ours, whose text encoder is taken. It says of the tokenizer no more than
            how many words that has.
        head: Take besides the head of objective ``mlm``. Whatever of it does not fit is refused.
    """

    run: InputPath | None = None
    weights: InputPath | None = None
    head: bool = False

    @field_validator("weights")
    @classmethod
    def _is_safetensors(cls, path: Path | None) -> Path | None:
        _no_folder(path, "init.text.run")
        if path is not None and path.suffix != ".safetensors":
            raise ValueError(
                "is no .safetensors file; 'flava weights convert' makes one of a FLAVA. BERT's "
                "weights are none for FLAVA's text encoder, which is pre-norm where BERT is "
                "post-norm"
            )
        return path

    @model_validator(mode="after")
    def _one_of_both(self) -> TextInit:
        _one_of(self.run, self.weights)
        return self


EncoderInit = ImageInit | TextInit


class InitSection(Section):
    """Weights a run starts from: ``run``, ``weights``, or ``image``, ``text`` or both of these.

    Attributes:
        run: A run folder; the backbone of its newest checkpoint is taken.
        weights: A file of ours, such as ``flava weights convert`` writes: the backbone is taken,
            and of heads and logit scale what the recipe's objectives have by name and shape.
        image: Where the image encoder comes from (paper: a ViT trained by DINO).
        text: Where the text encoder comes from (paper: one trained by MLM). All that neither names
            stays fresh.
    """

    run: InputPath | None = None
    weights: InputPath | None = None
    image: ImageInit | None = None
    text: TextInit | None = None

    @property
    def runs(self) -> dict[str, Path]:
        """Run folders that are read, by the key that names each."""
        parts = {"init": self, "init.image": self.image, "init.text": self.text}
        return {
            f"{place}.run": part.run
            for place, part in parts.items()
            if part is not None and part.run is not None
        }

    @field_validator("weights")
    @classmethod
    def _is_safetensors(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".safetensors":
            raise ValueError("is no .safetensors file; 'flava weights convert' makes one")
        _no_folder(path, "init.run")
        return path

    @model_validator(mode="after")
    def _one_of_all(self) -> InitSection:
        ways = (self.run, self.weights, self.image or self.text)
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "give either run or weights, and not both; or image, text or both of these"
            )
        return self

    @model_serializer(mode="wrap")
    def _what_is_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave absent encoders out: a run of before them goes on, its recipe being the same."""
        found = dict(handler(self))
        return {k: v for k, v in found.items() if v is not None or k in ("run", "weights")}


def _one_of(run: Path | None, weights: Path | None) -> None:
    if (run is None) == (weights is None):
        raise ValueError("give either run or weights, and not both")


def _no_folder(path: Path | None, key: str) -> None:
    if path is not None and path.is_dir():
        raise ValueError(f"is a folder; name the file, or give a run folder as {key}")
