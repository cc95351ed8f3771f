"""The page of the report: its style and the HTML of each kind of section. It needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.report_figures import picture
from flava_plugin.evaluate.table import Row

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5c6675; --line: #dfe3e9;
  --back: #f6f7f9; --card: #ffffff; --accent: #2f6fde; --pale: #a9c4f2; --right: #197a4b;
  --wrong: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #303846;
  --back: #12161c; --card: #1a2029; --accent: #6ea3ff; --pale: #35507f; --right: #5cc98f;
  --wrong: #f08a7f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 0 0 6px; font-weight: 600; }
.note, .facts { color: var(--soft); margin: 0 0 14px; max-width: 75ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 22px; margin-top: 18px; overflow-x: auto; }
table { border-collapse: collapse; }
table.figures { width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child td { border-bottom: 0; }
.figures td.value, .figures th.value { text-align: right; }
.figures td.value { font-weight: 600; } .figures td.level { font-weight: 400; color: var(--soft); }
.bar { position: relative; width: 220px; height: 10px; border-radius: 5px;
  background: var(--line); }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 5px;
  background: var(--accent); }
.bar b { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
svg { width: 100%; height: auto; display: block; }
svg .grid { stroke: var(--line); } svg .label { fill: var(--soft); font-size: 11px; }
svg polyline { fill: none; stroke-linejoin: round; }
svg .raw { stroke: var(--pale); stroke-width: 1; }
svg .mean { stroke: var(--accent); stroke-width: 2; } svg .end { fill: var(--accent); }
figure { margin: 0; text-align: center; } figcaption { font-size: 12px; color: var(--soft); }
img { display: block; width: 104px; height: 104px; object-fit: contain; border-radius: 6px;
  outline: 1px solid var(--line); }
img.pixels { image-rendering: pixelated; }
.right img { outline: 3px solid var(--right); } .wrong img { outline: 3px solid var(--wrong); }
.right figcaption, td.right { color: var(--right); }
.wrong figcaption, td.wrong { color: var(--wrong); }
.exhibit td { min-width: 104px; max-width: 340px; } mark { background: none; color: var(--accent);
  font-weight: 600; }
details summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
"""


def page(title: str, facts: str, sections: Sequence[str]) -> str:
    """Assemble the whole document.

    Args:
        title: Heading, plain text.
        facts: A line below it, plain text.
        sections: Finished ``<section>`` elements.

    Returns:
        A self-contained HTML document.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="facts">{escape(facts)}</p>\n'
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def section(title: str, note: str, body: str) -> str:
    """Frame a part of the page.

    Args:
        title: Heading, plain text.
        note: What is to be seen, plain text; may be empty.
        body: Finished HTML.

    Returns:
        A ``<section>`` element.
    """
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{below}{body}</section>"


def figures_table(rows: Sequence[Row]) -> str:
    """Lay out the results, each with a bar on which a tick marks its baseline.

    Args:
        rows: The figures.

    Returns:
        A ``<table>`` element.
    """
    lines = [
        '<tr><th>task</th><th>figure</th><th class="value">value</th>'
        '<th class="value">baseline</th><th></th></tr>'
    ]
    previous = ""
    for row in rows:
        level = "" if row.level is None else f"{row.level:.3f} {row.level_name}"
        tick = "" if row.level is None else f'<b style="left:{_percent(row.level)}"></b>'
        task = row.task if row.task != previous else ""
        lines.append(
            f"<tr><td>{escape(task)}</td><td>{escape(row.figure)}</td>"
            f'<td class="value">{row.value:.3f}</td><td class="value level">{escape(level)}</td>'
            f'<td><div class="bar"><i style="width:{_percent(row.value)}"></i>{tick}</div></td>'
            "</tr>"
        )
        previous = row.task
    return f'<table class="figures">{"".join(lines)}</table>'


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def charts(drawn: Mapping[str, str]) -> str:
    """Set charts side by side.

    Args:
        drawn: Finished ``<svg>`` elements by heading.

    Returns:
        A ``<div>`` element.
    """
    cells = [f"<div><h3>{escape(name)}</h3>{chart}</div>" for name, chart in drawn.items()]
    return f'<div class="charts">{"".join(cells)}</div>'


def exhibit_section(exhibit: Exhibit) -> str:
    """Lay out what an evaluator shows.

    Args:
        exhibit: Its rows.

    Returns:
        A ``<section>`` element.
    """
    longest = max((len(row) for row in exhibit.rows), default=0)
    heads = []
    for index, name in enumerate(exhibit.columns):
        last = index == len(exhibit.columns) - 1
        span = f' colspan="{longest - index}"' if last and longest - index > 1 else ""
        heads.append(f"<th{span}>{escape(name)}</th>")
    lines = [f"<tr>{''.join(heads)}</tr>"]
    lines += [f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in exhibit.rows]
    table = f'<table class="exhibit">{"".join(lines)}</table>'
    return section(exhibit.title, exhibit.note, table)


def _cell(cell: Cell) -> str:
    verdict = {None: "", True: ' class="right"', False: ' class="wrong"'}[cell.right]
    # colour alone would not reach everybody
    sign = {None: "", True: "\u2713 ", False: "\u2717 "}[cell.right]
    text = escape(sign + cell.text)
    if cell.image is None:
        return f"<td{verdict}>{text}</td>"
    below = f"<figcaption>{text}</figcaption>" if text else ""
    return f"<td><figure{verdict}>{picture(cell.image, cell.text)}{below}</figure></td>"


def folded(summary: str, text: str) -> str:
    """Fold a long text away.

    Args:
        summary: The line that opens it.
        text: Plain text.

    Returns:
        A ``<details>`` element.
    """
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
