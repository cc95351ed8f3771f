"""A stand-in for training that needs no torch: ranks meet at MASTER_ADDR and say where they are.

Prints ``rank node local_rank hostname host of MASTER_ADDR, number of ranks met``; whoever waits in
vain ends with an error.
"""

from __future__ import annotations

import os
import socket
import time

SECONDS = 60.0


def gather(address: tuple[str, int], world: int) -> int:
    """On rank 0: take a line from every other rank, then tell each how many have come."""
    with socket.create_server(address, backlog=world) as server:
        server.settimeout(SECONDS)
        ranks, calls = {0}, []
        while len(calls) < world - 1:
            call, _ = server.accept()
            call.settimeout(SECONDS)
            ranks.add(int(call.makefile().readline()))
            calls.append(call)
        for call in calls:
            call.sendall(f"{len(ranks)}\n".encode())
            call.close()
    return len(ranks)


def visit(address: tuple[str, int], rank: int) -> int:
    """On other ranks: call until rank 0 is there; hear how many have come."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            call = socket.create_connection(address, timeout=SECONDS)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with call:
        call.sendall(f"{rank}\n".encode())
        return int(call.makefile().readline())


def main() -> None:
    """Meet, and say so."""
    rank, world = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    met = gather(address, world) if rank == 0 else visit(address, rank)
    node, local_rank = os.environ["SLURMD_NODENAME"], os.environ["SLURM_LOCALID"]
    print("place", rank, node, local_rank, socket.gethostname(), address[0], met, flush=True)


if __name__ == "__main__":
    main()
