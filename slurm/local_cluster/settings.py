"""What a cluster is made of, checked before anything is started."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

# The kernel's limit of a socket's path is 107 bytes; the longest is that of a step on a node.
LONGEST_SOCKET = "/spool/127.0.0.254/127.0.0.254_67043327.4294967291"
LONGEST_FOLDER = 107 - len(LONGEST_SOCKET)
MOST_NODES = 250  # the last number of an address names the node


@dataclass(frozen=True)
class Settings:
    """One cluster.

    Attributes:
        folder: Holds everything of the cluster; absolute.
        nodes: Number of nodes.
        cpus: Of each node; may be more than the machine has.
        gpus: Of each node, without hardware: tasks see CUDA_VISIBLE_DEVICES and nothing more.
        memory_mb: Of each node, in MiB; jobs are placed by it, nothing holds them to it.
        port: The controller's; node i (from 0) has port + 1 + i.
        isolated: Every node has its own hostname and address (network namespaces; root).
    """

    folder: Path
    nodes: int = 2
    cpus: int = 4
    gpus: int = 0
    memory_mb: int = 4000
    port: int = 0
    isolated: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without starting anything.

        Raises:
            ValueError: With a line for each setting that cannot be used.
        """
        wrong = []
        text = str(self.folder)
        if not re.fullmatch(r"/[\w./+-]*", text, re.ASCII):
            wrong.append(f"folder {text!r}: slurm.conf takes only letters, digits and ._/+-")
        if len(text) > LONGEST_FOLDER:
            wrong.append(
                f"folder {text}: {len(text)} characters; sockets lie below it, so at most "
                f"{LONGEST_FOLDER}"
            )
        for name, least, most in (
            ("nodes", 1, MOST_NODES),
            ("cpus", 1, 1024),
            ("gpus", 0, 64),
            ("memory_mb", self.cpus, 2**30),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                wrong.append(f"{name}={value}: must be from {least} to {most}")
        if self.port and not 1024 <= self.port <= 65535 - self.nodes:
            wrong.append(f"port={self.port}: must be from 1024 to {65535 - self.nodes}")
        if wrong:
            raise ValueError("\n".join(wrong))

    @property
    def names(self) -> list[str]:
        """The nodes' names; each resolves to its node's address without a change to the machine.

        All of 127/8 is the machine itself, so that an address can be a name: MASTER_ADDR, which
        launchers take from the list of nodes, can be reached.
        """
        if self.isolated:
            return [f"node{index}" for index in range(self.nodes)]
        return [f"127.0.0.{1 + index}" for index in range(self.nodes)]

    @property
    def slurm_conf(self) -> Path:
        """What SLURM_CONF names."""
        return self.folder / "etc" / "slurm.conf"

    def save(self) -> None:
        """Write down what ``load`` reads."""
        text = json.dumps({**asdict(self), "folder": str(self.folder)}, indent=1)
        (self.folder / "etc" / "cluster.json").write_text(text + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """Read the settings of a cluster that was started in a folder.

        Args:
            folder: As given to start.

        Returns:
            Its settings.

        Raises:
            ValueError: No cluster was started there, or its owner is another user.
        """
        path = folder / "etc" / "cluster.json"
        if not path.is_file():
            raise ValueError(f"{folder}: no cluster was started here ({path} is missing)")
        if path.stat().st_uid != os.getuid():
            raise ValueError(f"{folder}: the cluster belongs to user id {path.stat().st_uid}")
        try:
            return cls(**{**json.loads(path.read_text("utf-8")), "folder": folder})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not as start wrote it: {error}") from None
