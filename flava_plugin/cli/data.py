"""``flava data``: everything that is done to data before a run; each action has its own file."""

from __future__ import annotations

from typing import Any

from flava_plugin.cli import (
    data_check,
    data_codebook,
    data_codes,
    data_curate,
    data_index,
    data_pack,
    data_stats,
    data_vocab,
)


def add_commands(commands: Any) -> None:
    """Add the group to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    group = commands.add_parser(
        "data",
        help="index, pack, check and describe data; fit a codebook, train a vocabulary",
        description="Prepare data for a run.",
    )
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action in (
        data_index,
        data_pack,
        data_check,
        data_stats,
        data_curate,
        data_codes,
        data_codebook,
        data_vocab,
    ):
        action.add_action(actions)
