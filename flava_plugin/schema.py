"""The ground every recipe section stands on: strict keys, safe numbers, checked paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def refuse_bool(value: Any) -> Any:
    """Refuse a YAML truth value where a number is wanted (``yes``, ``on`` and ``true`` are such).

    Args:
        value: The value as YAML gave it.

    Returns:
        The value, if it is no truth value.

    Raises:
        ValueError: It is one.
    """
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a truth value")
    return value


Int = Annotated[int, BeforeValidator(refuse_bool)]
Float = Annotated[float, BeforeValidator(refuse_bool)]
Share = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0, le=1)]
Positive = Annotated[Int, Field(gt=0)]
Count = Annotated[Int, Field(ge=0)]
NonNegative = Annotated[Float, Field(ge=0)]
PositiveFloat = Annotated[Float, Field(gt=0)]


class MustExist:
    """Marks a path that has to exist before a run starts (``InputPath``, ``Location``)."""


def expand_variables(value: Any) -> Any:
    """Replace ``$VAR`` in a path by the environment's value; an unset variable stays as written.

    Args:
        value: The value as YAML gave it.

    Returns:
        The expanded text, or the value if it is no text.
    """
    return os.path.expandvars(value) if isinstance(value, str) else value


InputPath = Annotated[Path, BeforeValidator(expand_variables), MustExist()]
"""A path of a recipe that is read: ``$VAR`` is expanded, and ``flava train`` checks it exists."""


Location = Annotated[str, BeforeValidator(expand_variables), MustExist()]
"""A path or a URL of a recipe that is read: ``$VAR`` is expanded; a path is checked to exist."""


class Kind:
    """Marks a component with the kind of registry its name is looked up in.

    Args:
        name: A key of ``registry.REGISTRIES``.
        alone: Whether a recipe may give the name alone (``by_name``).
    """

    def __init__(self, name: str, *, alone: bool = False) -> None:
        self.name = name
        self.alone = alone


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(Section):
    """A registered component as a recipe names it: ``{type: name, option: value, ...}``.

    Attributes:
        type: The registered name.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    type: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


EncoderSpec = Annotated[Component, Kind("encoders")]
CodebookSpec = Annotated[Component, Kind("codebooks")]
TokenizerSpec = Annotated[Component, Kind("tokenizers")]
HeadSpec = Annotated[Component, Kind("heads")]
LossSpec = Annotated[Component, Kind("losses")]
DatasetSpec = Annotated[Component, Kind("datasets")]
EvaluatorSpec = Annotated[Component, Kind("evaluators")]


def by_name(value: Any) -> Any:
    """Read a strategy that is named alone as a component without options.

    Args:
        value: The value as YAML gave it.

    Returns:
        ``{type: value}`` for a name, else the value.
    """
    return {"type": value} if isinstance(value, str) else value


BalanceSpec = Annotated[Component, BeforeValidator(by_name), Kind("balances", alone=True)]
MixtureSpec = Annotated[Component, BeforeValidator(by_name), Kind("mixtures", alone=True)]
