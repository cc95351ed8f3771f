"""What is looked at before a cluster is started, so that nothing is started in vain."""

from __future__ import annotations

import sys

from . import namespaces, ports
from .processes import find
from .programs import missing_programs
from .running import ClusterError
from .settings import Settings


def refuse(settings: Settings) -> None:
    """Refuse a cluster that this machine or folder cannot have.

    Args:
        settings: Of the cluster.

    Raises:
        ClusterError: The machine lacks something.
        ValueError: The folder, the ports or the user do not fit.
    """
    if sys.platform != "linux":
        raise ClusterError(f"SLURM's daemons run on Linux only, this is {sys.platform}")
    if missing := missing_programs():
        raise ClusterError(missing)
    if settings.isolated and (reason := namespaces.refusal()):
        raise ValueError(reason)
    folder = settings.folder
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            Settings.load(folder)
        except ValueError as error:
            raise ValueError(
                f"{folder} is not empty and not a cluster's; name a new folder ({error})"
            ) from None
        if find(folder):
            raise ValueError(f"a cluster is running in {folder}; stop it first")
    last = settings.port + settings.nodes
    if settings.port and (taken := ports.taken(settings.port, 1 + settings.nodes)):
        shown = ", ".join(map(str, taken))
        raise ValueError(
            f"ports {settings.port} to {last} are needed, in use: {shown}; say another --port"
        )
