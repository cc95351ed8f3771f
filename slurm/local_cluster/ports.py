"""Ports that nobody listens on."""

from __future__ import annotations

import random
import socket

# Below the kernel's own choice for outgoing connections (from 32768) and the range in which
# launchers choose a port for ranks to meet (from 20000).
LOWEST, HIGHEST = 10000, 19999


def choose(count: int) -> int:
    """Choose a run of free ports.

    The place is drawn, so that clusters that start at the same moment find different ones.

    Args:
        count: Number of ports.

    Returns:
        The first.

    Raises:
        ValueError: None was found.
    """
    for _ in range(200):
        first = random.randint(LOWEST, HIGHEST - count)
        if not taken(first, count):
            return first
    raise ValueError(f"no {count} free ports in a row from {LOWEST} to {HIGHEST}; say --port")


def taken(first: int, count: int) -> list[int]:
    """List the ports of a run that cannot be listened on.

    Args:
        first: The first.
        count: Number of ports.

    Returns:
        The ports in use.
    """
    found = []
    for port in range(first, first + count):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                found.append(port)
    return found
