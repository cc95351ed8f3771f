"""Clients of SLURM that record how they were called, and answer what a test has them say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CLIENTS = ("sbatch", "srun", "squeue", "sacct", "sinfo", "sacctmgr", "scontrol", "scancel")

SCRIPT = """#!/bin/sh
here=$(dirname "$0")/..
printf '%s\\n' "NAME $*" >> "$here/calls"
[ NAME = sbatch ] && cp "$1" "$here/script"
[ -f "$here/NAME.out" ] && cat "$here/NAME.out"
[ -f "$here/NAME.err" ] && cat "$here/NAME.err" >&2
exit "$(cat "$here/NAME.code" 2>/dev/null || echo 1)"
"""


class FakeSlurm:
    """Clients of SLURM that do nothing: all but sbatch and srun fail until they are given text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name in CLIENTS:
            (self.bin / name).write_text(SCRIPT.replace("NAME", name))
            (self.bin / name).chmod(0o755)
        self.say("sbatch", "Submitted batch job 4242\n")

    def say(self, name: str, text: str, code: int = 0) -> None:
        """Have a client print a text and end with a code."""
        (self.folder / f"{name}.out").write_text(text)
        (self.folder / f"{name}.code").write_text(str(code))

    def queue(self, *rows: Sequence[str]) -> None:
        """Have squeue list jobs: id, state, nodes, elapsed, restarts, reason, comment."""
        widths = (40, 20, 10, 20, 10, 60, 2000)
        lines = ("".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in rows)
        self.say("squeue", "".join(line + "\n" for line in lines))

    def calls(self, name: str) -> list[str]:
        """The command lines a client was called with."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [line for line in lines if line.split()[0] == name]

    @property
    def script(self) -> str:
        """The batch script that sbatch was given last."""
        return (self.folder / "script").read_text()
