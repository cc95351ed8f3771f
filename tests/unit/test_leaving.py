from __future__ import annotations

import subprocess
import sys

import pytest

# What a thread of a communication library may do to a process that is being dismantled.
CRASH = """
import atexit, os
from flava_plugin.train import leaving
atexit.register(os._exit, 9)
class Group:
    def size(self): return {size}
leaving.LEFT_GROUPS.append(Group())
leaving.leave_at_once()
print("done", flush=False)
"""


@pytest.mark.parametrize(("size", "code"), [(2, 0), (1, 9)])
def test_a_process_that_met_others_ends_before_the_teardown(size: int, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(size=size)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == "done\n" or size == 1, "what was printed is not lost"
