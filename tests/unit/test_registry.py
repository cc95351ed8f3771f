"""A name in a recipe -> a builder whose signature is the schema."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from flava_plugin import registry as module
from flava_plugin.registry import REGISTRIES, Registry
from flava_plugin.schema import InputPath


def head(
    width: int, /, *, classes: int, dropout: float = 0.1, reads: Literal["a", "b"] = "a"
) -> str:
    """Says what it was given."""
    return f"{width} {classes} {dropout} {reads}"


@pytest.fixture
def registry() -> Registry:
    found = Registry("head", "flava_plugin.none_such")
    found.register("linear")(head)
    return found


def announce(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> Registry:
    made = [EntryPoint(name, value, "tests.heads") for name, value in points]
    monkeypatch.setattr(module, "entry_points", lambda group: made)
    return Registry("head", "tests.heads")


def test_program_and_recipe_give_their_own_parameters(registry: Registry) -> None:
    assert registry.build("linear", 8, classes=3, reads="b") == "8 3 0.1 b"
    assert list(registry.schema("linear").model_fields) == ["classes", "dropout", "reads"]


def test_register_returns_the_builder_unchanged(registry: Registry) -> None:
    assert registry.register("again")(head) is head
    assert registry.get("again") is head


def test_a_class_is_a_builder(registry: Registry) -> None:
    class Pooled:
        def __init__(self, width: int, /, *, hidden: int = 2) -> None:
            self.size = width * hidden

    registry.register("pooled")(Pooled)
    assert registry.build("pooled", 4, hidden=3).size == 12


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": 3, "class": 4},
        {"classes": "three"},
        {"classes": True},
        {"classes": 2.5},
        {"classes": 3, "dropout": float("nan")},
        {"classes": 3, "dropout": False},
        {"classes": 3, "reads": "c"},
    ],
    ids=str,
)
def test_options_outside_the_signature_are_refused(
    registry: Registry, options: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        registry.build("linear", 8, **options)


def anything(*, width: int, **rest: int) -> None: ...
def several(*widths: int) -> None: ...
def either(width: int) -> None: ...
def untyped(*, width=1) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("builder", "says"),
    [
        (anything, "collects anything"),
        (several, "collects anything"),
        (either, "positional-only .* or keyword-only"),
        (untyped, "no type annotation"),
    ],
    ids=["kwargs", "args", "either", "untyped"],
)
def test_a_signature_that_is_no_schema_is_refused(
    registry: Registry, builder: Callable[..., Any], says: str
) -> None:
    with pytest.raises(ValueError, match=rf"head 'odd': parameter '\w+' .*{says}"):
        registry.register("odd")(builder)
    assert "odd" not in registry.names()


def test_an_unknown_name_is_answered_with_a_guess(registry: Registry) -> None:
    with pytest.raises(ValueError, match="no head named 'linaer'; did you mean 'linear'"):
        registry.get("linaer")
    with pytest.raises(ValueError, match="known: linear"):
        registry.get("zzz")


def test_duplicates_name_both_owners(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    with pytest.raises(ValueError, match=r"registered twice: by .*:head\) and by .*either"):
        registry.register("linear")(either)
    registry.register("linear")(head)  # the same builder again, as when a module is reloaded
    clash = announce(monkeypatch, ("one", "acme:One"), ("one", "emca:One"))
    with pytest.raises(ValueError, match=r"'one' is registered twice: .*acme:One.*emca:One"):
        clash.names()


def test_listing_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = announce(monkeypatch, ("broken", "no_such_module:Head"), ("a", "json:loads"))
    assert heads.names() == ["a", "broken"]
    assert heads.entries()[1].target == "no_such_module:Head"


def test_a_plugin_that_fails_to_import_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = announce(monkeypatch, ("broken", "no_such_module:Head"))
    with pytest.raises(ValueError, match="'broken' .*fails to import: ModuleNotFoundError"):
        heads.get("broken")
    with pytest.raises(ValueError, match="failed to import: 'broken'.*no_such_module"):
        heads.get("brokn")


def test_announced_builders_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = announce(monkeypatch, ("loads", "json:loads"))
    with pytest.raises(ValueError, match="head 'loads': parameter 's'"):
        heads.get("loads")


def test_paths_keep_their_marker(registry: Registry, tmp_path: Path) -> None:
    def reader(*, path: InputPath) -> Path:
        return path

    registry.register("reader")(reader)
    assert registry.build("reader", path=str(tmp_path)) == tmp_path


def test_every_kind_has_its_own_registry() -> None:
    groups = {registry.group for registry in REGISTRIES.values()}
    assert len(groups) == len(REGISTRIES)
    assert all(group.startswith("flava_plugin.") for group in groups)
