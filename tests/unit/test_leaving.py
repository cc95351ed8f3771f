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
leaving.leave_at_once({code})
print("done", flush=False)
"""

LATER = CRASH.replace("atexit.register(os._exit, 9)\n", "") + "raise OSError('no result written')"


@pytest.mark.parametrize(("size", "own", "code"), [(2, 0, 0), (2, 143, 143), (1, 0, 9)])
def test_a_process_that_met_others_ends_before_the_teardown(size: int, own: int, code: int) -> None:
    command = [sys.executable, "-c", CRASH.format(size=size, code=own)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout == "done\n" or size == 1, "what was printed is not lost"


def test_an_error_after_the_training_is_no_success() -> None:
    command = [sys.executable, "-c", LATER.format(size=2, code=0)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no result written" in done.stderr
