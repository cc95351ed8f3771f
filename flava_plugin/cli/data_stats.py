"""``flava data stats``: what is in a dataset, in figures and on a contact sheet."""

from __future__ import annotations

import argparse
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from flava_plugin.cli.amounts import whole
from flava_plugin.cli.data_sources import build_dataset, check_out, name_dataset, spare_source
from flava_plugin.cli.progress import add_progress, bar


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    stats = actions.add_parser(
        "stats",
        help="words, sizes, duplicates, tokens; a contact sheet",
        description="Count texts, words, picture sizes and exact duplicates. A word is what "
        "spaces separate; the vocabulary leaves case and marks at a word's ends out. Duplicates "
        "are texts and picture files that are equal byte for byte.",
    )
    stats.add_argument(
        "dataset", help="a folder of indexed shards or of pictures, or a registered dataset"
    )
    stats.add_argument("overrides", nargs="*", metavar="key=value", help="options of the dataset")
    stats.add_argument(
        "--kind", choices=["pair", "image", "text"], help="what a sample holds (default: asks it)"
    )
    stats.add_argument(
        "--sample", type=whole, metavar="N", help="count so many samples, chosen by --seed"
    )
    stats.add_argument("--vocab", type=Path, metavar="FILE", help="count tokens of this vocabulary")
    stats.add_argument(
        "--cased", action="store_true", help="the vocabulary's words keep their case"
    )
    stats.add_argument(
        "--length", type=whole, metavar="N", help="data.text.pair_length or text_length, for tokens"
    )
    stats.add_argument(
        "--batch", type=whole, default=64, help="texts padded together, for tokens (%(default)s)"
    )
    stats.add_argument("--sheet", type=Path, metavar="FILE", help="draw a contact sheet (.png)")
    stats.add_argument(
        "--sheet-samples", type=whole, default=24, metavar="N", help="on the sheet (%(default)s)"
    )
    stats.add_argument("--seed", type=int, default=0, help="of what is chosen (%(default)s)")
    stats.add_argument("--jobs", type=whole, default=1, help="processes (%(default)s)")
    stats.add_argument(
        "--report", type=Path, metavar="FILE", help="write the figures there as JSON"
    )
    stats.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_progress(stats)
    stats.set_defaults(run=run_stats)


def run_stats(arguments: argparse.Namespace) -> int:
    """Count a dataset and print it.

    Args:
        arguments: As ``add_action`` declares them.

    Returns:
        0 done, 1 nothing can be read, 2 the command line is refused.
    """
    try:
        for path, option in ((arguments.report, "--report"), (arguments.sheet, "--sheet")):
            if path is not None:
                check_out(path, option)
        if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
            raise ValueError(f"--sheet {arguments.sheet}: name a .png file")
        name, options = name_dataset(arguments.dataset, arguments.overrides)
        for path, option in ((arguments.report, "--report"), (arguments.sheet, "--sheet")):
            if path is not None:
                # a picture among pictures would be one of the samples from then on
                spare_source(path, options, option, only_same=option == "--report")
        if arguments.vocab is None and (arguments.cased or arguments.length):
            raise ValueError("--cased and --length are of the tokens; give --vocab too")
        dataset = build_dataset(name, options)
        tokenizer = None if arguments.vocab is None else _tokenizer(arguments)
    except ValueError as error:
        print(f"flava data stats: {error}", file=sys.stderr)
        return 2
    from flava_plugin.data.damage import StoreError

    try:
        result = _count(arguments, dataset, tokenizer)
    except (ValueError, OSError, StoreError) as error:
        print(f"flava data stats: {error}", file=sys.stderr)
        return 1
    from flava_plugin.data.statistics_report import lines
    from flava_plugin.durable import write_text

    if arguments.report is not None:
        write_text(arguments.report, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if arguments.json else "\n".join(lines(result)))
    if arguments.sheet is not None and not arguments.json:
        print(f"{arguments.sheet}: a contact sheet")
    sound = result["read"] - sum(result["unreadable"].values())
    if not sound:
        print(f"flava data stats: {arguments.dataset}: no sample can be read", file=sys.stderr)
    return 0 if sound else 1


def _tokenizer(arguments: argparse.Namespace) -> Any:
    from flava_plugin.data.wordpiece import WordPieceTokenizer, read_vocab

    try:
        return WordPieceTokenizer(read_vocab(arguments.vocab), lowercase=not arguments.cased)
    except OSError as error:
        raise ValueError(f"--vocab {arguments.vocab}: {error.strerror}") from error


def _count(arguments: argparse.Namespace, dataset: Any, tokenizer: Any) -> dict[str, Any]:
    from flava_plugin.data.raw_reading import kind_of
    from flava_plugin.data.statistics import choose, count
    from flava_plugin.data.statistics_report import figures, most_repeated

    kind = arguments.kind or kind_of(dataset)
    chosen = choose(len(dataset), arguments.sample, arguments.seed)
    with bar(len(dataset) if chosen is None else len(chosen), "sample", arguments) as shown:
        counted = count(
            dataset,
            kind,
            chosen=chosen,
            tokenizer=tokenizer,
            jobs=arguments.jobs,
            tick=shown.update,
        )
    result = figures(
        counted,
        samples=len(dataset),
        seed=arguments.seed,
        length=arguments.length,
        batch=arguments.batch,
    )
    if "texts" in result:
        columns = counted.columns
        result["texts"]["most_repeated"] = [
            [_text_of(dataset, int(columns.text_samples[place])), number]
            for place, number in most_repeated(columns.text_hashes, 3)
        ]
    if arguments.sheet is not None:
        _draw(arguments, dataset, kind)
    return result


def _text_of(dataset: Any, index: int) -> str:
    from flava_plugin.data.raw_reading import read_raw

    return (read_raw(dataset, index).text or "").strip()


def _draw(arguments: argparse.Namespace, dataset: Any, kind: Any) -> None:
    from flava_plugin.data.contact_sheet import LARGE, Exhibit, contact_sheet
    from flava_plugin.data.raw_reading import look_at
    from flava_plugin.data.statistics import choose
    from flava_plugin.durable import write_bytes

    chosen = choose(len(dataset), arguments.sheet_samples, arguments.seed)
    exhibits = []
    for index in range(len(dataset)) if chosen is None else chosen.tolist():
        looked = look_at(dataset, index, kind, decoded=True)
        caption = looked.reason or looked.raw.text or ""
        if not caption and "class" in looked.raw.extra:
            number = looked.raw.extra["class"]
            names = getattr(dataset, "class_names", ())
            caption = str(names[number]) if names else f"class {number}"
        if looked.picture is not None and max(looked.picture.size) > LARGE:
            looked.picture.thumbnail((LARGE, LARGE), reducing_gap=3.0)
        exhibits.append(Exhibit(looked.picture, caption, index))
    what = " ".join([arguments.dataset, *arguments.overrides])
    title = f"{what}: {len(exhibits)} of {len(dataset)} samples, seed {arguments.seed}"
    made = BytesIO()
    contact_sheet(exhibits, title).save(made, "PNG")
    write_bytes(arguments.sheet, made.getvalue())
