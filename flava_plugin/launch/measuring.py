"""What ``flava eval`` does, in a terminal and in a job: on one process or on several."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from flava_plugin.evaluate.sharing import Ranks


@dataclass(frozen=True)
class Evaluation:
    """What is measured of a run; plain data.

    Attributes:
        run_dir: The run folder.
        split: Split of every task's dataset; None takes the recipe's.
        which: The checkpoint: ``latest``, ``best`` or a number of steps.
        tasks: Names of tasks of the recipe and of the paper; None takes all.
        overrides: Changes to the run's recipe.
        report: Whether to write ``report.html``.
        weights: ``raw``, ``ema`` or ``auto``.
        data: Folder of the paper's sets; None measures none of its tasks.
        again: Whether to measure the paper's tasks anew.
        finetuned: ``TASK=RUN`` each, for the paper's table.
        compare: A run whose figures are shown beside.
    """

    run_dir: str
    split: str | None = None
    which: str = "latest"
    tasks: tuple[str, ...] | None = None
    overrides: tuple[str, ...] = ()
    report: bool = True
    weights: Literal["auto", "ema", "raw"] = "auto"
    data: str | None = None
    again: bool = False
    finetuned: tuple[str, ...] = ()
    compare: str | None = None

    def run(self) -> None:
        """Meet the other processes, measure, and print the tables on the first.

        Raises:
            ValueError: There is no such run, checkpoint, task or folder, or they do not fit.
            LostRankError: Another process died or hangs.
        """
        from flava_plugin.evaluate.sharing import Ranks
        from flava_plugin.train.world import connect, disconnect, lost_ranks_named

        device, timeout = self._place()
        world = connect(device, timeout)
        try:
            with lost_ranks_named(world):
                self._measure(str(world.device), Ranks(world.rank, world.size))
        finally:
            disconnect()

    def _place(self) -> tuple[Any, float]:
        """Where to compute, a GPU only if there is one, and how long ranks wait for one another."""
        from flava_plugin.recipe import load_recipe

        path = Path(self.run_dir) / "recipe.yaml"
        if not path.is_file():
            raise ValueError(
                f"{self.run_dir}: no run here (no recipe.yaml); give the run_dir of a training"
            )
        recipe = load_recipe(str(path), self.overrides, check_files=False)
        device = "cpu" if recipe.device == "cpu" else "auto"
        return device, recipe.sharding.timeout

    def _measure(self, device: str, ranks: Ranks) -> None:
        """Measure the recipe's tasks and the paper's, and print a table of each."""
        from flava_plugin import durable
        from flava_plugin.evaluate.compare import comparison
        from flava_plugin.evaluate.finetuned_runs import parse_runs, with_runs
        from flava_plugin.evaluate.paper_run import PAPER_RESULTS, evaluate_paper, paper_table
        from flava_plugin.evaluate.run import evaluate_run
        from flava_plugin.evaluate.table import text_table

        run_dir = Path(self.run_dir)
        runs = parse_runs(self.finetuned)
        if runs and self.data is None:
            raise ValueError("--with adds to the paper's table; give --data too")
        own, paper = self.own_tasks()
        # first, for the report shows them too
        if self.data is not None and paper != ():
            measured = evaluate_paper(
                run_dir,
                Path(self.data),
                names=paper,
                checkpoint=self.which,
                again=self.again,
                weights=self.weights,
                device=device,
                ranks=ranks,
            )
            if ranks.rank == 0:
                joined = with_runs(measured, runs)
                durable.write_text(run_dir / PAPER_RESULTS, json.dumps(joined, indent=2) + "\n")
                said = f"wrote {PAPER_RESULTS} in {run_dir}; figures in per cent\n"
                _say(ranks, said, paper_table(joined) + "\n")
        if own != ():
            results = evaluate_run(
                run_dir,
                split=self.split,
                checkpoint=self.which,
                only=own,
                overrides=self.overrides,
                report=self.report,
                weights=self.weights,
                device=device,
                ranks=ranks,
            )
            written = "results.json and report.html" if self.report else "results.json"
            _say(ranks, f"wrote {written} in {run_dir}\n", text_table(results))
        if self.compare is not None and ranks.rank == 0:
            _say(ranks, f"\n{comparison(run_dir, Path(self.compare))}")

    def own_tasks(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Take the names of tasks apart.

        Returns:
            Those of the recipe and those of the paper; None for all of them.
        """
        from flava_plugin.evaluate.paper_tasks import TASKS
        from flava_plugin.recipe import load_recipe

        if self.data is None:
            return self.tasks, ()
        if self.tasks is not None:
            paper = tuple(name for name in self.tasks if name in TASKS)
            return tuple(name for name in self.tasks if name not in TASKS), paper
        path = Path(self.run_dir) / "recipe.yaml"
        recipe = load_recipe(str(path), self.overrides, check_files=False)
        return None if recipe.evaluate.tasks else (), None


def _say(ranks: Ranks, *texts: str) -> None:
    if ranks.rank == 0:
        sys.stdout.write("\n".join(texts) + "\n")
        sys.stdout.flush()


def task_names(text: str | None) -> tuple[str, ...] | None:
    """Read ``--tasks``.

    Args:
        text: What stood behind it, or None.

    Returns:
        The names; None for all.
    """
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return None if not names or names == ("all",) else names
