"""Nodes with a hostname and an address of their own, on one machine (Linux namespaces; root).

Each node, and the controller, is a network, UTS and mount namespace that a sleeping process holds;
when it is ended nothing is left. Nodes hang by virtual cables on a bridge inside the controller's
namespace, so that nothing appears in the machine's own network, and find each other by a hosts
file that is mounted over /etc/hosts inside only. ``nsenter`` and not ``ip netns exec``: the latter
mounts a fresh /sys, without the control groups that slurmd wants to see.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from .processes import find
from .programs import missing_programs
from .report import tail
from .running import ClusterError, checked
from .settings import Settings

CONTROLLER = "controller"
# Private to the cluster: several may use the same.
NETWORK = "10.77.0"

HOLD = 'mount --bind "$0" /etc/hosts && hostname "$1" && exec sleep infinity'


def refusal() -> str | None:
    """Say why isolated nodes cannot be made here.

    Returns:
        The reason and the way out, or None where they can.
    """
    if os.getuid() != 0:
        return "isolated nodes need root (network namespaces); leave --isolated out, or use sudo"
    return missing_programs("ip", "nsenter", "unshare", "setsid")


def addresses(settings: Settings) -> list[str]:
    """List the nodes' addresses.

    Args:
        settings: Of the cluster.

    Returns:
        One for each node.
    """
    return [f"{NETWORK}.{1 + index}" for index in range(settings.nodes)]


def controller_address() -> str:
    """Give the controller's address, which no node has.

    Returns:
        The address.
    """
    return f"{NETWORK}.254"


def start(settings: Settings, env: Mapping[str, str]) -> None:
    """Make the namespaces, the network between them and ``bin/enter``.

    Args:
        settings: Of the cluster.
        env: Variables of the commands.

    Raises:
        ClusterError: The kernel or the container does not allow it.
    """
    hosts = settings.folder / "etc" / "hosts"
    pairs = zip(addresses(settings), settings.names, strict=True)
    lines = ["127.0.0.1 localhost", f"{controller_address()} {CONTROLLER}"]
    hosts.write_text("\n".join([*lines, *map(" ".join, pairs), ""]), "utf-8")
    for name in (CONTROLLER, *settings.names):
        _hold(settings, name, env)

    holders = _holders(settings)
    inside = ["nsenter", "--net", "--target"]

    def ip(name: str, words: str) -> None:
        checked([*inside, str(holders[name]), "ip", *words.split()], timeout=20, env=env)

    ip(CONTROLLER, "link set lo up")
    ip(CONTROLLER, "link add bridge type bridge")
    ip(CONTROLLER, f"addr add {controller_address()}/24 dev bridge")
    ip(CONTROLLER, "link set bridge up")
    for index, (name, address) in enumerate(zip(settings.names, addresses(settings), strict=True)):
        cable = f"cable{index}"
        ip(CONTROLLER, f"link add {cable} type veth peer name eth0 netns {holders[name]}")
        ip(CONTROLLER, f"link set {cable} master bridge up")
        ip(name, "link set lo up")
        ip(name, f"addr add {address}/24 dev eth0")
        ip(name, "link set eth0 up")
    enter = settings.folder / "bin" / "enter"
    words = " ".join(command(settings, CONTROLLER))
    enter.write_text(
        "#!/bin/sh\n# Runs a command where the controller is: enter sinfo\n"
        f"export SLURM_CONF={settings.slurm_conf}\n"
        f"""exec {words} sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"\n""",
        "utf-8",
    )
    enter.chmod(0o755)


def command(settings: Settings, name: str) -> list[str]:
    """Give the words before a command that is to run inside.

    Args:
        settings: Of the cluster.
        name: Of a node, or the controller's.

    Returns:
        Words; none where the nodes are not isolated.

    Raises:
        ClusterError: The namespace is gone.
    """
    if not settings.isolated:
        return []
    try:
        target = _holders(settings)[name]
    except KeyError:
        raise ClusterError(f"the namespaces of {name} are gone; stop and start again") from None
    return ["nsenter", "--target", str(target), "--net", "--uts", "--mount"]


def _log(settings: Settings, name: str) -> Path:
    return settings.folder / "log" / f"namespaces.{name}.log"


def _holders(settings: Settings) -> dict[str, int]:
    logs = {_log(settings, name).name: name for name in (CONTROLLER, *settings.names)}
    found = [process for process in find(settings.folder) if process.name == "sleep"]
    return {logs[process.log]: process.pid for process in found if process.log in logs}


def _hold(settings: Settings, name: str, env: Mapping[str, str]) -> None:
    log = _log(settings, name)
    path = env["PATH"]
    words = [
        *(shutil.which("setsid", path=path) or "setsid", "--fork"),
        *("unshare", "--net", "--uts", "--mount", "sh", "-c", HOLD),
        *(str(settings.folder / "etc" / "hosts"), name),
    ]
    with log.open("wb") as output:
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env), check=True
        )
    deadline = time.monotonic() + 10
    while name not in _holders(settings):
        if log.stat().st_size or time.monotonic() > deadline:
            raise ClusterError(f"no namespaces for {name} (is this a container?): {tail(log)}")
        time.sleep(0.02)
