"""A real SLURM on one machine: one controller and several nodes, without root or systemd.

``python slurm/local_cluster start DIR`` is the command; tests use ``Cluster``.
"""

from .cluster import Cluster
from .programs import missing_programs
from .running import ClusterError
from .settings import Settings

__all__ = ["Cluster", "ClusterError", "Settings", "missing_programs"]
