"""The kinds of value a cluster profile holds: node ranges, walltimes, lines of a batch script."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from flava_plugin.schema import refuse_bool

RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
# Of sbatch's forms all but "minutes:seconds", which reads as hours and minutes to most people.
CLOCK = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])")
DAYS = re.compile(r"([0-9]{1,4})-([0-9]{1,3})(?::([0-5][0-9]))?")
MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([MGT])?B?", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPTION = re.compile(r"[a-z][a-z0-9-]*")
DEPENDENCY = re.compile(
    r"(singleton|after(any|ok|notok|corr|burstbuffer)?(:[0-9]+(_([0-9]+|\*))?(\+[0-9]+)?)+)"
)

MOST_NODES = 4096
"""No range is wider: the batch has to come out even on each number of nodes."""

LONGEST = 366 * 24 * 60
"""Minutes of a year, above every walltime."""

MOST_MEMORY = 24_576
"""GB of the largest nodes on the market; a larger number was meant as the MB of sbatch's --mem."""

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
        ValueError: It is neither, below 1, goes down or is too large.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError("should be a number of nodes, or a range such as 2-4")
    least, most = int(found[1]), int(found[2] or found[1])
    if least < 1 or most < least:
        raise ValueError("should be at least 1, and a range should go up, such as 2-4")
    if most > MOST_NODES:
        raise ValueError(f"should be at most {MOST_NODES}")
    return least, most


def minutes(value: Any) -> int:
    """Read a walltime.

    Args:
        value: Minutes, or text ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.

    Returns:
        Minutes, rounded up.

    Raises:
        ValueError: It is neither, no time at all, or more than a year.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = value.strip() if isinstance(value, str) else ""
    clock, days_hours = CLOCK.fullmatch(text), DAYS.fullmatch(text)
    if re.fullmatch("[0-9]{1,9}", text):
        total = int(text)
    elif days_hours:
        days, hours, mins = (int(part or 0) for part in days_hours.groups())
        total = (days * 24 + hours) * 60 + mins
    elif clock:
        days, hours, mins, seconds = (int(part or 0) for part in clock.groups())
        total = -(-(((days * 24 + hours) * 60 + mins) * 60 + seconds) // 60)
    else:
        raise ValueError("should be minutes, HH:MM:SS or D-HH:MM:SS")
    if total < 1:
        raise ValueError("should be at least a minute")
    if total > LONGEST:
        raise ValueError(f"should be at most a year, {LONGEST} minutes")
    return total


def gigabytes(value: Any) -> Any:
    """Read an amount of memory.

    Args:
        value: A number of GB, or text with a unit as sbatch writes it, such as ``64G``.

    Returns:
        GB, or the value if it is no amount.

    Raises:
        ValueError: No node has as much.
    """
    found = MEMORY.fullmatch(str(value).strip())
    if not found:
        return refuse_bool(value)
    total = float(found[1]) * {"M": 1 / 1024, "G": 1, "T": 1024}[(found[2] or "G").upper()]
    if total > MOST_MEMORY:
        raise ValueError(f"should be at most {MOST_MEMORY} GB; with a unit MB can be meant: 64000M")
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
        ValueError: It is empty, holds a control character, or is not UTF-8.
    """
    if not value.strip():
        raise ValueError("should not be empty")
    return safe_text(value)


def safe_text(value: str) -> str:
    """Refuse what no line of a batch script holds; the text may be empty.

    Args:
        value: The text.

    Returns:
        The text.

    Raises:
        ValueError: It holds a control character, or bytes that are not UTF-8.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("should be UTF-8")
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
    if not VARIABLE.fullmatch(value):
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
    if not OPTION.fullmatch(name) or len(name) < 2:
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
    if not all(DEPENDENCY.fullmatch(part) for part in parts) or ("," in value and "?" in value):
        hint = f"; did you mean 'afterok:{value}'?" if value.isdigit() else ""
        raise ValueError(f"should be such as afterok:123 or afterok:123:124,afterany:125{hint}")
    return value


Word = Annotated[str, BeforeValidator(number_as_text), AfterValidator(one_line)]
Text = Annotated[str, BeforeValidator(number_as_text), AfterValidator(safe_text)]
NodeRange = Annotated[tuple[int, int], BeforeValidator(nodes)]
Gigabytes = Annotated[float, BeforeValidator(gigabytes), Field(ge=0, allow_inf_nan=False)]
Minutes = Annotated[int, BeforeValidator(minutes)]
VariableName = Annotated[str, AfterValidator(variable_name)]
OptionName = Annotated[str, AfterValidator(option_name)]
OptionValue = Annotated[Any, AfterValidator(option_value)]
