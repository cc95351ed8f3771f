"""How a process of a run ends once its work is done, saved or given up: at once, with its code."""

from __future__ import annotations

import atexit
import logging
import os
import sys

from flava_plugin.train.world import LEFT_GROUPS


def leave_at_once(code: int = 0) -> int:
    """Have this process, which has nothing left to do, end without Python's teardown.

    Threads of gloo and NCCL outlive a process group. One that meets a half dismantled interpreter
    brings the process down by SIGABRT, and a finished run would look like a failed one to its
    launcher, one that was stopped or refused like a crash. A process that met no others has no such
    threads, and ends as ever; so does one in which an error comes up after this, for its code must
    not be that of a success.

    Args:
        code: Its exit code.

    Returns:
        The code.
    """
    if any(group.size() > 1 for group in LEFT_GROUPS):
        atexit.register(_leave, code)
    return code


def _leave(code: int) -> None:
    if hasattr(sys, "last_value"):  # Python is ending over an exception that nobody caught
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
