"""The command: ``python slurm/local_cluster start|stop|status DIR``.

Exit codes: 0 done, 1 it failed or does not run, 2 the command line is refused.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

if not __package__:  # run as a folder: its parent, and not the folder itself, is where to import
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from local_cluster import Cluster, ClusterError  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """Build the parser.

    Returns:
        The parser; a parsed command carries its handler as ``run``.
    """
    outer = argparse.ArgumentParser(
        prog="local_cluster",
        description="A real SLURM on this machine: one controller and several nodes, no root.",
    )
    commands = outer.add_subparsers(required=True, metavar="COMMAND")
    start_parser = commands.add_parser(
        "start",
        help='start a cluster; prints the line to evaluate: eval "$(... start DIR)"',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    start_parser.set_defaults(run=start)
    start_parser.add_argument("--nodes", type=int, default=2, help="number of nodes")
    start_parser.add_argument("--cpus", type=int, default=4, help="of each node")
    start_parser.add_argument(
        "--gpus", type=int, default=0, help="of each node; only names, without hardware"
    )
    start_parser.add_argument("--memory-mb", type=int, default=4000, help="of each node, in MiB")
    start_parser.add_argument(
        "--port", type=int, default=0, help="the controller's, the nodes' follow; 0: free ones"
    )
    start_parser.add_argument(
        "--isolated", action="store_true", help="a hostname and address for each node; needs root"
    )
    stop_parser = commands.add_parser("stop", help="end a cluster and every job on it")
    stop_parser.set_defaults(run=stop)
    stop_parser.add_argument(
        "--remove", action="store_true", help="remove its files (not what else is in DIR)"
    )
    status_parser = commands.add_parser("status", help="say whether it runs, and its nodes")
    status_parser.set_defaults(run=status)
    for each in (start_parser, stop_parser, status_parser):
        each.add_argument("folder", metavar="DIR", type=Path, help="folder of the cluster")
    return outer


def start(arguments: argparse.Namespace) -> int:
    """Start; the only line on standard output is the one to evaluate.

    Args:
        arguments: The parsed command.

    Returns:
        The exit code.
    """
    cluster = Cluster(
        arguments.folder,
        nodes=arguments.nodes,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        memory_mb=arguments.memory_mb,
        port=arguments.port,
        isolated=arguments.isolated,
    )
    cluster.start()
    sys.stdout.write(cluster.export_line() + "\n")
    names = " ".join(cluster.node_names)
    sys.stderr.write(f"idle: {names}; stop with: python {sys.argv[0]} stop {cluster.folder}\n")
    if arguments.isolated:
        sys.stderr.write(f"commands go through {cluster.folder}/bin/enter, as in: enter sinfo\n")
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Stop, whatever is left of it.

    Args:
        arguments: The parsed command.

    Returns:
        The exit code.
    """
    Cluster.started_in(arguments.folder).stop(remove=arguments.remove)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Print the nodes, or what is left of a cluster that does not answer.

    Args:
        arguments: The parsed command.

    Returns:
        The exit code.
    """
    cluster = Cluster.started_in(arguments.folder)
    living = sorted({process.name for process in cluster.processes() if process.name})
    states = cluster.node_states() if "slurmctld" in living else {}
    if not states:
        left = f"; still there: {', '.join(living)}" if living else ""
        sys.stdout.write(f"not running{left}\n")
        return 1
    for name, state in states.items():
        sys.stdout.write(f"{name} {state}\n")
    sys.stdout.write(cluster.export_line() + "\n")
    return 0


def main() -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    arguments = parser().parse_args()
    # Ended by a signal, a start still takes down what it has put up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, frame: sys.exit(128 + received))
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except (ValueError, ClusterError, TimeoutError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, ValueError) else 1


if __name__ == "__main__":
    sys.exit(main())
