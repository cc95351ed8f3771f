"""A name in a recipe -> a builder; the builder's signature is the schema of its options.

Positional-only parameters come from the program, keyword-only ones from the recipe. A component is
announced by one entry point of its own (``[project.entry-points."flava_plugin.heads"]``), so that
listing names reads package metadata and imports nothing; code that is not packaged registers with
the decorator and is named under ``plugins:`` in the recipe.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from pydantic import BaseModel

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """Where a registered name comes from.

    Attributes:
        name: The name in a recipe.
        kind: ``encoder``, ``head`` and so on.
        target: ``module:attribute`` of the builder.
        package: Name of the distribution that announces it, or the module of the decorator.
        version: That distribution's version, or an empty string.
    """

    name: str
    kind: str
    target: str
    package: str
    version: str = ""

    @property
    def owner(self) -> str:
        """The package and the builder, for error messages."""
        return f"{self.package} ({self.target})"


class Registry:
    """The components of one kind.

    Args:
        kind: The singular name of the kind.
        group: The entry point group, ``flava_plugin.<plural of the kind>``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._decorated: dict[str, tuple[Entry, Callable[..., Any]]] = {}
        self._failures: dict[str, str] = {}
        self._schemas: dict[str, type[BaseModel]] = {}

    @cached_property
    def _announced(self) -> dict[str, tuple[Entry, EntryPoint]]:
        found: dict[str, tuple[Entry, EntryPoint]] = {}
        for point in entry_points(group=self.group):
            package = point.dist.name if point.dist else "unknown package"
            version = point.dist.version if point.dist else ""
            entry = Entry(point.name, self.kind, point.value, package, version)
            if point.name in found and found[point.name][0] != entry:
                self._refuse_duplicate(found[point.name][0], entry)
            found[point.name] = (entry, point)
        return found

    def _refuse_duplicate(self, first: Entry, second: Entry) -> None:
        raise ValueError(
            f"{self.kind} '{second.name}' is registered twice: by {first.owner} and by "
            f"{second.owner}; rename one of them"
        )

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Register a builder that no package announces.

        Args:
            name: The name a recipe will use.

        Returns:
            A decorator that returns its builder unchanged.
        """

        def add(builder: Builder) -> Builder:
            target = f"{builder.__module__}:{builder.__qualname__}"
            entry = Entry(name, self.kind, target, builder.__module__)
            known = self._decorated.get(name) or self._announced.get(name)
            if known and known[0].target != target:
                self._refuse_duplicate(known[0], entry)
            if name not in self._announced:
                check_signature(self.kind, name, builder)
                self._decorated[name] = (entry, builder)
                self._schemas.pop(name, None)
            return builder

        return add

    def entries(self) -> list[Entry]:
        """Every component, sorted by name, without importing any."""
        known: Mapping[str, tuple[Entry, Any]] = {**self._announced, **self._decorated}
        return [known[name][0] for name in sorted(known)]

    def names(self) -> list[str]:
        """Every registered name, sorted, without importing any component."""
        return [entry.name for entry in self.entries()]

    def get(self, name: str) -> Callable[..., Any]:
        """Import and return a builder.

        Args:
            name: A registered name.

        Returns:
            The builder, its signature checked.

        Raises:
            ValueError: No such name, or its package fails to import; the text says which.
        """
        if name in self._decorated:
            return self._decorated[name][1]
        if name not in self._announced:
            guess = get_close_matches(name, self.names(), n=1)
            hint = f"did you mean '{guess[0]}'?" if guess else f"known: {', '.join(self.names())}"
            raise ValueError(f"no {self.kind} named '{name}'; {hint}{self._quoted_failures()}")
        entry, point = self._announced[name]
        try:
            builder: Callable[..., Any] = point.load()
        except Exception as error:  # any failure of a foreign package is its owner's, and is quoted
            self._failures[name] = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{self.kind} '{name}' of {entry.owner} fails to import: {self._failures[name]}"
            ) from error
        check_signature(self.kind, name, builder)
        return builder

    def _quoted_failures(self) -> str:
        quoted = [f"'{name}' ({text})" for name, text in self._failures.items()]
        return f" (failed to import: {', '.join(quoted)})" if quoted else ""

    def schema(self, name: str) -> type[BaseModel]:
        """Build the pydantic model of a component's options from its keyword-only parameters.

        Args:
            name: A registered name.

        Returns:
            A strict model; its fields are the options.
        """
        if name in self._schemas:
            return self._schemas[name]
        from pydantic import create_model

        from flava_plugin.schema import Section

        builder = self.get(name)
        hints = option_types(builder)
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(builder).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                required = parameter.default is parameter.empty
                default = ... if required else parameter.default
                fields[parameter.name] = (hints[parameter.name], default)
        self._schemas[name] = create_model(name, __base__=Section, **fields)
        return self._schemas[name]

    def build(self, name: str, /, *runtime: Any, **options: Any) -> Any:
        """Build a component.

        Args:
            name: A registered name.
            *runtime: What the program passes (positional-only parameters).
            **options: What the recipe says; checked against the schema.

        Returns:
            What the builder returns.
        """
        checked = self.schema(name)(**options)
        values = {field: getattr(checked, field) for field in type(checked).model_fields}
        return self.get(name)(*runtime, **values)


def check_signature(kind: str, name: str, builder: Callable[..., Any]) -> None:
    """Refuse a builder whose signature cannot be a schema.

    Args:
        kind: Kind of component, for the message.
        name: Registered name, for the message.
        builder: The function or class.

    Raises:
        ValueError: A parameter is neither positional-only nor keyword-only, or is not annotated.
    """
    for parameter in inspect.signature(builder).parameters.values():
        where = f"{kind} '{name}': parameter '{parameter.name}'"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(f"{where} collects anything; name each option, so typos are caught")
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            raise ValueError(
                f"{where} must be positional-only (given by the program, before '/') or "
                "keyword-only (given by the recipe, after '*')"
            )
        if parameter.annotation is parameter.empty:
            raise ValueError(f"{where} has no type annotation")


def option_types(builder: Callable[..., Any]) -> dict[str, Any]:
    """Types of a builder's parameters, numbers made strict (see ``schema.refuse_bool``).

    Args:
        builder: A function or class.

    Returns:
        Type by parameter name.
    """
    from flava_plugin.schema import Float, Int

    function = builder.__init__ if inspect.isclass(builder) else builder
    strict = {int: Int, float: Float}
    hints = get_type_hints(function, include_extras=True)
    return {name: strict.get(hint, hint) for name, hint in hints.items()}


encoders = Registry("encoder", "flava_plugin.encoders")
codebooks = Registry("codebook", "flava_plugin.codebooks")
tokenizers = Registry("tokenizer", "flava_plugin.tokenizers")
heads = Registry("head", "flava_plugin.heads")
losses = Registry("loss", "flava_plugin.losses")
datasets = Registry("dataset", "flava_plugin.datasets")
evaluators = Registry("evaluator", "flava_plugin.evaluators")
balances = Registry("balance", "flava_plugin.balances")
mixtures = Registry("mixture", "flava_plugin.mixtures")

REGISTRIES = {
    "encoders": encoders,
    "codebooks": codebooks,
    "tokenizers": tokenizers,
    "heads": heads,
    "losses": losses,
    "datasets": datasets,
    "evaluators": evaluators,
    "balances": balances,
    "mixtures": mixtures,
}
