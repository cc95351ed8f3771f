"""What is looked at before a job is submitted: whether recipe and profile fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from flava_plugin.launch.cluster import FLAGS, Profile
from flava_plugin.launch.cluster_values import clock
from flava_plugin.recipe import Recipe

Verdict = Literal["ok", "refused", "warning", "not known"]


@dataclass(frozen=True)
class Check:
    """Something that was looked at.

    Attributes:
        subject: What.
        verdict: What came out; ``refused`` keeps the job from being submitted.
        text: What was found, and for all but ``ok`` the way out.
    """

    subject: str
    verdict: Verdict
    text: str

    @property
    def line(self) -> str:
        """The check as it is printed."""
        return f"{self.verdict:<9}  {self.subject}: {self.text}"


def fit_checks(
    recipe: Recipe, profile: Profile, malformed: Collection[str] = ()
) -> Iterator[Check]:
    """Look at the recipe against the processes of the job.

    Args:
        recipe: The recipe.
        profile: The profile.
        malformed: Keys of both whose value was refused, so that another one stands in for it; what
            needs one of them is not looked at.

    Yields:
        Check: One for each subject.
    """
    processes = ("nodes", "tasks_per_node", "gpus_per_node")
    looks = {
        _batch: (*processes, "data.global_batch", "data.per_gpu_batch"),
        _sharding: (*processes, "sharding.strategy"),
        device_check: (*processes, "device", "sbatch"),
        _cores: ("cpus_per_task", "data.workers"),
    }
    for look, keys in looks.items():
        if not any(key == bad or key.startswith(f"{bad}.") for key in keys for bad in malformed):
            yield look(recipe, profile)


def _processes(profile: Profile, world: int) -> str:
    nodes = world // profile.tasks
    plural = "s" if nodes > 1 else ""
    return f"{nodes} node{plural} x {profile.tasks} = {world} rank{'s' if world > 1 else ''}"


def _batch(recipe: Recipe, profile: Profile) -> Check:
    whole, rows = recipe.data.global_batch, recipe.data.per_gpu_batch
    each = f" x data.per_gpu_batch {rows}" if rows else ""
    uneven = [world for world in profile.worlds if whole % (world * (rows or 1))]
    if not uneven:
        shown = ", ".join(f"{whole // world} on each of {world}" for world in profile.worlds[:8])
        return Check("global batch", "ok", f"{whole} rows: {shown}{each and f', {rows} at a time'}")
    part = uneven[0] * (rows or 1)
    near = sorted({max(1, whole // part) * part, (whole // part + 1) * part})
    return Check(
        "global batch",
        "refused",
        f"data.global_batch {whole} is not a multiple of "
        + " or of ".join(f"{_processes(profile, world)}{each}" for world in uneven[:4])
        + f"; take {' or '.join(map(str, near))}, or other {FLAGS['nodes']} or "
        + FLAGS["tasks_per_node"],
    )


def _sharding(recipe: Recipe, profile: Profile) -> Check:
    strategy, most = recipe.sharding.strategy, profile.worlds[-1]
    if strategy == "none" and most > 1:
        text = f"sharding.strategy 'none' is for one process, this is {_processes(profile, most)}"
        return Check("sharding", "refused", f"{text}; take sharding.strategy=ddp or a sharded one")
    return Check("sharding", "ok", f"{strategy} on {_processes(profile, most)}")


def device_check(recipe: Recipe, profile: Profile) -> Check:
    """Look at the processes of a node against its GPUs.

    Args:
        recipe: Its ``device``.
        profile: The profile.

    Returns:
        What was found.
    """
    tasks, gpus = profile.tasks, profile.gpus_per_node
    other = profile.sbatch.keys() & {"gres", "gpus", "gpus-per-task"}
    if gpus and tasks > gpus:
        text = f"{tasks} processes on a node and {gpus} GPUs; a process needs one of its own: take"
        return Check("GPUs", "refused", f"{text} {FLAGS['tasks_per_node']} {gpus} or fewer")
    if recipe.device == "cuda" and not gpus and not other:
        text = "the recipe says device: cuda, and no GPU is asked for; give gpus_per_node"
        return Check("GPUs", "refused", f"{text} or {FLAGS['gpus_per_node']}")
    if gpus and recipe.device == "cpu":
        return Check(
            "GPUs", "warning", f"{gpus} on each node stay idle: the recipe says device: cpu"
        )
    if tasks < gpus:
        return Check(
            "GPUs", "warning", f"{tasks} processes on a node leave {gpus - tasks} GPUs idle"
        )
    if not gpus:
        asked = f"as sbatch.{min(other)} says" if other else "none: this runs on CPUs"
        return Check("GPUs", "ok", asked)
    return Check("GPUs", "ok", f"{gpus} on each node, one for each process")


def _cores(recipe: Recipe, profile: Profile) -> Check:
    cores, wanted = profile.cpus_per_task, recipe.data.workers + 1
    what = f"1 process and data.workers {recipe.data.workers}"
    if cores is None:
        return Check("cores", "not known", f"{what}, cpus_per_task is left to the cluster")
    if cores < wanted:
        return Check("cores", "warning", f"{what} share {cores}; give {FLAGS['cpus_per_task']}")
    return Check("cores", "ok", f"{cores} for {what}")


def time_checks(profile: Profile) -> Iterator[Check]:
    """Look at the walltime and at the time before it that is left for a save.

    Args:
        profile: The profile.

    Yields:
        Check: What was found.
    """
    if profile.time is None:
        text = f"is needed: minutes or D-HH:MM:SS as time in the profile or {FLAGS['time']}"
        yield Check("walltime", "refused", text)
        return
    delay, total = profile.signal_delay_s, profile.time * 60
    text = f"{clock(profile.time)}, asked to save {delay} s before"
    if delay >= total:
        way = f"; take a smaller {FLAGS['signal_delay_s']} or a longer {FLAGS['time']}"
        yield Check("walltime", "refused", f"{text}: at once{way}")
    elif delay * 2 > total:
        yield Check("walltime", "warning", f"{text}: over half of it is for saving")
    elif profile.time < 10 and profile.requeues:
        less = "submitit counts each preemption of a job under 10 minutes as one of its requeues"
        yield Check("walltime", "ok", f"{text}; {less}")
    else:
        yield Check("walltime", "ok", text)
