"""Writes a cluster's folder and starts its daemons."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from . import namespaces
from .configuration import gres_conf, slurm_conf
from .report import tail
from .running import ClusterError, checked
from .settings import Settings

# Of the cluster's folder; nothing else in it is ever removed.
OURS = ("bin", "dev", "etc", "log", "run", "spool", "state")
STAND_IN = Path(__file__).with_name("sacct")


def prepare(settings: Settings) -> None:
    """Write the folder afresh: a saved state would bring back old jobs and nodes marked down.

    Args:
        settings: With its port chosen.
    """
    folder = settings.folder
    clear(folder)
    for name in (*OURS, *(f"spool/{node}" for node in settings.names)):
        (folder / name).mkdir(mode=0o755)
    settings.save()
    key = os.open(folder / "etc" / "munge.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(key, "wb") as file:
        file.write(secrets.token_bytes(1024))
    for index in range(settings.gpus):
        (folder / "dev" / f"nvidia{index}").symlink_to("/dev/null")
    if settings.isolated:
        controller = f"{namespaces.CONTROLLER}({namespaces.controller_address()})"
        addresses = namespaces.addresses(settings)
    else:
        controller, addresses = "localhost(127.0.0.1)", settings.names
    settings.slurm_conf.write_text(slurm_conf(settings, addresses, controller), "utf-8")
    (folder / "etc" / "gres.conf").write_text(gres_conf(settings), "utf-8")
    # Control groups are not used, but slurmd looks for them; asked for version 1 it starts whatever
    # is, or is not, mounted.
    (folder / "etc" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", "utf-8")
    shutil.copyfile(STAND_IN, folder / "bin" / "sacct")
    (folder / "bin" / "sacct").chmod(0o755)


def clear(folder: Path) -> None:
    """Remove what ``prepare`` made; what is not the cluster's stays.

    Args:
        folder: The cluster's.
    """
    for name in OURS:
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def start(settings: Settings, env: Mapping[str, str]) -> None:
    """Start munged, the namespaces of isolated nodes, the controller and every node.

    Args:
        settings: Of a prepared folder.
        env: Variables of the daemons.

    Raises:
        ClusterError: One did not start; with what it said.
    """
    folder = settings.folder
    # --force: the socket may lie below a folder that only its owner may enter.
    munged = f"munged --force --num-threads=2 --key-file={folder}/etc/munge.key"
    munged += f" --socket={folder}/run/munge.sock --pid-file={folder}/run/munged.pid"
    munged += f" --log-file={folder}/log/munged.log --seed-file={folder}/state/munge.seed"
    _launch(settings, munged.split(), env)
    if settings.isolated:
        namespaces.start(settings, env)
    inside = namespaces.command(settings, namespaces.CONTROLLER)
    _launch(settings, [*inside, "slurmctld", "-f", str(settings.slurm_conf)], env)
    for name in settings.names:
        start_node(settings, name, env)


def start_node(settings: Settings, name: str, env: Mapping[str, str]) -> None:
    """Start the daemon of one node.

    Args:
        settings: Of the cluster.
        name: Of the node.
        env: Variables of the daemon.

    Raises:
        ClusterError: It did not start; with what it said.
    """
    inside = namespaces.command(settings, name)
    _launch(settings, [*inside, "slurmd", "-N", name, "-f", str(settings.slurm_conf)], env)


def complaints(folder: Path) -> str:
    """Collect what daemons complained about.

    Args:
        folder: The cluster's.

    Returns:
        Lines of their logs with errors, each under the log's name.
    """
    # Said at every start, for want of a saved state and of a library for MPI.
    noise = re.compile(r"pmi|MPI|state file|state save file|may be lost")
    found = []
    for path in sorted((folder / "log").glob("*.log")):
        lines = [
            line
            for line in tail(path).splitlines()
            if re.search(r"error|fatal", line, re.I) and not noise.search(line)
        ]
        found += [f"{path.name}: {line}" for line in lines]
    return "\n".join(found)


def _launch(settings: Settings, command: list[str], env: Mapping[str, str]) -> None:
    """Start a daemon, which goes to the background by itself."""
    try:
        checked(command, timeout=20, env=env, cwd=settings.folder)
    except (ClusterError, TimeoutError) as error:
        said = complaints(settings.folder)
        raise ClusterError(f"{error}\n{said}".rstrip()) from None
