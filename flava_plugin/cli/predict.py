"""``flava predict``: class names, answers, search and embeddings for files, as lines of JSON.

Exit codes: 0 done, 1 more inputs unreadable than ``--budget`` or nothing could be written, 2 the
command line, the run or an input is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flava_plugin.cli.amounts import budget, whole
from flava_plugin.cli.progress import add_progress, bar

if TYPE_CHECKING:
    from flava_plugin.evaluate.flava import Flava
    from flava_plugin.evaluate.prediction_inputs import Faults, Row


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "predict",
        help="classify, answer, search or embed files with a run",
        description="One of --names, --question, --query and --embed says what is done. Results "
        "are lines of JSON on stdout. Inputs are pictures, folders of pictures, .jsonl, .csv or "
        ".tsv with columns image and text or question, and .txt with a text a line.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a training")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="see above")
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument("--names", metavar="A,B", help="classify: class names, or a file of lines")
    modes.add_argument("--question", metavar="TEXT",
                       help="answer: for rows without their own; may be ''")  # fmt: skip
    modes.add_argument("--query", action="append", metavar="TEXT",
                       help="search inputs or one saved index; may be repeated")  # fmt: skip
    modes.add_argument("--embed", type=Path, metavar="FOLDER",
                       help="write embeddings as an index, which --query can search")  # fmt: skip
    parser.add_argument("--templates", type=Path, metavar="FILE",
                        help="prompts for --names, a line each, with {} for the name")  # fmt: skip
    parser.add_argument("--objective", default="answers", metavar="NAME",
                        help="the head for --question (default: answers)")  # fmt: skip
    parser.add_argument("--answers", type=Path, metavar="FILE",
                        help="its vocabulary, a line each (default: the run's data)")  # fmt: skip
    parser.add_argument("--texts", action="store_true", help="embed or search texts, not pictures")
    parser.add_argument("-k", type=whole, default=5, help="results for each (default: 5)")
    parser.add_argument("--budget", type=budget, default="0", metavar="N",
                        help="unreadable inputs put up with: a number or a share")  # fmt: skip
    parser.add_argument(
        "--checkpoint", default="latest", metavar="WHICH", help="latest, best or a number of steps"
    )
    add_progress(parser)
    parser.set_defaults(run=run_predict)


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code.
    """
    from flava_plugin.data.budget import damage_message
    from flava_plugin.evaluate.inference import load
    from flava_plugin.evaluate.prediction_inputs import Faults, check_inputs

    faults = Faults()
    try:
        check_inputs(arguments.inputs)
        flava = load(arguments.run_dir, arguments.checkpoint)
        if arguments.names is not None:
            results = _classify(flava, arguments, faults)
        elif arguments.question is not None:
            results = _answer(flava, arguments, faults)
        elif arguments.query is not None:
            results = _search(flava, arguments, faults)
        else:
            results = _embed(flava, arguments, faults)
        with bar(0, "input", arguments) as progress:
            for result in results:
                print(json.dumps(result, ensure_ascii=False), flush=True)
                progress.update()
    except ValueError as refused:
        print(f"flava predict: {refused}", file=sys.stderr)
        return 2
    allowed = arguments.budget.allowed(faults.read)
    bad = faults.counts.total()
    if bad > allowed:
        print(damage_message(faults.counts, faults.examples, allowed), file=sys.stderr)
        return 1
    for reason, number in sorted(faults.counts.items()):
        example = faults.examples[reason]
        print(f"left out {number} x {reason}, such as {example}", file=sys.stderr)
    return 0


def _classify(
    flava: Flava, arguments: argparse.Namespace, faults: Faults
) -> Iterator[dict[str, Any]]:
    from flava_plugin.evaluate import answering
    from flava_plugin.evaluate.samples import batches

    names = _names(arguments.names)
    templates = _lines(arguments.templates) if arguments.templates else None
    classes = answering.class_embeddings(flava, names, templates)
    for group in batches(_pictures(arguments, faults), flava.batch_size):
        embedded = flava.encode_image([picture for _, picture in group])
        chances = answering.probabilities(flava, embedded, classes)
        ranked = chances.sort(dim=-1, descending=True, stable=True)
        for (row, _), values, places in zip(group, ranked.values, ranked.indices, strict=True):
            best = zip(places[: arguments.k].tolist(), values.tolist(), strict=False)
            found = [{"name": names[place], "probability": value} for place, value in best]
            yield {"input": row.name, "classes": found}


def _answer(
    flava: Flava, arguments: argparse.Namespace, faults: Faults
) -> Iterator[dict[str, Any]]:
    from collections import deque

    from flava_plugin.evaluate.answering import answer_stream

    asked: deque[Row] = deque()

    def pairs() -> Iterator[tuple[Any, str]]:
        for row, picture in _pictures(arguments, faults, needs_text=True):
            asked.append(row)
            yield picture, row.text or ""

    words = _lines(arguments.answers) if arguments.answers else None
    found = answer_stream(
        flava, pairs(), k=arguments.k, objective=arguments.objective, answers=words
    )
    for guesses in found:
        row = asked.popleft()
        answers = [{"answer": name, "probability": chance} for name, chance in guesses]
        yield {"input": row.name, "question": row.text, "answers": answers}


def _search(
    flava: Flava, arguments: argparse.Namespace, faults: Faults
) -> Iterator[dict[str, Any]]:
    from flava_plugin.evaluate.index import Index, build_index

    first: Path = arguments.inputs[0]
    if (first / "index.json").is_file():
        if len(arguments.inputs) > 1:
            raise ValueError(f"{first} is an index; search it by itself")
        index = Index.load(first, flava)
    else:
        index = build_index(flava, _embedded(flava, arguments, faults))
    hits = index.search(arguments.query, arguments.k)
    for query, found in zip(arguments.query, hits, strict=True):
        yield {"query": query, "hits": [{"name": hit.name, "score": hit.score} for hit in found]}


def _embed(flava: Flava, arguments: argparse.Namespace, faults: Faults) -> Iterator[dict[str, Any]]:
    from flava_plugin.evaluate.index import build_index

    index = build_index(flava, _embedded(flava, arguments, faults), arguments.embed)
    yield {"index": str(arguments.embed), "rows": len(index), "width": flava.width}


def _embedded(flava: Flava, arguments: argparse.Namespace, faults: Faults) -> Iterator[Any]:
    """Names with embeddings."""
    from flava_plugin.evaluate.prediction_inputs import rows_of, texts_of
    from flava_plugin.evaluate.samples import batches

    if arguments.texts:
        for rows in batches(texts_of(rows_of(arguments.inputs), faults), flava.batch_size):
            texts = [row.text or "" for row in rows]
            yield from zip(texts, flava.encode_text(texts), strict=True)
        return
    for group in batches(_pictures(arguments, faults), flava.batch_size):
        embedded = flava.encode_image([picture for _, picture in group])
        yield from zip([row.name for row, _ in group], embedded, strict=True)


def _pictures(
    arguments: argparse.Namespace, faults: Faults, *, needs_text: bool = False
) -> Iterator[Any]:
    from flava_plugin.evaluate.prediction_inputs import pictures_of, rows_of

    return pictures_of(
        rows_of(arguments.inputs), faults, default=arguments.question, needs_text=needs_text
    )


def _names(words: str) -> list[str]:
    path = Path(words)
    if path.suffix == ".txt" or path.is_file():
        return _lines(path)
    return [name.strip() for name in words.split(",") if name.strip()]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
