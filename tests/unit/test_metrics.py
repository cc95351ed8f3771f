from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import pytest
import torch

from flava_plugin.train import progress, run_folder
from flava_plugin.train.metrics import TIME_KEYS, MetricLog, drop_after


def open_log(
    run_dir: Path, *, first: int = 0, seconds: float = 0.0, **options: object
) -> MetricLog:
    settings = {"tensorboard": False, "writes": True} | options
    return MetricLog(run_dir, first=first, global_batch=8, seconds=seconds, **settings)


def write(log: MetricLog, step: int) -> None:
    losses = {"mlm": torch.tensor(1 / step, dtype=torch.float32)}
    norm = torch.tensor(0.5)
    log.log(step, kind="text", source="books", losses=losses, grad_norm=norm, lr=0.1)


def lines(run_dir: Path, name: str = "metrics") -> list[dict[str, object]]:
    text = (run_dir / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_flat_and_its_numbers_are_exact(tmp_path: Path) -> None:
    with open_log(tmp_path, seconds=100.0) as log:
        write(log, 3)
    (line,) = lines(tmp_path)
    assert [*line] == ["step", "kind", "source", "mlm", "grad_norm", "lr", *TIME_KEYS[:2]]
    assert torch.tensor(line["mlm"]) == torch.tensor(1 / 3)
    assert isinstance(line["seconds"], float) and line["seconds"] >= 100.0


def test_shares_are_in_the_line_where_they_changed_and_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path, tensorboard=True) as log:
        for step, shares in ((1, {"books": 0.25, "films": 0.75}), (2, None)):
            norm = torch.tensor(0.5)
            log.log(step, kind="text", source="books", losses={}, grad_norm=norm, lr=0.1,
                    shares=shares)  # fmt: skip
    first, second = lines(tmp_path)
    assert first["shares"] == {"books": 0.25, "films": 0.75} and "shares" not in second
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("share/films")] == [(1, 0.75)]


def test_resuming_drops_later_and_torn_lines(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for step in (1, 2, 3, 4):
            write(log, step)
            log.log_evaluation(step, {"retrieval": {"r1": 0.1 * step}})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "kind": "te')
    with open_log(tmp_path, first=2) as log:
        write(log, 3)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    evaluations = lines(tmp_path, "evaluations")
    assert [line["step"] for line in evaluations] == [1, 2]
    assert evaluations[0] == {"step": 1, "retrieval.r1": 0.1}


def test_an_attempt_that_lost_its_claim_adds_no_line(tmp_path: Path) -> None:
    token = run_folder.claim(tmp_path)
    with open_log(tmp_path, check=partial(run_folder.keep_claim, tmp_path, token)) as log:
        write(log, 1)
        run_folder.claim(tmp_path)
        with pytest.raises(run_folder.LostClaimError):
            write(log, 2)
        with pytest.raises(run_folder.LostClaimError):
            log.log_evaluation(2, {"retrieval": {"r1": 0.1}})
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_a_step_left_out_under_fp16_is_still_a_line_of_json(tmp_path: Path) -> None:
    with open_log(tmp_path, tensorboard=True) as log:
        norm = torch.tensor(float("inf"))
        log.log(1, kind="text", source="books", losses={}, grad_norm=norm, lr=0.1)
    (line,) = lines(tmp_path)
    assert line["grad_norm"] is None
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    drop_after(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())


def test_a_rank_that_does_not_write_writes_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path, writes=False, tensorboard=True) as log:
        write(log, 1)
        log.log_evaluation(1, {"retrieval": {"r1": 0.1}})
        log.flush()
    assert not list(tmp_path.iterdir())


def test_events_hold_the_losses(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path, tensorboard=True) as log:
        write(log, 2)
        log.flush()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (point,) = events.Scalars("loss/mlm")
    assert (point.step, point.value) == (2, 0.5)


def test_without_a_terminal_progress_is_a_plain_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.Progress(4, 0, shown=True) as shown:
        for step in (1, 2, 3, 4):
            shown.advance()
            shown.show({"samples_per_s": 99.6, "mlm": 2.0, "step": step}, ["mlm"])
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split("  ")[0] for text in texts] == ["step 1/4", "step 4/4"]
    assert texts[-1].endswith("100 samples/s  mlm 2.000") and "00:00 left" in texts[-1]


def test_other_ranks_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.Progress(1, 0, shown=False) as shown:
        shown.advance()
        shown.show({"samples_per_s": 1.0, "mlm": 2.0}, ["mlm"])
    assert not caplog.records


def test_bytes_that_are_no_text_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n\0\0\0\n{"step": 2}\n')
    drop_after(path, 2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
