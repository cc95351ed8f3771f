"""The kinds of value a cluster profile holds: node ranges, walltimes, lines of a batch script."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

RANGE = re.compile(r"^(\d+)(?:-(\d+))?$")
CLOCK = re.compile(r"^(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)$")
VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
OPTION = re.compile(r"^[a-z][a-z0-9-]*$")
DEPENDENCY = re.compile(
    r"^(singleton|after(any|ok|notok|corr|burstbuffer)?(:\d+(_(\d+|\*))?(\+\d+)?)+)$"
)

# Options that the launcher writes itself: where their value comes from instead.
WRITTEN = {
    "array": "use --sweep",
    "dependency": "use --dependency",
    "job-name": "use --name",
    "signal": "use signal_delay_s",
    "requeue": "use requeues",
    "no-requeue": "use requeues: 0",
    "ntasks": "use nodes and tasks_per_node",
    "ntasks-per-node": "use tasks_per_node",
    "mem": "use mem_gb",
    **{
        name: f"use {name.replace('-', '_')}"
        for name in (
            *("partition", "account", "qos", "nodes", "gpus-per-node", "cpus-per-task", "time"),
            *("constraint", "exclude", "nodelist", "exclusive", "reservation", "comment"),
        )
    },
    **dict.fromkeys(("output", "error", "open-mode"), "the logs lie in RUN/logs, or --job-dir"),
    **dict.fromkeys(
        ("parsable", "quiet", "wait", "wrap", "test-only", "help", "usage", "version"),
        "it changes what sbatch does or prints, which the launcher reads",
    ),
}
# Variables that a job sets for each attempt anew.
OF_THE_JOB = {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}


def nodes(value: Any) -> tuple[int, int]:
    """Read a number of nodes or a range.

    Args:
        value: ``4``, or text such as ``"2-4"``.

    Returns:
        The least and the most, the same where one number is given.

    Raises:
        ValueError: It is neither, below 1, or goes down.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = RANGE.match(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError("should be a number of nodes, or a range such as 2-4")
    least, most = int(found[1]), int(found[2] or found[1])
    if least < 1 or most < least:
        raise ValueError("should be at least 1, and a range should go up, such as 2-4")
    return least, most


def minutes(value: Any) -> int:
    """Read a walltime.

    Args:
        value: Minutes, or text ``HH:MM:SS`` or ``D-HH:MM:SS``.

    Returns:
        Minutes, rounded up.

    Raises:
        ValueError: It is neither, or no time at all.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = value.strip() if isinstance(value, str) else ""
    clock = CLOCK.match(text)
    if text.isdigit():
        total = int(text)
    elif clock:
        days, hours, mins, seconds = (int(part or 0) for part in clock.groups())
        total = -(-(((days * 24 + hours) * 60 + mins) * 60 + seconds) // 60)
    else:
        raise ValueError("should be minutes, HH:MM:SS or D-HH:MM:SS")
    if total < 1:
        raise ValueError("should be at least a minute")
    return total


def clock(total: int) -> str:
    """Write a walltime as SLURM does.

    Args:
        total: Minutes.

    Returns:
        ``D-HH:MM:SS``, without the days where there are none.
    """
    days, rest = divmod(total, 24 * 60)
    text = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{text}" if days else text


def one_line(value: str) -> str:
    """Refuse what would end a line of the batch script.

    Args:
        value: The text.

    Returns:
        The text.

    Raises:
        ValueError: It is empty or holds a control character.
    """
    if not value.strip():
        raise ValueError("should not be empty")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("should be one line without control characters")
    return value


def number_as_text(value: Any) -> Any:
    """Take a number where a word is wanted, such as an account that is one.

    Args:
        value: The value as YAML gave it.

    Returns:
        The number as text, or the value.

    Raises:
        ValueError: YAML read a word such as ``on`` as a truth value.
    """
    if isinstance(value, bool):
        raise ValueError("is read as a truth value; put it in quotes")
    return str(value) if isinstance(value, int | float) else value


def variable_name(value: str) -> str:
    """Check the name of an environment variable.

    Args:
        value: The name.

    Returns:
        The name.

    Raises:
        ValueError: No shell takes it, or the job sets it itself.
    """
    if not VARIABLE.match(value):
        raise ValueError("is no name of an environment variable")
    if value in OF_THE_JOB:
        raise ValueError("is set by each attempt of a job itself; leave it out")
    return value


def option_name(value: str) -> str:
    """Check the name of an sbatch option.

    Args:
        value: The name, with dashes or underscores, without the first two dashes.

    Returns:
        The name with dashes.

    Raises:
        ValueError: It is no long option, or the launcher writes it itself.
    """
    name = value.replace("_", "-")
    if not OPTION.match(name) or len(name) < 2:
        raise ValueError("is no long option of sbatch; write it without dashes in front")
    if name in WRITTEN:
        raise ValueError(f"is written by the launcher: {WRITTEN[name]}")
    return name


def option_value(value: Any) -> str | bool:
    """Check the value of an sbatch option.

    Args:
        value: The value as YAML gave it; ``true`` for an option that takes none.

    Returns:
        ``True``, or text.

    Raises:
        ValueError: It is false, a list or a section, or several lines.
    """
    if value is True:
        return True
    if not isinstance(value, str | int | float) or value is False:
        raise ValueError("should be text, a number, or true for an option that takes no value")
    return one_line(str(value))


def dependency(value: str) -> str:
    """Check a dependency on other jobs.

    Args:
        value: Such as ``afterok:123`` or ``afterok:1:2,afterany:3``.

    Returns:
        The text.

    Raises:
        ValueError: SLURM would not take it.
    """
    parts = re.split(r"[,?]", value)
    if not all(DEPENDENCY.match(part) for part in parts) or ("," in value and "?" in value):
        hint = f"; did you mean 'afterok:{value}'?" if value.isdigit() else ""
        raise ValueError(f"should be such as afterok:123 or afterok:123:124,afterany:125{hint}")
    return value


Word = Annotated[str, BeforeValidator(number_as_text), AfterValidator(one_line)]
NodeRange = Annotated[tuple[int, int], BeforeValidator(nodes)]
Minutes = Annotated[int, BeforeValidator(minutes)]
VariableName = Annotated[str, AfterValidator(variable_name)]
OptionName = Annotated[str, AfterValidator(option_name)]
OptionValue = Annotated[Any, AfterValidator(option_value)]
