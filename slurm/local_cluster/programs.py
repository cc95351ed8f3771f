"""The programs a cluster needs and where they are."""

from __future__ import annotations

import os
import shutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "squeue", "scontrol")
INSTALL = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
# Daemons live where an ordinary user's PATH may not lead.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """Give the PATH with the folders of daemons behind it.

    Returns:
        Folders joined as in PATH.
    """
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])


def missing_programs(*names: str) -> str | None:
    """Say which programs are not installed.

    Args:
        *names: Programs to look for; none means those that every cluster needs.

    Returns:
        A sentence with the command that installs them, or None where all are there.
    """
    absent = [name for name in names or PROGRAMS if not shutil.which(name, path=search_path())]
    if not absent:
        return None
    install = INSTALL if not names else "apt-get install -y iproute2 util-linux"
    return f"not installed: {', '.join(absent)}; on Debian and Ubuntu: {install}"
