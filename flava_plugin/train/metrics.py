"""What a run reports while it trains: ``metrics.jsonl`` and TensorBoard events.

A line holds ``step`` (optimiser steps done), ``kind`` (image, text or pair; of an accumulated step
all, joined by +), ``source``, the losses computed in that step, ``grad_norm`` (null where fp16
overflowed and the step was left out), ``lr``, ``epoch`` of the source, ``bad_samples`` replaced so
far if any, ``shares`` of the sources and ``weights`` of the objectives where new ones began since
the line before, ``samples_per_s`` and ``seconds``; where files are fetched ``incidents`` so far if
any, and under ``compile`` also ``compiled``, the graphs compiled so far. A line of kind ``balance``
has ``step`` and the figures of a diagnosis, which ``balance.jsonl`` has in full
(``balance_record.py``). All is a function of the step alone but for the last four keys, so a
resumed run's file equals the uninterrupted one's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flava_plugin import durable
from flava_plugin.balance_record import BalanceRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TIME_KEYS = ("samples_per_s", "seconds", "compiled", "incidents")
"""Keys that differ between two runs of the same recipe."""


FILES = ("metrics", "evaluations", "balance")
"""Files of JSON lines in a run folder, without their suffix."""


def drop_after(path: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run will do again, and a torn last line.

    Args:
        path: A file of JSON lines with ``step``; it may be absent.
        step: The last step to keep.
    """
    if not path.is_file():
        return
    kept = []
    for raw in path.read_bytes().splitlines():
        try:
            line = raw.decode("utf-8")  # a crash can leave any bytes in the last line
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    durable.write_text(path, "".join(line + "\n" for line in kept))


class MetricLog:
    """Writes the lines and the events of one run; on ranks that do not write, does nothing.

    Args:
        run_dir: The run folder.
        first: Steps done before; later lines are dropped.
        global_batch: Rows per step, for the samples per second.
        seconds: Seconds of training before this start.
        tensorboard: Whether to write events too.
        writes: Whether this rank writes.
        check: Called before each line; raises where a later attempt has claimed the run folder,
            whose files this one must not add to.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        first: int,
        global_batch: int,
        seconds: float,
        tensorboard: bool,
        writes: bool,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.writes = writes
        self._check = check
        self._global_batch = global_batch
        self._started = self._marked = time.monotonic()
        self._before = seconds
        self._last = first
        self._files = {name: run_dir / f"{name}.jsonl" for name in FILES}
        self._events: SummaryWriter | None = None
        if not writes:
            return
        for path in self._files.values():
            drop_after(path, first)
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first + 1)

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._events:
            self._events.close()

    @property
    def seconds(self) -> float:
        """Seconds of training over all starts."""
        return self._before + time.monotonic() - self._started

    def log(
        self,
        step: int,
        *,
        kind: str,
        source: str,
        losses: Mapping[str, Tensor],
        grad_norm: Tensor,
        lr: float,
        data: Mapping[str, int] | None = None,
        shares: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        compiled: int | None = None,
    ) -> dict[str, Any]:
        """Write the line of a step; the only place where losses leave the device.

        Args:
            step: Optimiser steps done.
            kind: Modality of the step.
            source: Source of the step.
            losses: Global mean loss by objective, scalars on the device.
            grad_norm: Gradient norm before clipping, a scalar on the device.
            lr: Learning rate of the step.
            data: What else the line says, of the data.
            shares: Share of steps by source, where it has changed.
            weights: Of the objectives, where they have changed.
            compiled: Graphs compiled so far, where the run compiles; a growing number says that
                shapes keep changing.

        Returns:
            The line.
        """
        now = time.monotonic()
        rate = (step - self._last) * self._global_batch / max(now - self._marked, 1e-9)
        self._last, self._marked = step, now
        line: dict[str, Any] = {"step": step, "kind": kind, "source": source}
        line |= {name: value.item() for name, value in losses.items()}
        norm = grad_norm.item()
        line |= {"grad_norm": norm if math.isfinite(norm) else None, "lr": lr, **(data or {})}
        if shares:
            line["shares"] = dict(shares)
        if weights:
            line["weights"] = dict(weights)
        line |= {"samples_per_s": round(rate, 1), "seconds": round(self.seconds, 2)}
        if compiled is not None:
            line["compiled"] = compiled
        self._append("metrics", line)
        if self._events:
            for name in losses:
                self._events.add_scalar(f"loss/{name}", line[name], step)
            for name, share in (shares or {}).items():
                self._events.add_scalar(f"share/{name}", share, step)
            for name, weight in (weights or {}).items():
                self._events.add_scalar(f"weight/{name}", weight, step)
            self._events.add_scalar("train/grad_norm", norm, step)
            for name in ("lr", "samples_per_s"):
                self._events.add_scalar(f"train/{name}", line[name], step)
        return line

    def log_evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """Write the line of an evaluation, with keys ``task.figure``.

        Args:
            step: Optimiser steps done.
            results: Figures by task.
        """
        figures = {
            f"{t}.{name}": value for t, row in results.items() for name, value in row.items()
        }
        self._append("evaluations", {"step": step, **figures})
        if self._events:
            for name, value in figures.items():
                self._events.add_scalar(f"evaluate/{name.replace('.', '/')}", value, step)

    def log_balance(self, record: BalanceRecord) -> None:
        """Write a diagnosis: in full to ``balance.jsonl``, its figures by encoder as metrics.

        Args:
            record: The diagnosis; one that overflowed is left out.
        """
        if not record.is_finite():
            return
        figures = record.compact()
        self._append("metrics", {"step": record.step, "kind": "balance", "balance": figures})
        self._append("balance", record.line())
        if self._events:
            for encoder, kinds in figures.items():
                for kind, values in kinds.items():
                    for name, value in values.items():
                        self._events.add_scalar(
                            f"balance_{kind}/{encoder}/{name}", value, record.step
                        )

    def flush(self) -> None:
        """Bring every line to the disk, so that none older than a checkpoint can be lost."""
        if self.writes:
            for path in self._files.values():
                if path.is_file():
                    durable.sync(path)
            if self._events:
                self._events.flush()

    def _append(self, name: str, line: Mapping[str, Any] | str) -> None:
        if self.writes:
            if self._check:
                self._check()
            with self._files[name].open("a", encoding="utf-8") as file:
                file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
