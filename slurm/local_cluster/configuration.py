"""SLURM's own configuration files for one cluster (SLURM 22.05)."""

from __future__ import annotations

import os
import pwd
import socket
import time

from .settings import Settings


def user_name() -> str:
    """Name the user who runs the daemons.

    Returns:
        The name.

    Raises:
        ValueError: The user id has no name; SLURM needs one.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise ValueError(f"user id {os.getuid()} has no line in /etc/passwd") from None


def slurm_conf(settings: Settings, addresses: list[str], controller: str) -> str:
    """Write slurm.conf.

    Args:
        settings: With its port chosen.
        addresses: Of the nodes, in order.
        controller: As SlurmctldHost wants it: name(address).

    Returns:
        The file's text, for SLURM 22.05.
    """
    user, folder = user_name(), settings.folder
    # Ten numbers a second: a later cluster never gives a job the number of an earlier one's, whose
    # folder a launcher might read as this job's.
    first_job = int(time.time() * 10) % 60_000_000 + 1000
    lines = f"""
ClusterName=local
SlurmctldHost={controller}
SlurmctldPort={settings.port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job waits until its credential has expired; less than 5 means 120 seconds.
AuthInfo=cred_expire=5,socket={folder}/run/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
# Processes are followed by their parents: there may be no control groups to put them in.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# A preempted job gets the signal of its --signal option and not SIGTERM alone.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
# Nodes may claim more than the machine has, and come back by themselves.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
TCPTimeout=2
InactiveLimit=0
KillWait=5
# Finished jobs are remembered for a day: the stand-in sacct asks for them.
MinJobAge=86400
FirstJobId={first_job}
GresTypes=gpu
""".lstrip().splitlines()
    gpus = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    host = socket.gethostname().split(".")[0]
    for index, (name, address) in enumerate(zip(settings.names, addresses, strict=True)):
        lines.append(
            f"NodeName={name} NodeHostname={name if settings.isolated else host} "
            f"NodeAddr={address} Port={settings.port + 1 + index} CPUs={settings.cpus} "
            f"RealMemory={settings.memory_mb}{gpus} State=UNKNOWN"
        )
    # Without a default a job that names no memory would take all of a node's.
    both = (
        f"Nodes=ALL MaxTime=INFINITE DefaultTime=60 State=UP "
        f"DefMemPerCPU={settings.memory_mb // settings.cpus}"
    )
    lines.append(
        f"PartitionName=debug {both} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60"
    )
    lines.append(f"PartitionName=high {both} PriorityTier=10 PreemptMode=OFF")
    return "\n".join(lines) + "\n"


def gres_conf(settings: Settings) -> str:
    """Write gres.conf: GPUs that are links to /dev/null.

    A plain count and plain files are refused by slurmd; a link to a character device passes.

    Args:
        settings: Of the cluster.

    Returns:
        The file's text; empty without GPUs.
    """
    devices = ",".join(f"{settings.folder}/dev/nvidia{index}" for index in range(settings.gpus))
    return f"NodeName={','.join(settings.names)} Name=gpu File={devices}\n" if devices else ""
