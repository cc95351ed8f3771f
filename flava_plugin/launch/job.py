"""What a job runs: plain data with a call, pickled by reference to this importable module.

A job holds the resolved recipe, not a path, so that a file edited while the job waits changes
nothing. Requeued, it is the same job again: the training goes on from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flava_plugin.launch import executors
from flava_plugin.launch.executors import Place
from flava_plugin.launch.measuring import Evaluation
from flava_plugin.recipe import Recipe, RecipeError, import_plugins
from flava_plugin.recipe_check import check
from flava_plugin.strict_yaml import parse


@dataclass(frozen=True)
class TrainingJob:
    """Trains a recipe.

    Attributes:
        recipe: The resolved recipe as YAML.
    """

    recipe: str

    def __call__(self) -> None:
        """Train, as one process of the job.

        Raises:
            SystemExit: With the exit code, unless that is 0.
        """
        perform(self.work, executors.place())

    def checkpoint(self) -> Any:
        """What submitit requeues after a signal; the ranks have saved before it asks."""
        return executors.again(self)

    def work(self) -> None:
        """Check the recipe where the job runs, and train it."""
        data = parse(self.recipe)
        errors = import_plugins(data.get("plugins"))
        recipe, found = check(data, Recipe, check_files=True)
        if recipe is None or errors or found:
            raise RecipeError([*errors, *found])

        from flava_plugin.train.loop import train

        train(recipe)


@dataclass(frozen=True)
class EvaluationJob:
    """Measures a run, as ``flava eval`` does.

    Attributes:
        evaluation: What is measured.
    """

    evaluation: Evaluation

    def __call__(self) -> None:
        """Evaluate, as one process of the job.

        Raises:
            SystemExit: With the exit code, unless that is 0.
        """
        perform(self.work, executors.place())

    def checkpoint(self) -> Any:
        """What submitit requeues after a signal: the same from the start.

        Of the paper's tasks, those that were done are taken from the run folder.
        """
        return executors.again(self)

    def work(self) -> None:
        """Evaluate the run and print the tables."""
        self.evaluation.run()
        if int(os.environ.get("RANK", "0")) == 0:
            sys.stdout.write(f"evaluated {self.evaluation.run_dir}\n")


def perform(work: Callable[[], None], where: Place) -> None:
    """Do a job's work with the variables, the log and the exit code it should have.

    Args:
        work: The work.
        where: This process's place.

    Raises:
        SystemExit: With the exit code, unless that is 0.
    """
    left = None
    if where.executor == "local" and where.folder is not None:
        left = exit_file(where.folder, where.job, where.rank)
        left.unlink(missing_ok=True)
    if where.folder is not None:
        _forget_half_written(where.folder, where.job, where.rank)
    with _variables(where.variables), _log(where.rank):
        if where.executor == "local":
            signal.signal(signal.SIGTERM, _leave)
        code = 1
        try:
            code = outcome(work)
        except SystemExit as leaving:  # submitit's handler, which has requeued the job
            code = leaving.code if isinstance(leaving.code, int) else 1
            raise
        finally:
            if left is not None:
                left.write_text(f"{code & 255}\n", encoding="utf-8")
    if code:
        raise SystemExit(code)
    from flava_plugin.train.leaving import leave_at_once

    leave_at_once()


def outcome(work: Callable[[], None]) -> int:
    """Do the work and turn the errors that users know into exit codes and a line each.

    Args:
        work: The work.

    Returns:
        0 done or saved by SIGUSR2, 1 failed, 2 refused, 130 after SIGINT and 143 after SIGTERM.
    """
    try:
        work()
    except RecipeError as refused:
        return _say(2, *refused.lines)
    except KeyboardInterrupt:
        return _say(130, "aborted; the last checkpoint stands")
    except OSError as error:
        return _say(1, str(error))
    except Exception as error:
        from flava_plugin.data.reading import UnreadableDataError
        from flava_plugin.train.requeue import Stopped
        from flava_plugin.train.run_folder import LostClaimError
        from flava_plugin.train.world import LostRankError

        if isinstance(error, Stopped):
            return _say(error.exit_code, str(error))
        if isinstance(error, ValueError):  # what only the built parts can refuse
            traceback.print_exc()  # nobody can start the job again under a debugger
            return _say(2, *str(error).splitlines())
        if isinstance(
            error, ArithmeticError | LostClaimError | LostRankError | UnreadableDataError
        ):
            return _say(1, str(error))
        raise
    return 0


def exit_file(folder: Path, job: str, rank: int) -> Path:
    """Where a process on this machine leaves its exit code, which submitit does not hand on.

    Args:
        folder: Where submitit keeps the job's files.
        job: The job's id.
        rank: The process.

    Returns:
        The path.
    """
    return folder / f"{job}_{rank}_exit"


def _forget_half_written(folder: Path, job: str, rank: int) -> None:
    """Delete what an earlier attempt was killed over: submitit refuses to write where it lies."""
    names = [f"{job}_{rank}_result.pkl.save_tmp"]
    names += [f"{job}_submitted.pkl.save_tmp"] if rank == 0 else []
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()


def _say(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"flava: {line}\n")
    sys.stderr.flush()
    return code


def _leave(signum: int, frame: FrameType | None) -> None:
    """End a local job that does not train yet.

    A training handles SIGTERM itself and calls this one, without a frame, after it has saved.
    """
    if frame is not None:
        raise SystemExit(128 + signum)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    kept = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, text in kept.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


@contextmanager
def _log(rank: int) -> Iterator[None]:
    """Rank 0 logs what happens and the others what is wrong, to the job's .out file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging.Formatter("%(message)s" if rank == 0 else f"rank {rank}: %(message)s")
    )
    handler.addFilter(lambda record: not record.name.startswith("submitit"))  # it has its own
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
