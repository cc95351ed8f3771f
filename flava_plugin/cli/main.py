"""The ``flava`` command: its parser and its exit codes.

Exit codes: 0 done, 1 the work failed, 2 the recipe or the command line is refused, 130 stopped by
Ctrl-C. Handlers import torch, so ``--help`` and ``flava ls`` do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from flava_plugin.cli import (
    balance,
    catalog,
    data,
    evaluate,
    export,
    jobs,
    plan,
    predict,
    profile,
    submit,
    train,
    weights,
)

GROUPS = (
    *(catalog, train, balance, evaluate, predict, export),
    *(submit, jobs, data, weights, plan, profile),
)
"""What adds commands, in the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command.

    Returns:
        The parser; a parsed command carries its handler as ``run``.
    """
    parser = argparse.ArgumentParser(
        prog="flava", description="Pretrain, fine-tune and extend FLAVA from one recipe."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_commands(commands)
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; ``key=value`` may stand before and after options.

    Args:
        argv: The words after ``flava``; None takes the process's own.

    Returns:
        The parsed command.
    """
    parser = build_parser()
    # argparse takes positional words only up to the first option and hands back the later ones.
    arguments, rest = parser.parse_known_args(argv)
    strays = [word for word in rest if word.startswith("-") or "=" not in word]
    if strays or (rest and "overrides" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(strays or rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``flava``; None takes the process's own.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # a file's name need not be UTF-8, and a terminal's letters need not be all that there are
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    arguments = parse(argv)
    from flava_plugin.recipe import RecipeError

    try:
        code: int = arguments.run(arguments) or 0
    except RecipeError as refused:
        for line in refused.lines:
            print(line, file=sys.stderr)
        return 2
    except BrokenPipeError:  # 'flava ls | head' closes the pipe; there is nobody left to tell
        sys.stderr.close()
        return 0
    except OSError as error:  # such as a full disk under the output, or a folder without write
        print(f"flava: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before a command handles it itself, such as while torch loads
        print("flava: stopped", file=sys.stderr)
        return 130
    return code
