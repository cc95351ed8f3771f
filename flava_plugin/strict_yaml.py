"""YAML without its traps: no tags, no anchors, no duplicate keys, no keys that are not words."""

from __future__ import annotations

from typing import Any

import yaml

MOST_BYTES = 1_000_000
"""No recipe is larger; a larger file is not read."""


class YamlError(ValueError):
    """A file that is not plain YAML; the text says where and what to write instead."""


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which keeps no anchors and refuses what would change silently."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: a recipe says each thing where it stands (and cannot grow by itself)."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        where = _line(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError(f"{where}: anchors and aliases are not used in recipes")
        if getattr(event, "tag", None):
            raise YamlError(f"{where}: '{event.tag}': tags are refused")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse duplicate keys and keys YAML reads as something else than a word."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            where = _line(key_node.start_mark)
            if not isinstance(key, str):
                written = getattr(key_node, "value", key)
                raise YamlError(f"{where}: key '{written}' is read as {key!r}; put it in quotes")
            if key in seen:
                raise YamlError(f"{where}: key '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int | str:
    """Leave 24:00:00 the text it is, as YAML 1.2 does; 1.1 reads a number to the base of 60."""
    if ":" in node.value:
        return str(node.value)
    number: int = loader.construct_yaml_int(node)
    return number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def _line(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}" if mark else "somewhere"


def parse(text: str) -> Any:
    """Parse YAML text into dicts, lists and scalars.

    Args:
        text: The text of a recipe, or one value of an override.

    Returns:
        What it says.

    Raises:
        YamlError: It is no YAML, or uses what recipes do not use.
    """
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except YamlError:
        raise
    except yaml.constructor.ConstructorError as error:
        where = _line(error.problem_mark)
        raise YamlError(f"{where}: {error.problem}; tags are refused") from error
    except yaml.MarkedYAMLError as error:
        raise YamlError(f"{_line(error.problem_mark)}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise YamlError("nested too deeply to be a recipe") from error
    except ValueError as error:  # e.g. an impossible date such as 2024-99-99
        raise YamlError(f"a value cannot be read: {error}") from error


def dump(data: Any) -> str:
    """Write plain data as YAML.

    Args:
        data: Dicts, lists and scalars.

    Returns:
        Text that ``parse`` reads back.
    """
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return text
