"""A cluster profile: what a job asks of a cluster, in one YAML file, each key with a flag."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from flava_plugin.launch.cluster_values import (
    Gigabytes,
    Minutes,
    NodeRange,
    OptionName,
    OptionValue,
    Text,
    VariableName,
    Word,
)
from flava_plugin.schema import Int, Section
from flava_plugin.strict_yaml import MOST_BYTES, YamlError, parse

Count = Annotated[Int, Field(ge=0)]
Positive = Annotated[Int, Field(gt=0)]


class Profile(Section):
    """What a job asks of a cluster; a key that is left out is left to the cluster.

    Attributes:
        partition: One name, or several with commas.
        account: What is charged.
        qos: Quality of service.
        nodes: A number or a range, such as ``2-4``, of which SLURM takes what is free.
        gpus_per_node: 0 asks for none.
        tasks_per_node: Processes on each node; null takes ``gpus_per_node``, or 1 without GPUs.
        cpus_per_task: Cores of each process: one computes, ``data.workers`` read.
        mem_gb: Memory of each node in GB (2**30 bytes), or such as ``500M``; 0 asks for all of it.
        time: Walltime: minutes, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.
        constraint: Features that the nodes have.
        exclude: Nodes not to take.
        nodelist: Nodes to take.
        exclusive: Whether no other job may run on the nodes.
        reservation: A reservation to run in.
        setup: Shell lines run on the first node before the processes start.
        environment: Variables of every process, as they stand; what the shell is to expand goes
            into ``setup``, such as ``export PATH=$HOME/bin:$PATH``.
        srun: Arguments of srun. The default ends all processes when one fails, which srun does not
            do by itself, so that the others do not wait for it in a collective.
        signal_delay_s: Seconds before the walltime at which the run is asked to save and requeue
            (MAE's and DINOv2's launchers: 120).
        requeues: How often a job may be put back into the queue: after its walltime, and after a
            failure that had new checkpoints (MAE's and DINOv2's launchers: 30); 0 for never.
        comment: Comment of the job; the launcher adds the run folder, by which ``flava jobs``
            knows its jobs.
        array_parallelism: How many elements of a sweep run at a time.
        python: Shell command that is Python on the nodes; null takes the one that submits.
        sbatch: Further options of sbatch, ``true`` for one without a value.
    """

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    nodes: NodeRange = (1, 1)
    gpus_per_node: Annotated[Int, Field(ge=0, le=64)] = 0
    tasks_per_node: Annotated[Int, Field(gt=0, le=1024)] | None = None
    cpus_per_task: Positive | None = None
    mem_gb: Gigabytes | None = None
    time: Minutes | None = None
    constraint: Word | None = None
    exclude: Word | None = None
    nodelist: Word | None = None
    exclusive: bool = False
    reservation: Word | None = None
    setup: list[Word] = []
    environment: dict[VariableName, Text] = {}
    srun: list[Word] = ["--kill-on-bad-exit=1"]
    signal_delay_s: Annotated[Int, Field(gt=0, le=65535)] = 120  # sbatch takes no more
    requeues: Annotated[Int, Field(ge=0, le=1000)] = 30
    comment: Word | None = None
    array_parallelism: Positive = 256
    python: Word | None = None
    sbatch: dict[OptionName, OptionValue] = {}

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.tasks_per_node or self.gpus_per_node or 1

    @property
    def worlds(self) -> list[int]:
        """Numbers of processes that the job may have."""
        least, most = self.nodes
        return [count * self.tasks for count in range(least, most + 1)]


FLAGS = {
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "nodes": "--nodes",
    "gpus_per_node": "--ngpus",
    "tasks_per_node": "--tasks-per-node",
    "cpus_per_task": "--cpus-per-task",
    "mem_gb": "--mem-gb",
    "time": "--time",
    "constraint": "--constraint",
    "exclude": "--exclude",
    "nodelist": "--nodelist",
    "exclusive": "--exclusive",
    "reservation": "--reservation",
    "setup": "--setup",
    "environment": "--env",
    "srun": "--srun-args",
    "signal_delay_s": "--signal-delay",
    "requeues": "--requeues",
    "comment": "--comment",
    "array_parallelism": "--array-parallelism",
    "python": "--python",
    "sbatch": "--sbatch",
}
"""The flag of ``flava submit`` that overrides each key."""

OTHER_NAMES = {
    "gpus": "gpus_per_node",
    "ngpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "mem": "mem_gb",
    "memory": "mem_gb",
    "timeout": "time",
    "timeout_min": "time",
    "walltime": "time",
    "env": "environment",
    "srun_args": "srun",
    "max_num_timeout": "requeues",
    "gres": "sbatch: {gres: ...}",
}
"""What other launchers call a key."""


def clusters_folder() -> Path:
    """The folder of built-in profiles: in a checkout ``slurm/clusters``, in a wheel inside it."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_clusters"
    return shipped if shipped.is_dir() else package.parent / "slurm" / "clusters"


def load_profile(
    name: str | None, flags: Mapping[str, Any]
) -> tuple[Profile, list[str], frozenset[str]]:
    """Read a profile and put the flags over it.

    Args:
        name: A file, a built-in name, or None for no profile.
        flags: Values of flags by key, as they were typed; those of ``environment`` and ``sbatch``
            are added to the profile's, every other one replaces it.

    Returns:
        The profile, malformed values left out; a line for each error: where, what, way out; and
        the keys that were left out.
    """
    data: dict[str, Any] = {}
    errors: list[str] = []
    malformed: set[str] = set()
    if name is not None:
        path = _find(name)
        if path is None:
            errors.append(_unknown(name))
        else:
            data, errors = _read(path)
            name = str(path)
    merged = dict(data)
    for key, value in flags.items():
        both = isinstance(value, dict) and isinstance(data.get(key), dict)
        merged[key] = {**data[key], **value} if both else value
    for _ in range(len(merged) + 1):  # each round leaves out at least one malformed value
        try:
            return Profile.model_validate(merged), errors, frozenset(malformed)
        except ValidationError as refused:
            for error in refused.errors():
                loc = [part for part in error["loc"] if part != "[key]"]
                malformed.add(str(loc[0]))
                errors.append(f"{_place(loc, name, flags, data)}: {_text(error, loc)}")
                merged.pop(str(loc[0]), None)
    return Profile(), errors, frozenset(malformed)


def _find(name: str) -> Path | None:
    built_in = clusters_folder() / f"{name}.yaml"
    with suppress(OSError):  # such as a name too long for a file
        return next((path for path in (Path(name), built_in) if path.is_file()), None)
    return None


def _unknown(name: str) -> str:
    known = sorted(path.stem for path in clusters_folder().glob("*.yaml"))
    guess = get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean '{guess[0]}'?" if guess else f"built in: {', '.join(known) or 'none'}"
    shown = name if len(name) <= 200 else f"{name[:200]}..."
    return f"--cluster: '{shown}' is no file and no built-in profile; {hint}"


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            size = path.stat().st_size
            return {}, [f"{path}: {size} bytes; no profile is larger than {MOST_BYTES}"]
        data = parse(raw.decode("utf-8"))
    except OSError as error:
        return {}, [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return {}, [f"{path}: is not UTF-8 text (byte {error.start})"]
    except YamlError as error:
        return {}, [f"{path}: {error}"]
    if data is None:
        return {}, []
    if not isinstance(data, dict):
        kind = type(data).__name__
        return {}, [f"{path}: holds a {kind}, not the keys of a profile; see slurm/clusters"]
    return data, []


def _place(
    loc: list[Any], name: str | None, flags: Mapping[str, Any], data: Mapping[str, Any]
) -> str:
    key = str(loc[0])
    inner = ".".join(str(part) for part in loc[1:])
    added = flags.get(key)
    from_file = isinstance(added, dict) and len(loc) > 1 and loc[1] not in added and key in data
    if key in flags and not from_file:
        return FLAGS[key] + (f" {inner}" if isinstance(added, dict) and inner else "")
    return f"{name}: {key}" + (f".{inner}" if inner else "")


def _text(error: Any, loc: list[Any]) -> str:
    shown = repr(error["input"])
    got = f"(got {shown if len(shown) <= 60 else shown[:57] + '...'})"
    if error["type"] == "extra_forbidden":
        key = str(loc[-1])
        known = list(Profile.model_fields)
        guess = [OTHER_NAMES[key]] if key in OTHER_NAMES else get_close_matches(key, known, n=1)
        hint = f"did you mean '{guess[0]}'?" if guess else f"known: {', '.join(known)}"
        return f"unknown key; {hint} {got}"
    return f"{error['msg'].removeprefix('Value error, ').replace('Input should', 'should')} {got}"
