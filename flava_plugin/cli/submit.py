"""``flava submit``: a recipe, or the evaluation of a run, as a job of SLURM or of this machine."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Check a recipe and a cluster profile, and put the run into SLURM's queue (submitit). The job's id
stands alone on the last line of stdout, all else goes to stderr, so that jobs can be chained:
  ID=$(flava submit RECIPE run_dir=runs/a --cluster X)
  flava submit runs/a --eval --cluster X --dependency afterok:$ID
Or by one command, checked whole before anything is queued; a training after --then starts from the
run before it, --eval without a run measures it, and options of the first job hold for the others:
  flava submit RECIPE run_dir=runs/a --cluster X --then RECIPE2 run_dir=runs/b --then --eval
init=null starts afresh, and a recipe whose init names runs of the chain starts from those:
  flava submit pretrain/mim_shapes --cluster X --then pretrain/mlm_shapes init=null \\
    --then pretrain/shapes_initialised --then --eval
"""

OF_EVALUATIONS = (
    "split",
    "tasks",
    "checkpoint",
    "weights",
    "data",
    "again",
    "compare",
    "no-report",
)


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
    add("--weights", choices=("auto", "ema", "raw"), help="as of flava eval")
    add("--data", metavar="ROOT", help="the paper's tasks whose sets lie in this folder")
    add("--again", action="store_true", help="the paper's tasks: measure anew")
    add("--with", dest="finetuned", action="append", metavar="TASK=RUN", default=[],
        help="the paper's table: figures of a fine-tuned run")  # fmt: skip
    add("--compare", metavar="RUN2", help="print what the run has over RUN2")
    add("--no-report", action="store_true", help="write results.json only")
    then = "then, when that has succeeded: RECIPE key=value or --eval, options; may stand again"
    parser.add_argument("--then", nargs=argparse.REMAINDER, metavar="...", help=then)
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
    from flava_plugin.launch.measuring import task_names

    given = {f"--{name}": getattr(arguments, name.replace("-", "_")) for name in OF_EVALUATIONS}
    given["--with"] = arguments.finetuned
    if not arguments.evaluate:
        wrong += [f"{flag}: belongs to an evaluation; add --eval" for flag in given if given[flag]]
        return None
    runs = [
        str(_absolute(word)) if Path(word).is_dir() else f"{task}{equals}{_absolute(run)}"
        for word in arguments.finetuned
        for task, equals, run in [word.partition("=")]
    ]
    return {
        "split": arguments.split,
        "tasks": task_names(arguments.tasks),
        "which": arguments.checkpoint or "latest",
        "report": not arguments.no_report,
        "weights": arguments.weights or "auto",
        "data": _absolute(arguments.data),
        "again": arguments.again,
        "finetuned": tuple(runs),
        "compare": _absolute(arguments.compare),
    }


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _requests(arguments: argparse.Namespace) -> list[Any]:
    """What was asked for, job by job; options of the first hold for all that do not say them."""
    from flava_plugin.cli.main import parse
    from flava_plugin.launch.cluster import FLAGS
    from flava_plugin.launch.submission import Request

    links, words = [arguments], list[list[str]]()
    for word in ["--then", *arguments.then] if arguments.then is not None else []:
        if word == "--then":
            words.append([])
        else:
            words[-1].append(word)
    for job in words:
        # only what follows --then may leave its recipe out: that is the run before
        nameless = not job or job[0].startswith("-")
        links.append(parse(["submit", *([""] if nameless else []), *job]))
    requests = []
    for link in links:
        for name in (*FLAGS, "cluster", "job_dir"):
            if getattr(link, name) is None:
                setattr(link, name, getattr(arguments, name))
        wrong: list[str] = []
        flags, evaluation = _flags(link, wrong), _evaluation(link, wrong)
        requests.append(
            Request(
                name=link.recipe,
                overrides=tuple(link.overrides),
                cluster=link.cluster,
                flags=flags,
                executor=arguments.executor,
                job_name=link.job_name,
                job_dir=link.job_dir,
                dependency=link.dependency,
                axes=tuple(link.sweep),
                evaluate=evaluation,
                force=arguments.force or link.force,
                dry_run=arguments.dry_run or link.dry_run,
                command=shlex.join(["flava", *sys.argv[1:]]),
                wrong=tuple(wrong),
            )
        )
    return requests


def run_submit(arguments: argparse.Namespace) -> int:
    """Check everything, then submit.

    Args:
        arguments: As ``add_commands`` declares them.

    Returns:
        The exit code; of jobs on this machine, that of the first which failed.

    Raises:
        RecipeError: The recipe, the profile or a flag is refused; nothing was submitted.
    """
    from flava_plugin.launch import executors, run
    from flava_plugin.launch.chain import prepare_chain
    from flava_plugin.recipe import RecipeError

    requests = _requests(arguments)
    chain, dry_run = prepare_chain(requests), any(request.dry_run for request in requests)
    refusals = list[str]()
    for place, prepared in enumerate(chain, 1):
        where = f"[job {place}] " if len(chain) > 1 else ""
        for check in prepared.checks:
            if dry_run or check.verdict == "warning":
                print(f"{where}{check.line}", file=sys.stderr)
        refusals += [f"{where}{line}" for line in prepared.refusals]
    if refusals:
        raise RecipeError(refusals)
    on_slurm = arguments.executor == "slurm"
    if dry_run:
        scripts = "\n".join(run.batch_scripts(chain)) if on_slurm else ""
        print(scripts or "no batch script: this machine runs it")
        return 0
    if not on_slurm:
        return next((code for prepared in chain if (code := run.run_here(prepared))), 0)
    job = ""
    try:
        for prepared, job in run.submit_chain(chain):
            base = shlex.quote(str(prepared.base))
            count = f" ({len(prepared.elements)} elements)" if len(prepared.elements) > 1 else ""
            number = f" {job}" if len(chain) > 1 else ""
            see = f"flava jobs {base}; flava logs {base} --follow"
            print(f"submitted{number}{count}; to see: {see}", file=sys.stderr)
    except executors.SubmitError as error:
        print(f"flava submit: {error}", file=sys.stderr)
        if job:
            print(f"the jobs before it are queued; scancel {job} ends the last", file=sys.stderr)
        return 1
    print(job)
    return 0
