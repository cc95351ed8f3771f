"""Every registered name keeps the contract, because it is registered."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from flava_plugin.registry import REGISTRIES, check_signature

ROOT = Path(__file__).resolve().parents[2]
# What other tests register by decorator is not the package's.
NAMES = [
    (kind, entry.name)
    for kind, registry in REGISTRIES.items()
    for entry in registry.entries()
    if entry.package == "flava-plugin"
]


def test_every_kind_has_a_component() -> None:
    assert {kind for kind, _ in NAMES} == set(REGISTRIES)


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_component_says_what_it_is(kind: str, name: str) -> None:
    builder = REGISTRIES[kind].get(name)
    first = (inspect.getdoc(builder) or "").partition("\n")[0]
    assert first.endswith((".", ":")), f"{kind} '{name}': the docstring starts with a sentence"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_signature_is_a_schema(kind: str, name: str) -> None:
    registry = REGISTRIES[kind]
    builder = registry.get(name)
    check_signature(registry.kind, name, builder)
    fields = registry.schema(name).model_fields
    documented = (inspect.getdoc(builder) or "") + (inspect.getdoc(builder.__init__) or "")
    for option in fields:
        assert f"{option}:" in documented, f"{kind} '{name}': option {option} is not explained"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_defaults_pass_their_own_check(kind: str, name: str) -> None:
    schema = REGISTRIES[kind].schema(name)
    defaults = {
        option: field.default
        for option, field in schema.model_fields.items()
        if not field.is_required()
    }
    required = {option for option, field in schema.model_fields.items() if field.is_required()}
    if not required:
        schema(**defaults)


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_an_entry_names_its_own_package(kind: str, name: str) -> None:
    entry = next(e for e in REGISTRIES[kind].entries() if e.name == name)
    assert entry.kind == REGISTRIES[kind].kind
    assert entry.target.startswith("flava_plugin.")
