"""Where a run's first weights come from: a section of a recipe."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator, model_validator

from flava_plugin.schema import InputPath, Section


class InitSection(Section):
    """Weights a run starts from: either ``run`` or ``weights``.

    Attributes:
        run: A run folder; the backbone of its newest checkpoint is taken.
        weights: A file of ours, such as ``flava weights convert`` writes: the backbone is taken,
            and of heads and logit scale what the recipe's objectives have by name and shape.
    """

    run: InputPath | None = None
    weights: InputPath | None = None

    @field_validator("weights")
    @classmethod
    def _is_safetensors(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".safetensors":
            raise ValueError("is no .safetensors file; 'flava weights convert' makes one")
        if path is not None and path.is_dir():
            raise ValueError("is a folder; name the file, or give a run folder as init.run")
        return path

    @model_validator(mode="after")
    def _one_of_both(self) -> InitSection:
        if (self.run is None) == (self.weights is None):
            raise ValueError("give either run or weights, and not both")
        return self
