"""A request to stop: signals set a flag, which is read between two steps.

A save is a collective, so it cannot happen inside a signal handler. The flag is agreed on by all
ranks at a step boundary; they save together, and only then is the signal handed to whoever handled
it before, for example a launcher that requeues the job.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
ECHO = 0.5
"""Seconds within which a second SIGINT is a launcher's echo of the first, not a second request."""


class Stopped(Exception):  # noqa: N818 - no error, as StopIteration is none
    """A run that was asked to stop, did so between two steps, and is saved.

    Args:
        signum: The signal.
        step: Optimiser steps done and saved.
        resume: The command that goes on with it.
    """

    def __init__(self, signum: int, step: int, resume: str) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}, saved; to go on: {resume}"
        )
        self.signum = signum
        self.step = step

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM; 0 for SIGUSR2, by which a queue asks for a save."""
        return 0 if self.signum == signal.SIGUSR2 else 128 + self.signum


class StopRequest:
    """Handles SIGINT, SIGTERM and SIGUSR2 while a run is under way.

    The first signal sets the flag; a second SIGINT raises KeyboardInterrupt at once. Signals can
    only be handled in the main thread; in another one this does nothing.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0
        self._owner = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked data worker; the training process decides
            return
        again = self.signum and time.monotonic() - self._since > ECHO
        if signum == signal.SIGINT and again:
            raise KeyboardInterrupt
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()

    def flags(self) -> Tensor:
        """The request of this rank, to be summed over ranks.

        Returns:
            (3,) float, one at the signal's place in ``SIGNALS``.
        """
        return torch.tensor([float(self.signum == number) for number in SIGNALS])

    @staticmethod
    def agreed(flags: Tensor) -> int:
        """The signal that all ranks act on.

        Args:
            flags: (3,) sum of every rank's ``flags``.

        Returns:
            The number of a signal that some rank received, 0 for none.
        """
        for number, count in zip(SIGNALS, flags.tolist(), strict=True):
            if count:
                return int(number)
        return 0

    def hand_over(self, signum: int) -> None:
        """Pass a signal on to its former handler, after the run is saved.

        Args:
            signum: The agreed signal.
        """
        former = self._previous.get(signum)
        if callable(former) and former is not signal.default_int_handler:
            former(signum, None)
