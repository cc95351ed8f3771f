"""The shell lines around srun in a training's batch script: set up, and requeue after a failure.

The walltime's signal is not dealt with here: the ranks save, and submitit's handler on rank 0
requeues the job, all before srun returns. What is left is a step that failed, for example because
a rank was killed. It is started again if a checkpoint appeared since it began, so that a run which
fails at the same place every time ends as FAILED.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from flava_plugin.launch.cluster import Profile

# The name of the newest checkpoint and its inode: a folder that replaces one of the same name
# (after a damaged checkpoint the run does those steps again) is another one.
_NEWEST = (
    'flava_newest() { local at="$flava_run/checkpoints" name; name=$(cat "$at/latest" 2>/dev/null)'
    ' && echo "$name $(stat -c %i "$at/$name" 2>/dev/null)"; }'
)

# An element of an array is named ARRAY_INDEX: the id of the array means all of its elements.
_JOB = 'flava_job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"'

# Asked of the controller: a job that was cancelled, reached its walltime or is back in the queue
# already is not RUNNING; and if it runs with another count of restarts, that is a later attempt of
# this job, which this script, left over on a lost node, must leave alone. So must it another job
# that was submitted for the run meanwhile: the two would take it from each other for ever.
_STATE = """\
flava_code=$?
flava_say() { echo "flava: $*" >&2; }
flava_owner=$(cat "$flava_run/attempt" 2>/dev/null)
flava_now=" $(scontrol show job --oneliner "$flava_job" 2>/dev/null) "
if [ "$flava_code" = 0 ]; then
  :
elif [ "$flava_code" = 130 ]; then
  flava_say "stopped by SIGINT; not requeued"
elif [[ "$flava_now" != *" JobState=RUNNING "* ]]; then
  flava_say "the step ended with code $flava_code; the job is queued again, cancelled or over"
elif [[ "$flava_now" != *" Restarts=${SLURM_RESTART_COUNT:-0} "* ]]; then
  flava_say "the step ended with code $flava_code; a later attempt of this job is running"
elif [ "$(flava_newest)" = "$flava_before" ]; then
  flava_say "failed with code $flava_code, no checkpoint since this attempt began: not requeued"
elif [[ -n "$flava_owner" && "$flava_owner" != "job$SLURM_JOB_ID-"* ]]; then
  flava_say "the step ended with code $flava_code; another job has taken the run: not requeued"
elif [ "${SLURM_RESTART_COUNT:-0}" -ge REQUEUES ]; then
  flava_say "failed with code $flava_code after REQUEUES restarts: not requeued"
elif scontrol requeue "$flava_job"; then
  flava_say "failed with code $flava_code after a new checkpoint: requeued to go on from there"
else
  flava_say "failed with code $flava_code, and cannot be requeued"
fi
exit "$flava_code\""""


def setup_lines(profile: Profile, runs: Sequence[Path]) -> list[str]:
    """Write what comes before srun.

    Args:
        profile: Its ``environment``, ``setup``, ``nodes`` and tasks.
        runs: The run folder of each element of the array, or of the one job; none for a job that
            is not to be requeued after a failure.

    Returns:
        Lines of bash.
    """
    # A USR2 sent to the whole job reaches this shell too, which would die of it. The processes
    # have it as well, and act on it; the trap runs when srun has ended, and does nothing.
    lines = ["trap : USR2"]
    lines += [f"export {name}={shlex.quote(text)}" for name, text in profile.environment.items()]
    lines += profile.setup
    least, most = profile.nodes
    if least != most:  # sbatch was told of one task on each node
        total, cores = f"$((SLURM_JOB_NUM_NODES * {profile.tasks}))", profile.cpus_per_task or 1
        lines += [
            f'export SLURM_NTASKS="{total}" SLURM_NPROCS="{total}"',
            f"export SLURM_NTASKS_PER_NODE={profile.tasks}",
            f'export SLURM_TASKS_PER_NODE="{profile.tasks}(x$SLURM_JOB_NUM_NODES)"',
            f"export SLURM_CPUS_PER_TASK={cores} SRUN_CPUS_PER_TASK={cores}",
        ]
    if runs and profile.requeues:
        folders = " ".join(shlex.quote(str(run)) for run in runs)
        lines += [
            "set +e",  # a setup line may have said set -e, and the lines after srun are needed
            f"flava_runs=({folders})",
            'flava_run="${flava_runs[${SLURM_ARRAY_TASK_ID:-0}]}"',
            _JOB,
            'flava_job="${flava_job:-$SLURM_JOB_ID}"',
            _NEWEST,
            'flava_before="$(flava_newest)"',
        ]
    return lines


def teardown_lines(profile: Profile, runs: Sequence[Path]) -> list[str]:
    """Write what comes after srun.

    Args:
        profile: Its ``requeues``.
        runs: As for ``setup_lines``.

    Returns:
        Lines of bash; the last one passes srun's code on, by which SLURM sees a failed job.
    """
    if not runs or not profile.requeues:
        return []
    return _STATE.replace("REQUEUES", str(profile.requeues)).splitlines()
