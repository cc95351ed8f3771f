"""A run's counts of what it cannot read, and its refusal of data that have changed."""

from __future__ import annotations

import json

import pytest
import torch
from data_stubs import Pairs, section

from flava_plugin.data.reading import BadSample, UnreadableDataError
from flava_plugin.data.steps import Step
from flava_plugin.train.data_log import DataLog
from flava_plugin.train.world import World

WORLD = World(0, 1, 0, torch.device("cpu"))


def make(**changes):
    datasets = {"pairs": Pairs(4), "sentences": Pairs(5), "pictures": Pairs(6)}
    return DataLog(section(**changes), datasets, WORLD)


def step(number=0, bad=(), **incidents):
    records = [BadSample("pairs", index, "broken picture") for index in bad]
    return Step(number, "pairs", "pair", [], records, 3, incidents)


def test_counts_go_into_the_lines_the_state_and_the_file(tmp_path):
    log = make()
    assert log.figures(step()) == {"epoch": 3}
    for each in (step(bad=[1]), step(), step(bad=[1, 2], stalled=2), step(stalled=1, failed=1)):
        log.note(each, log.flags(each))
    assert log.figures(step()) == {"epoch": 3, "bad_samples": 2, "incidents": 4}
    again = make()
    again.load_state(json.loads(json.dumps(log.state())))
    assert again.state() == log.state() and again.figures(step()) == log.figures(step())
    again.write(tmp_path)
    found = json.loads((tmp_path / "data.json").read_text())
    assert found["bad_samples"] == {"pairs": {"broken picture": 2}}
    assert found["incidents"] == {"stalled": 3, "failed": 1}
    assert found["sources"]["pairs"] == {
        "dataset": "in_memory",
        "samples": 4,
        "fingerprint": "4 samples",
    }


def test_the_budget_grows_with_the_rows_read():
    log = make(bad_samples=0, bad_share=0.25)  # 8 rows a step
    log.note(step(0, [0, 1]), torch.ones(2))
    log.note(step(1, [2, 3]), torch.ones(2))
    with pytest.raises(UnreadableDataError, match="5 samples"):
        log.note(step(1, [4]), torch.ones(2))


def test_what_happened_while_the_data_were_opened_is_counted_once():
    class Remote(Pairs):
        told = {"wrong bytes": 2}

        def take_incidents(self):
            told, self.told = self.told, {}
            return told

    log = DataLog(
        section(), {"pairs": Remote(4), "sentences": Pairs(5), "pictures": Pairs(6)}, WORLD
    )
    for each in (step(stalled=1), step()):
        flags = log.flags(each)
        log.note(each, flags)
    assert flags.tolist() == [0, 0]
    assert log.incidents == {"wrong bytes": 2, "stalled": 1}


def test_data_without_a_fingerprint_must_stay_where_they_were():
    sources = section().model_dump()["sources"]
    log, moved = (
        make(sources=sources | {"pairs": sources["pairs"] | {"dataset": {"type": "x", "path": at}}})
        for at in ("/a", "/b")
    )
    with pytest.raises(ValueError, match=r"pairs\.dataset: .*4 samples of /a then, .* of /b now"):
        moved.load_state(log.state())
    for each in (log, moved):
        each.datasets["pairs"].fingerprint = "abc"
    moved.load_state(log.state())


def test_other_data_than_the_checkpoints_are_refused():
    log = make()
    log.datasets["pairs"].fingerprint = "abc"
    state = log.state()
    other = make()
    with pytest.raises(
        ValueError, match=r"data\.sources\.pairs\.dataset: has changed.*abc then, 4"
    ):
        other.load_state(state)
    assert len(json.dumps(state)) < 1000
