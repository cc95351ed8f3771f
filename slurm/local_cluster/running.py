"""Runs a command against a deadline; whatever is late is ended with all it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ClusterError(RuntimeError):
    """Something of the cluster did not do what it should."""


def run(
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        command: Its words.
        timeout: Seconds, after which its whole process group is killed.
        env: All of its variables.
        cwd: Where it runs; None is here.

    Returns:
        Exit status and what it wrote; the status is not looked at.

    Raises:
        TimeoutError: It took too long; with what it had written.
        ClusterError: It could not be started.
    """
    try:
        process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ClusterError(f"{' '.join(command)}: {error}") from error
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise TimeoutError(
            f"{' '.join(command)}: not done after {timeout:g} s\n{output}{errors}"
        ) from None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(list(command), process.returncode, output, errors)


def checked(
    command: Sequence[str], *, timeout: float, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that has to succeed.

    Args:
        command: Its words.
        timeout: Seconds.
        env: All of its variables.
        cwd: Where it runs; None is here.

    Returns:
        What it wrote.

    Raises:
        TimeoutError: It took too long.
        ClusterError: Its exit status is not 0; with what it wrote.
    """
    done = run(command, timeout=timeout, env=env, cwd=cwd)
    if done.returncode:
        raise ClusterError(
            f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done
