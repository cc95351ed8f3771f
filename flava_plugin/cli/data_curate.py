"""``flava data curate``: choose which samples of a source are worth training on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flava_plugin.cli.amounts import whole
from flava_plugin.cli.progress import add_progress, bar

if TYPE_CHECKING:
    from flava_plugin.data.curation.parts import Parts
    from flava_plugin.data.curation.scoring import RunScores
    from flava_plugin.data.curation.sections import CurationPlan
    from flava_plugin.data.spreading import Tick

_STEPS = """\
steps, in the order they are given; each sees what the ones before have left:
  basic            short captions, other languages, small and long pictures go (DataComp)
                   [min_words=3 min_chars=6 min_side=200 max_aspect=3 min_ascii=0.9]
  score            the best by a score stay: score=NAME, share=0.3 or min=0.28 [of=kept|all]
  duplicates       one of the same stays [same=pair|picture|text prefer=NAME]
  near_duplicates  one of pictures that look alike stays [distance=4 prefer=NAME|pixels]
  balance          frequent things become rarer (MetaCLIP): metadata=FILE, an entry on each line
                   [threshold=20000, or tail=0.06; unmatched=drop|keep ignore_case=false]
scores: --score NAME record=KEY (of a sample's JSON), file=FILE [key=key column=NAME] (parquet or
CSV), or run=FOLDER [checkpoint=latest] (the cosine a training of ours gives)

the same as a file for --plan:
  seed: 0
  scores:
    clip: {record: similarity}
  steps:
    - {type: basic}
    - {type: score, score: clip, share: 0.3}
    - {type: near_duplicates, distance: 4, prefer: clip}
    - {type: balance, metadata: entries.txt, threshold: 20000}
"""


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    curate = actions.add_parser(
        "curate",
        help="choose samples: balance, filter by scores, drop duplicates",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Read a source once, then choose from the tables of that scan. Writes\n"
        "selection.safetensors, for the option 'selection' of webdataset_pairs and the like (any\n"
        "other dataset goes into 'selected'), and curation.json, which says how it was made. It\n"
        "can be stopped and run again; the same plan on the same source gives the same bytes.\n"
        "A scan's tables take 60 bytes a sample and the texts; choosing takes 90 bytes of memory.",
        epilog=_STEPS,
    )
    curate.add_argument("source", help="a folder of indexed shards, or a registered dataset's name")
    curate.add_argument("options", nargs="*", metavar="key=value", help="options of the dataset")
    curate.add_argument("--out", type=Path, required=True, help="folder to write to")
    curate.add_argument("--tables", type=Path, help="folder of the scan's tables (OUT/tables)")
    curate.add_argument("--plan", type=Path, metavar="FILE", help="scores and steps as YAML")
    curate.add_argument(
        "--step",
        nargs="+",
        action="append",
        default=[],
        metavar=("TYPE", "key=value"),
        help="a step; may be given again",
    )
    curate.add_argument(
        "--score",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "key=value"),
        help="a score of each sample; may be given again",
    )
    curate.add_argument("--key", help="key of a sample's JSON that names it in files of scores")
    curate.add_argument("--seed", type=int, help="of chance (0)")
    curate.add_argument("--replace", action="store_true", help="write over another selection")
    curate.add_argument("--jobs", type=whole, default=1, help="processes (%(default)s)")
    curate.add_argument("--json", action="store_true", help="print the record as JSON")
    add_progress(curate)
    curate.set_defaults(run=run_curate)


def run_curate(arguments: argparse.Namespace) -> int:
    """Curate a source and say what is left.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 done, 1 the data do not serve, 2 the command line or the plan is refused.
    """
    from flava_plugin.cli.data_sources import build_dataset, name_dataset, spare_source

    try:
        plan = _plan(arguments)
        from flava_plugin.data.curation.curate import Curation, refuse_other
        from flava_plugin.data.curation.parts import parts_of

        _check_files(arguments, plan)
        kind, options = name_dataset(arguments.source, arguments.options)
        spare_source(arguments.out, options, "--out", only_same=True)
        parts = parts_of(build_dataset(kind, options))
        if not arguments.replace:
            refuse_other(arguments.out, plan, parts)
        tables = arguments.tables or arguments.out / "tables"
        runs = _runs(plan, parts, tables)
    except ValueError as error:
        for line in str(error).splitlines():
            print(f"flava data curate: {line}", file=sys.stderr)
        return 2
    name = " ".join([arguments.source, *arguments.options])
    work = Curation(parts, name, plan, arguments.out, tables, runs, arguments.jobs)
    bars = _Bars(arguments)
    from flava_plugin.data.damage import StoreError

    try:
        record = work.carry_out(bars.begin)
    except (ValueError, OSError, StoreError) as error:
        bars.end()
        print(f"flava data curate: {error}", file=sys.stderr)
        return 1
    bars.end()
    print(json.dumps(record) if arguments.json else _text(arguments.out, record))
    if not record["kept"]:
        print("flava data curate: no sample is left; see the steps", file=sys.stderr)
    return 0 if record["kept"] else 1


class _Bars:
    """A bar for each kind of work, one after the other."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self._shown: Any = None

    def begin(self, name: str, parts: int) -> Tick:
        self.end()
        self._shown = bar(parts, "part", self.arguments)
        self._shown.set_description(name)
        update: Tick = self._shown.update
        return update

    def end(self) -> None:
        if self._shown is not None:
            self._shown.close()


def _plan(arguments: argparse.Namespace) -> CurationPlan:
    from flava_plugin.data.curation.sections import read_plan
    from flava_plugin.strict_yaml import MOST_BYTES, parse

    if arguments.plan is not None:
        given = [f"--{name}" for name in ("step", "score") if getattr(arguments, name)]
        given += [f"--{n}" for n in ("key", "seed") if getattr(arguments, n) is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: stands in the --plan, or there is no --plan")
        try:
            if arguments.plan.stat().st_size > MOST_BYTES:
                raise ValueError(f"--plan {arguments.plan}: is larger than a plan can be")
            return read_plan(parse(arguments.plan.read_text("utf-8")), str(arguments.plan))
        except OSError as error:
            raise ValueError(f"--plan {arguments.plan}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"--plan {arguments.plan}: no UTF-8 text") from error
    if not arguments.step:
        raise ValueError("nothing to do; give a --plan, or a --step such as: --step duplicates")
    names = [name for name, *_ in arguments.score]
    if len(set(names)) < len(names):
        raise ValueError("--score: a name stands twice")
    plan: dict[str, Any] = {
        "scores": {name: _options("--score", words) for name, *words in arguments.score},
        "steps": [{"type": kind, **_options("--step", words)} for kind, *words in arguments.step],
    }
    plan |= {n: getattr(arguments, n) for n in ("key", "seed") if getattr(arguments, n) is not None}
    return read_plan(plan, "the command line")


def _check_files(arguments: argparse.Namespace, plan: CurationPlan) -> None:
    """Refuse files that are not there before a scan of hours and not after it."""
    for folder, option in ((arguments.out, "--out"), (arguments.tables, "--tables")):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ValueError(f"{option} {folder}: is a file; name a folder")
    for name, score in plan.scores.items():
        if score.file is not None and not score.file.is_file():
            raise ValueError(
                f"scores.{name}: {score.file}: no such file; name a parquet or CSV file"
            )
    for place, step in enumerate(plan.steps):
        file = getattr(step, "metadata", None) or getattr(getattr(step, "hashes", 0), "file", None)
        if file is not None and not file.is_file():
            raise ValueError(f"steps.{place}: {file}: no such file; name one")


def _options(option: str, words: Sequence[str]) -> dict[str, Any]:
    from flava_plugin.strict_yaml import parse

    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or key in found:
            raise ValueError(f"{option}: '{word}' is no key=value, or stands twice")
        try:
            found[key] = parse(value)
        except ValueError as error:
            raise ValueError(f"{option} '{word}': {error}") from error
    return found


def _runs(plan: CurationPlan, parts: Parts, tables: Path) -> dict[str, RunScores]:
    """The works of scoring by trained models; they are loaded where something is to be done."""
    scored = {name: section for name, section in plan.scores.items() if section.run is not None}
    if not scored:
        return {}
    from flava_plugin.data.curation.scoring import RunScores
    from flava_plugin.evaluate.agreement import agreement_of, weights_of

    runs = {}
    for name, section in scored.items():
        assert section.run is not None, "these have one"
        weights = weights_of(section.run, section.checkpoint)
        runs[name] = RunScores(parts, tables, weights, None)
        if runs[name].todo():
            runs[name].judge = agreement_of(section.run, section.checkpoint)
    return runs


def _text(out: Path, record: dict[str, Any]) -> str:
    lines = [f"{'step':<18}{'in':>14}{'kept':>14}{'share':>9}"]
    for step in record["steps"]:
        share = f"{step['kept'] / step['in']:.2%}" if step["in"] else "-"
        lines.append(f"{step['type']:<18}{step['in']:>14,}{step['kept']:>14,}{share:>9}")
        details = {**step.get("report", {}), **step.get("faults", {})}
        shown = (f"{name} {value}" for name, value in details.items() if name != "most")
        text = ", ".join(shown).replace("{", "").replace("}", "").replace("'", "")
        lines += [f"  {text}"] if text else []
    lines.append(
        f"{out}: {record['kept']:,} of {record['samples']:,} samples are used; "
        f"set selection: {out}/selection.safetensors"
    )
    return "\n".join(lines)
