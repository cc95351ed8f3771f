from __future__ import annotations

import os
import signal

import pytest

from flava_plugin.train import requeue
from flava_plugin.train.requeue import SIGNALS, Stopped, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_and_nothing_else(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with StopRequest() as request:
        assert request.agreed(request.flags()) == 0
        os.kill(os.getpid(), number)
        assert request.agreed(request.flags()) == number
    assert signal.getsignal(number) is former


def test_what_one_rank_received_all_ranks_act_on() -> None:
    with StopRequest() as here, StopRequest() as there:
        os.kill(os.getpid(), signal.SIGTERM)  # the inner one handles it
        assert StopRequest.agreed(here.flags() + there.flags()) == signal.SIGTERM
        assert here.signum == 0


def test_a_second_ctrl_c_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # at once: a launcher's echo of the same key press
        assert request.signum == signal.SIGINT
        monkeypatch.setattr(requeue, "ECHO", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_not_handed_over_to_pythons_own_handler() -> None:
    with StopRequest() as request:
        request.hand_over(signal.SIGINT)
        request.hand_over(signal.SIGTERM)


def test_exit_codes_are_the_shells() -> None:
    codes = [Stopped(number, 3, "flava train x").exit_code for number in SIGNALS]
    assert codes == [130, 143, 0]
