"""``flava data train-vocab``: a WordPiece vocabulary from texts."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flava_plugin.cli.amounts import whole
from flava_plugin.cli.data_sources import check_out, open_dataset
from flava_plugin.durable import write_bytes


def add_action(actions: Any) -> None:
    """Add the action to the group.

    Args:
        actions: What ``ArgumentParser.add_subparsers`` of the group returned.
    """
    train = actions.add_parser(
        "train-vocab",
        help="train a WordPiece vocabulary",
        description="Train a WordPiece vocabulary on text files and on datasets' texts. The file "
        "is for data.tokenizer: {type: wordpiece, vocab: FILE}.",
    )
    train.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="UTF-8 text, a folder of *.txt, or *.jsonl with captions",
    )
    train.add_argument(
        "--caption-key", default="caption", help="key of captions in *.jsonl (%(default)s)"
    )
    train.add_argument(
        "--dataset",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "key=value"),
        help="texts of a registered dataset with these options; may be given again",
    )
    train.add_argument(
        "--texts", type=whole, default=20_000, help="of a dataset, at most (%(default)s)"
    )
    train.add_argument("--size", type=whole, required=True, help="number of tokens, at most")
    train.add_argument("--out", type=Path, required=True, help="file to write (.txt)")
    train.add_argument("--cased", action="store_true", help="keep upper case and accents")
    train.add_argument(
        "--used-only", action="store_true", help="drop pieces that these texts do not need"
    )
    train.set_defaults(run=run_train_vocab)


def run_train_vocab(arguments: argparse.Namespace) -> int:
    """Train a vocabulary and write its file.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        0 done, 1 the texts do not serve, 2 the command line is refused.
    """
    try:
        check_out(arguments.out)
        if not arguments.files and not arguments.dataset:
            raise ValueError("no texts; name text files, or a dataset after --dataset")
        datasets = [open_dataset(name, options) for name, *options in arguments.dataset]
        texts = [t for path in arguments.files for t in _file_texts(path, arguments.caption_key)]
    except ValueError as error:
        print(f"flava data train-vocab: {error}", file=sys.stderr)
        return 2
    from flava_plugin.data.damage import StoreError
    from flava_plugin.data.wordpiece import train_vocab

    damage: Counter[str] = Counter()
    try:
        for dataset in datasets:
            texts += _texts(dataset, arguments.texts, damage)
        tokens = train_vocab(
            texts,
            arguments.size,
            lowercase=not arguments.cased,
            used_only=arguments.used_only,
        )
    except (ValueError, OSError, StoreError) as error:
        print(f"flava data train-vocab: {error}", file=sys.stderr)
        return 1
    for reason, number in sorted(damage.items()):
        print(f"flava data train-vocab: passed over: {number} x {reason}", file=sys.stderr)
    write_bytes(arguments.out, ("\n".join(tokens) + "\n").encode())
    print(f"{arguments.out}: {len(tokens)} tokens from {len(texts)} lines")
    return 0


def _file_texts(path: Path, caption_key: str) -> list[str]:
    """Lines of a text file or of a folder's, or captions of JSON lines."""
    if path.is_dir():
        found = sorted(path.rglob("*.txt"))
        if not found:
            raise ValueError(f"{path}: holds no *.txt file")
        return [line for file in found for line in _lines(file)]
    if path.suffix != ".jsonl":
        return _lines(path)
    texts = []
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            texts += _captions(line, caption_key, f"{path}:{number}")
    return texts


def _captions(line: str, key: str, where: str) -> list[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON object on one line ({error})") from error
    found = row.get(key) if isinstance(row, dict) else None
    captions = [found] if isinstance(found, str) else found
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise ValueError(f"{where}: '{key}' is no text nor a list of texts; set --caption-key")
    return captions


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text ({error}); save it as UTF-8") from error


def _texts(dataset: Any, count: int, damage: Counter[str]) -> Iterator[str]:
    """Texts of a dataset; what cannot be read is counted by reason."""
    from flava_plugin.data.damage import raise_of_the_machine, reason_of
    from flava_plugin.data.decoding import FAILURES

    # where it can be, the text is read alone: a picture that is missing does no harm here
    read_alone = hasattr(dataset, "read_text")
    for index in range(min(count, len(dataset))):
        try:
            text = dataset.read_text(index) if read_alone else dataset.read(index).text
        except FAILURES as error:
            raise_of_the_machine(error)
            damage[reason_of(error)] += 1
            continue
        if text:
            yield text
