import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.paper_tasks import TASKS
from flava_plugin.evaluate.report import read_metrics, series, write_report
from flava_plugin.evaluate.report_figures import line_chart, picture, running_mean, ticks
from flava_plugin.evaluate.table import rows, text_table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
OBJECTIVES = ("mim", "mlm", "mmm_image", "mmm_text", "itm", "contrastive")
RESULTS = {
    "retrieval": {"image_to_text_r1": 0.5, "text_to_image_r5": 0.9, "gallery_size": 250},
    "zero_shot": {"unseen_combinations": 0.4, "classes": 48, "chance": 1 / 48},
    "masked": {"words": 0.6, "words_majority": 0.2, "patches": 0.3, "patches_majority": 0.1},
    "itm": {"accuracy": 0.7, "majority": 0.5, "near_misses": 0.6},
    "seconds": {"train": 200.4, "total": 230.6},
    "seed": 3,
    "split": "publish",
}
TRAP = '<script>alert("&")</script>'


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    lines = []
    for step in range(0, 400, 4):
        kind = ("image", "text", "pair")[step // 4 % 3]
        names = {"image": ["mim"], "text": ["mlm"], "pair": list(OBJECTIVES[2:])}[kind]
        line: dict[str, object] = {"step": step, "kind": kind, "samples_per_s": 300 + step % 50}
        line |= {name: 4 * math.exp(-step / 150) + 0.1 * math.sin(step) for name in names}
        lines.append(json.dumps(line))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4', encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text("steps: 400\n", encoding="utf-8")
    (tmp_path / "versions.txt").write_text("torch 2.11.0\n", encoding="utf-8")
    summary = {"steps": 400, "seconds": 200.4, "samples_per_s": 95.8}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return tmp_path


@pytest.fixture
def report(run_dir: Path) -> Path:
    red = Image.new("RGB", (48, 48), "red")
    cells = [Cell(f"a {TRAP} circle"), Cell("0.91", red, True), Cell("0.40", red, False)]
    exhibit = Exhibit("Retrieval", "What a caption finds.", ("caption", "closest"), [cells])
    return write_report(run_dir, RESULTS, [exhibit], OBJECTIVES)


class Links(HTMLParser):
    """Collects what a browser would fetch or run, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "data")]
        if tag not in ("meta", "img", "line", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_fetches_and_runs_nothing(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    found = Links(text)
    assert found.open == []
    assert found.sources and all(
        source.startswith("data:image/png;base64,") for source in found.sources
    )
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert "url(" not in text and "@import" not in text


def test_report_escapes_what_the_data_says(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert TRAP not in text
    assert "&lt;script&gt;" in text


def test_report_draws_a_curve_for_each_objective(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert text.count("<svg") == len(OBJECTIVES) + 1
    for name in OBJECTIVES:
        assert f'aria-label="loss {name} by step"' in text


def test_report_of_a_run_without_metrics_says_so(tmp_path: Path) -> None:
    text = write_report(tmp_path, RESULTS, [], OBJECTIVES).read_text(encoding="utf-8")
    assert "No metrics.jsonl in the run folder." in text
    assert "<svg" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_report_opens_in_a_browser(report: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    shot = tmp_path / "report.png"
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    offline = "--disable-background-networking --disable-component-update"
    command = [CHROMIUM, "--headless", *quiet.split(), *offline.split()]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,1800"]
    command += [f"--screenshot={shot}", "--virtual-time-budget=2000", "--timeout=20000"]
    subprocess.run([*command, report.as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    counts = {colour: count for count, colour in colours}
    # two retrieved pictures, pure red, each 104 pixels a side
    assert counts.get((255, 0, 0), 0) >= 0.9 * 2 * 104 * 104
    # the accent colour of curves and bars, light or dark
    assert counts.get((0x2F, 0x6F, 0xDE), 0) + counts.get((0x6E, 0xA3, 0xFF), 0) > 500


def test_each_figure_stands_beside_its_baseline() -> None:
    found = {(row.task.split(" (")[0], row.figure): row for row in rows(RESULTS)}
    assert found["retrieval", "image to text R@1"].level == pytest.approx(1 / 250)
    assert found["retrieval", "text to image R@5"].level == pytest.approx(5 / 250)
    assert found["zero shot", "unseen combinations"].level == pytest.approx(1 / 48)
    assert found["masked", "words"].level == 0.2
    assert found["masked", "patches"].level_name == "majority"
    assert found["itm", "accuracy"].level == 0.5
    assert found["itm", "near misses"].level is None  # the level of one class is no baseline
    assert len(found) == 7


def test_table_is_aligned_and_names_split_seed_and_seconds() -> None:
    lines = text_table(RESULTS).splitlines()
    ends = {re.search(r"\d\.\d{3}", line).end() for line in lines[1:-1]}  # type: ignore[union-attr]
    assert len(ends) == 1
    assert lines[-1] == "split publish, seed 3, train 200 s, total 231 s"


def test_metrics_of_a_killed_and_resumed_run_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "mlm": 3.0}\n{"step": 2, "ml\n{"step": 1, "mlm": 2.5}\n', "utf-8")
    assert series(read_metrics(path), "mlm") == [(1.0, 2.5)]


def test_chart_leaves_out_values_that_are_not_finite() -> None:
    drawn = line_chart([0, 1, 2], [1.0, math.nan, 2.0], title="t", unit="u")
    assert "nan" not in drawn
    assert "<svg" not in line_chart([0, 1], [1.0, math.inf], title="t", unit="u")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.69, 0.71), (3, 3), (0, 812), (-2, 5), (0, 0)])
def test_ticks_are_few_and_span_the_values(low: float, high: float) -> None:
    found = ticks(low, high, 4)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 7
    assert found[0] <= low + 1e-9
    assert found[-1] + step > high


def test_running_mean_of_a_constant_is_the_constant() -> None:
    assert running_mean([(x, 2.0) for x in range(50)])[0][1] == pytest.approx(2.0)
    assert running_mean([(x, 2.0) for x in range(50)])[-1][1] == pytest.approx(2.0)


def test_large_pictures_are_shrunk_and_small_ones_stay_sharp() -> None:
    assert 'class="pixels"' in picture(Image.new("RGB", (48, 48)))
    large = picture(Image.effect_noise((1200, 800), 90).convert("RGBA"))
    assert 'class="pixels"' not in large
    assert len(large) < 250_000


def test_the_papers_tasks_stand_beside_the_printed_figures(run_dir: Path) -> None:
    paper = {
        "tasks": {"mnist": {"accuracy": 0.5, "test": 10}},
        "not_run": {"rte": f"needs a run {TRAP}"},
        "notes": {"mnist": TRAP},
    }
    (run_dir / "paper_tasks.json").write_text(json.dumps(paper), encoding="utf-8")
    text = write_report(run_dir, RESULTS, [], OBJECTIVES).read_text("utf-8")
    printed = "".join(
        f'<td class="value level">{x:.2f}</td>' for x in TASKS["mnist"].printed["accuracy"][:3]
    )
    assert f'<td>mnist</td><td>accuracy</td><td class="value">50.00</td>{printed}' in text
    assert f'<td>mean vision</td><td></td><td class="value">50.00</td>{printed}' in text
    assert "rte: needs a run &lt;script&gt;" in text
    assert TRAP not in text
    assert write_report(run_dir, RESULTS, [], OBJECTIVES).read_text("utf-8") == text
