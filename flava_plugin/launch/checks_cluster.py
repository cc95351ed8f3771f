"""What is looked at before a job is submitted: whether the cluster has what is asked for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from difflib import get_close_matches

from flava_plugin.launch import ask
from flava_plugin.launch.checks import Check
from flava_plugin.launch.cluster import FLAGS, Profile
from flava_plugin.launch.cluster_values import clock


def cluster_checks(profile: Profile, *, dry_run: bool) -> Iterator[Check]:
    """Ask SLURM's clients; what they do not answer is not known and keeps nothing from going on.

    Args:
        profile: The profile.
        dry_run: Whether nothing will be submitted, so that sbatch need not be here.

    Yields:
        Check: One for each subject.
    """
    missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
    if missing:
        text = f"{' and '.join(missing)} not found on this machine"
        way = "submit from a login node of the cluster, or run here with --executor local"
        yield Check("SLURM", "not known" if dry_run else "refused", f"{text}; {way}")
    yield from _partition_checks(profile)
    yield from _account_checks(profile)


def shell_checks(profile: Profile) -> Iterator[Check]:
    """Have bash read what the profile adds to the batch script, without running it.

    An open quote there would swallow the lines after it, srun's among them.

    Args:
        profile: The profile.

    Yields:
        Check: One for each part that bash cannot read.
    """
    parts = {"setup": "\n".join(profile.setup), "python": profile.python or ""}
    for subject, text in parts.items():
        try:
            read = subprocess.run(
                ["bash", "-n"], input=text.encode(), capture_output=True, check=False, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            continue  # no bash here; the nodes have one
        said = read.stderr.decode(errors="replace").strip()
        if read.returncode or said:  # an open here-document is only a warning
            yield Check(subject, "refused", f"bash cannot read it: {said.splitlines()[0]}")


def _partition_checks(profile: Profile) -> Iterator[Check]:
    known = ask.partitions()
    if known is None:
        yield Check("partition", "not known", "sinfo does not answer")
        return
    names = profile.partition.split(",") if profile.partition else []
    by_name = {partition.name: partition for partition in known}
    for name in names:
        if name not in by_name:
            guess = get_close_matches(name, by_name, n=1)
            hint = f"did you mean '{guess[0]}'?" if guess else f"known: {', '.join(by_name)}"
            yield Check("partition", "refused", f"the cluster has no '{name}'; {hint}")
    chosen = [by_name[name] for name in names if name in by_name]
    if not names:
        chosen = [partition for partition in known if partition.default]
        if not chosen:
            text = f"the cluster has no default; give {FLAGS['partition']}: {', '.join(by_name)}"
            yield Check("partition", "refused", text)
    for partition in chosen:
        limit = "no limit" if partition.time is None else clock(partition.time)
        count = partition.nodes or "an unknown number of"
        text = f"'{partition.name}' has {count} nodes, walltime limit {limit}"
        if partition.time is not None and (profile.time or 0) > partition.time:
            way = f"take {FLAGS['time']} {partition.time} or less, or another partition"
            yield Check("partition", "refused", f"{text}, below {clock(profile.time or 0)}; {way}")
        elif 0 < partition.nodes < profile.nodes[0]:
            way = f"take fewer {FLAGS['nodes']} than {profile.nodes[0]}, or another partition"
            yield Check("partition", "refused", f"{text}; {way}")
        else:
            yield Check("partition", "ok", text)


def _account_checks(profile: Profile) -> Iterator[Check]:
    if not profile.account and not profile.qos:
        yield Check("account and qos", "ok", "none named: the cluster's defaults")
        return
    known = ask.associations()
    for subject, name in (("account", profile.account), ("qos", profile.qos)):
        if not name:
            continue
        if known is None:
            text = f"'{name}': sacctmgr does not answer, or has no entry for {ask.user()}"
            yield Check(subject, "not known", text)
            continue
        mine = [row for row in known if profile.account in (None, row[0])] or known
        names = (
            {row[0] for row in known} if subject == "account" else {q for r in mine for q in r[1]}
        )
        if name in names:
            yield Check(subject, "ok", f"'{name}' is one of yours")
        elif subject == "qos" and not names:
            yield Check(subject, "not known", f"'{name}': sacctmgr lists none")
        else:
            text = f"'{name}' is none of yours: {', '.join(sorted(names))}"
            yield Check(subject, "refused", f"{text}; change {FLAGS[subject]}")
