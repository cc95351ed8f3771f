"""``flava submit``: a recipe, or the evaluation of a run, as a job of SLURM or of this machine."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

DESCRIPTION = """\
Check a recipe and a cluster profile, and put the run into SLURM's queue (submitit). The job's id
stands alone on the last line of stdout, all else goes to stderr, so that jobs can be chained:
  ID=$(flava submit RECIPE run_dir=runs/a --cluster X)
  flava submit runs/a --eval --cluster X --dependency afterok:$ID
"""


def add_commands(commands: Any) -> None:
    """Add the command to the parser.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "submit",
        help="put a recipe on SLURM: checked, requeued, resumed",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --gpus of sbatch is not --gpus-per-node, --mail no --mail-type
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe; with --eval a run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe")
    add = parser.add_argument
    add("--cluster", metavar="X", help="profile: a YAML file, or a name of slurm/clusters")
    add("--executor", choices=["slurm", "local", "debug"], default="slurm",
        help="local: processes of this machine; debug: this process (%(default)s)")  # fmt: skip
    add("--dry-run", action="store_true", help="print the batch script and the checks, no more")
    add("--name", "--job-name", "--job_name", dest="job_name", metavar="X", help="name of the job")
    add("--job-dir", "--job_dir", metavar="DIR", help="folder of its files (RUN_DIR/logs/%%j)")
    add("--dependency", metavar="afterok:ID", help="jobs to wait for")
    add("--sweep", action="append", default=[], metavar="key=a,b",
        help="a job array over values; several multiply")  # fmt: skip
    add("--force", action="store_true", help="even if another job writes to run_dir")
    _add_profile_flags(parser.add_argument_group("over the profile").add_argument)
    add = parser.add_argument_group("evaluation").add_argument
    add("--eval", action="store_true", dest="evaluate", help="evaluate the run folder RECIPE")
    add("--split", metavar="X", help="split of every task's dataset")
    add("--tasks", metavar="A,B", help="only these tasks")
    add("--checkpoint", metavar="WHICH", help="latest, best or a number of steps")
    add("--no-report", action="store_true", help="write results.json only")
    parser.set_defaults(run=run_submit)


def _add_profile_flags(add: Any) -> None:
    """Flags under the names that users of MAE's, VICReg's and DINOv2's launchers know."""
    names: dict[str, tuple[tuple[str, ...], str]] = {
        "nodes": (("--nodes",), "a number, or a range such as 1-2"),
        "gpus_per_node": (("--ngpus", "--gpus-per-node"), "number of GPUs of each node"),
        "tasks_per_node": (
            ("--tasks-per-node", "--ntasks-per-node"),
            "number of processes of each node",
        ),
        "cpus_per_task": (("--cpus-per-task",), "number of cores of each process"),
        "mem_gb": (
            ("--mem-gb", "--mem"),
            "memory of each node, a number of GB, or 500M; 0 for all",
        ),
        "time": (("--time", "--timeout"), "walltime: minutes, HH:MM:SS or D-HH:MM:SS"),
        "partition": (("--partition", "-p"), "partition"),
        "account": (("--account", "-A"), "account"),
        "qos": (("--qos",), "quality of service"),
        "constraint": (("--constraint",), "features of the nodes"),
        "exclude": (("--exclude",), "nodes not to take"),
        "nodelist": (("--nodelist",), "nodes to take"),
        "reservation": (("--reservation",), "reservation"),
        "comment": (("--comment",), "comment of the job"),
        "signal_delay_s": (("--signal-delay",), "number of seconds before the walltime to save in"),
        "requeues": (("--requeues", "--max-num-timeout"), "number of times it may be requeued"),
        "array_parallelism": (("--array-parallelism",), "number of elements of a sweep at a time"),
        "python": (("--python",), "command that is Python on the nodes"),
        "srun": (("--srun-args",), "arguments of srun, in one word"),
    }
    for key, (flags, text) in names.items():
        add(*flags, dest=key, help=text, metavar="N" if "number" in text else "X")
    add("--exclusive", action="store_true", default=None, help="no other job on the nodes")
    add("--setup", action="append", metavar="LINE", help="shell line before the processes start")
    add("--env", action="append", dest="environment", metavar="NAME=VALUE",
        help="a variable of every process")  # fmt: skip
    add("--sbatch", action="append", metavar="OPTION=VALUE", help="a further option of sbatch")


def _flags(arguments: argparse.Namespace, wrong: list[str]) -> dict[str, Any]:
    """Values over the profile's, by key; what cannot be read goes to ``wrong``."""
    from flava_plugin.launch.cluster import FLAGS

    found = {key: getattr(arguments, key) for key in FLAGS}
    values = {key: value for key, value in found.items() if value is not None}
    if "srun" in values:
        try:
            values["srun"] = shlex.split(values["srun"])
        except ValueError as error:
            wrong.append(f"--srun-args: {error} (got {values.pop('srun')!r})")
    for key in ("environment", "sbatch"):
        for word in values.get(key, []):
            if key == "environment" and "=" not in word:
                wrong.append(f"--env: write NAME=VALUE (got {word!r})")
        pairs = [word.partition("=") for word in values.pop(key, [])]
        pairs = [pair for pair in pairs if pair[1] or key == "sbatch"]
        if pairs:
            values[key] = {name: text if equals else True for name, equals, text in pairs}
    return values


def _evaluation(arguments: argparse.Namespace, wrong: list[str]) -> dict[str, Any] | None:
    given = {"--split": arguments.split, "--tasks": arguments.tasks}
    given |= {"--checkpoint": arguments.checkpoint, "--no-report": arguments.no_report}
    if not arguments.evaluate:
        wrong += [f"{flag}: belongs to an evaluation; add --eval" for flag in given if given[flag]]
        return None
    tasks = tuple(name.strip() for name in (arguments.tasks or "").split(",") if name.strip())
    return {
        "split": arguments.split,
        "tasks": tasks or None,
        "which": arguments.checkpoint or "latest",
        "report": not arguments.no_report,
    }


def run_submit(arguments: argparse.Namespace) -> int:
    """Check everything, then submit.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code; of a job on this machine, the job's.

    Raises:
        RecipeError: The recipe, the profile or a flag is refused; nothing was submitted.
    """
    from flava_plugin.launch import executors, run
    from flava_plugin.launch.submission import Request, prepare
    from flava_plugin.recipe import RecipeError

    wrong: list[str] = []
    flags, evaluation = _flags(arguments, wrong), _evaluation(arguments, wrong)
    request = Request(
        name=arguments.recipe,
        overrides=tuple(arguments.overrides),
        cluster=arguments.cluster,
        flags=flags,
        executor=arguments.executor,
        job_name=arguments.job_name,
        job_dir=arguments.job_dir,
        dependency=arguments.dependency,
        axes=tuple(arguments.sweep),
        evaluate=evaluation,
        force=arguments.force,
        dry_run=arguments.dry_run,
        command=shlex.join(["flava", *sys.argv[1:]]),
        wrong=tuple(wrong),
    )
    prepared = prepare(request)
    for check in prepared.checks:
        if arguments.dry_run or check.verdict == "warning":
            print(check.line, file=sys.stderr)
    if prepared.refusals:
        raise RecipeError(prepared.refusals)
    on_slurm = arguments.executor == "slurm"
    if arguments.dry_run:
        print(run.batch_script(prepared) if on_slurm else "no batch script: this machine runs it")
        return 0
    if not on_slurm:
        return run.run_here(prepared)
    try:
        job = run.submit(prepared)
    except executors.SubmitError as error:
        print(f"flava submit: {error}", file=sys.stderr)
        return 1
    base = shlex.quote(str(prepared.base))
    count = f" ({len(prepared.elements)} elements)" if len(prepared.elements) > 1 else ""
    print(
        f"submitted{count}; to see: flava jobs {base}; flava logs {base} --follow", file=sys.stderr
    )
    print(job)
    return 0
