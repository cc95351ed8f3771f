"""``flava data check``: read everything, and name all that is damaged."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from flava_plugin.cli.amounts import budget, whole
from flava_plugin.cli.data_sources import build_dataset, check_out, name_dataset, spare_source
from flava_plugin.cli.progress import add_progress, bar
from flava_plugin.durable import TEMPORARY, sync

if TYPE_CHECKING:
    from flava_plugin.data.checking import Findings
    from flava_plugin.types import Modality


class _Source(NamedTuple):
    """Something to be checked; an empty name is the only one."""

    name: str
    dataset: Any
    kind: Modality
    options: dict[str, Any]


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    check = actions.add_parser(
        "check",
        help="read all of a dataset, or of a recipe's sources, and name what is damaged",
        description="Read every sample: each text, each picture decoded; of shards also every "
        "byte against the digests of their index. The content hash is the same for the same "
        "samples in any order, packed or not.",
    )
    check.add_argument(
        "data",
        metavar="FOLDER|RECIPE|DATASET",
        help="a folder of indexed shards or of pictures, a recipe, or a registered dataset",
    )
    check.add_argument(
        "overrides", nargs="*", metavar="key=value", help="options of the dataset or the recipe"
    )
    check.add_argument(
        "--kind", choices=["pair", "image", "text"], help="what a sample holds (default: asks it)"
    )
    check.add_argument("--no-decode", action="store_true", help="do not decode pictures")
    check.add_argument("--jobs", type=whole, default=1, help="processes (%(default)s)")
    check.add_argument(
        "--budget",
        type=budget,
        default="0",
        metavar="N|SHARE",
        help="damage of each source that is no failure (%(default)s)",
    )
    check.add_argument(
        "--report", type=Path, metavar="FILE", help="name all damage there, as JSON lines"
    )
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    add_progress(check)
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Check a dataset or a recipe's sources.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 sound but for the budget, 1 damaged beyond it or unreadable, 2 the command line is
        refused.

    Raises:
        RecipeError: The recipe is refused.
    """
    from flava_plugin.recipe import RecipeError

    try:
        if arguments.report:
            check_out(arguments.report, "--report")
        sources = _sources(arguments)
        if arguments.report:
            for source in sources:
                spare_source(arguments.report, source.options, "--report", only_same=True)
    except RecipeError:
        raise
    except ValueError as error:
        print(f"flava data check: {error}", file=sys.stderr)
        return 2
    from flava_plugin.data.damage import StoreError

    results = []
    try:
        with _Report(arguments.report) as report:
            for source in sources:
                results.append(_check(source, arguments, report))
                if not arguments.json:
                    print(_text(source.name or arguments.data, results[-1]))
    except (ValueError, OSError, StoreError) as error:
        print(f"flava data check: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(results))
    if arguments.report and not arguments.json:
        print(f"{arguments.report}: names all that is damaged")
    return int(any(not result["within_budget"] for result in results))


def _sources(arguments: argparse.Namespace) -> list[_Source]:
    from flava_plugin import registry

    name, path = arguments.data, Path(arguments.data)
    is_run = (path / "recipe.yaml").is_file()
    is_named = name in registry.datasets.names() or "://" in name
    if not is_named and (is_run or not path.is_dir()):
        from flava_plugin.recipe import load_recipe, recipe_names

        if not path.exists() and name not in recipe_names():
            raise ValueError(
                f"{name}: no such folder, recipe or registered dataset; see: flava ls datasets"
            )
        recipe = load_recipe(name, arguments.overrides)
        return [
            _Source(
                f"data.sources.{each}",
                build_dataset(source.dataset.type, source.dataset.options),
                arguments.kind or source.modality,
                source.dataset.options,
            )
            for each, source in recipe.data.sources.items()
        ]
    name, options = name_dataset(name, arguments.overrides)
    dataset = build_dataset(name, options)
    from flava_plugin.data.raw_reading import kind_of

    return [_Source("", dataset, arguments.kind or kind_of(dataset), options)]


def _check(source: _Source, arguments: argparse.Namespace, report: _Report) -> dict[str, Any]:
    from flava_plugin.data.checking import Findings, check

    found = Findings()
    examples: dict[str, str] = {}
    counts: dict[str, int] = {}
    misnamed = 0
    with bar(len(source.dataset), "sample", arguments) as shown:
        parts = check(
            source.dataset,
            source.kind,
            decoded=not arguments.no_decode,
            jobs=arguments.jobs,
            tick=shown.update,
        )
        for part in parts:
            report.add(source.name, part)
            for reason, number in part.counts().items():
                counts[reason] = counts.get(reason, 0) + number
            for each in (*part.damage, *part.misnamed):
                examples.setdefault(each.reason, each.detail)
            misnamed += len(part.misnamed)
            part.damage, part.misnamed = [], []  # told; a large set's would fill the memory
            found.add(part)
    unlisted = _unlisted(source.dataset)
    return {
        "source": source.name,
        "kind": source.kind,
        "samples": found.samples,
        "bytes": found.size,
        "formats": dict(sorted(found.formats.items())),
        "decoded": not arguments.no_decode and source.kind != "text",
        "damage": dict(sorted(counts.items())),
        "examples": examples,
        "misnamed": misnamed,
        "unlisted": unlisted,
        "content": f"{found.content:032x}",
        "within_budget": sum(counts.values()) <= arguments.budget.allowed(found.samples),
    }


def _unlisted(dataset: Any) -> list[str]:
    """Tars of a folder that its index does not know."""
    from flava_plugin.data.shards.indexing import find_tars
    from flava_plugin.data.shards.shard_set import ShardSet
    from flava_plugin.data.shards.store import LocalStore

    if not isinstance(dataset, ShardSet) or not isinstance(dataset.store, LocalStore):
        return []
    listed = {dataset.manifest.name(number) for number in range(len(dataset.manifest))}
    try:
        return [name for name in find_tars(dataset.store.folder) if name not in listed]
    except ValueError:  # no tar is left; that all are missing has been said
        return []


class _Report:
    """The file that names all damage; it gets its name when everything has been read."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: TextIO | None = None

    def __enter__(self) -> _Report:
        if self.path is not None:
            self._temporary = self.path.with_name(f"{TEMPORARY}{self.path.name}")
            self._file = self._temporary.open("w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._file is None or self.path is None:
            return
        self._file.close()
        if kind is None:
            sync(self._temporary)
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink(missing_ok=True)

    def add(self, source: str, found: Findings) -> None:
        for each in (*found.damage, *found.misnamed):
            if self._file is not None:
                self._file.write(json.dumps({"source": source, **each._asdict()}) + "\n")


def _text(name: str, result: dict[str, Any]) -> str:
    return "\n".join(_lines(name, result))


def _lines(name: str, result: dict[str, Any]) -> Iterator[str]:
    formats = ", ".join(f"{number} {each}" for each, number in result["formats"].items())
    pictures = f"; pictures: {formats}" if formats else ""
    yield (
        f"{name}: {result['samples']} samples ({result['kind']}), {result['bytes'] / 1e6:.1f} MB"
        f"{pictures}"
    )
    yield f"  content hash {result['content']}"
    if formats and not result["decoded"]:
        yield "  pictures were not decoded"
    for reason, number in result["damage"].items():
        yield f"  {number} x {reason}, such as {result['examples'][reason]}"
    if not result["damage"]:
        yield "  nothing is damaged"
    if result["misnamed"]:
        yield (
            f"  {result['misnamed']} pictures are of another format than their names say, and are "
            f"read all the same, such as {result['examples']['misnamed picture']}"
        )
    if result["unlisted"]:
        yield (
            f"  {len(result['unlisted'])} tars are not in the index and so are not read, such as "
            f"{result['unlisted'][0]}; run: flava data index FOLDER"
        )
