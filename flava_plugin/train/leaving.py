"""How a process of a finished run ends: at once, with the code of its success."""

from __future__ import annotations

import atexit
import logging
import os
import sys

from flava_plugin.train.world import LEFT_GROUPS


def leave_at_once() -> None:
    """Have this process, whose work is done and saved, end without Python's teardown.

    Threads of gloo and NCCL outlive a process group. One that meets a half dismantled interpreter
    brings the process down, and a finished run would look like a failed one to its launcher. A
    process that met no others has no such threads, and ends as ever; so does one in which an error
    comes up after this, for its code must not be that of a success.
    """
    if any(group.size() > 1 for group in LEFT_GROUPS):
        atexit.register(_leave)


def _leave() -> None:
    if hasattr(sys, "last_value"):  # Python is ending over an exception that nobody caught
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
