"""``flava show tasks`` and ``flava show tasks/NAME``: the paper's 35 tasks and what each takes."""

from __future__ import annotations

from pathlib import Path

PREFIX = "tasks"


def described(name: str) -> str:
    """Describe a task of the paper, or all of them.

    Args:
        name: ``tasks`` or ``tasks/NAME``.

    Returns:
        Lines: group, metric, data under the data root, what measures it, and the paper's figures.

    Raises:
        ValueError: The paper has no such task.
    """
    from flava_plugin.evaluate.frozen_tasks import wanted
    from flava_plugin.evaluate.paper_tasks import COLUMNS, TASKS

    chosen = name.removeprefix(PREFIX).lstrip("/")
    if chosen and chosen not in TASKS:
        raise ValueError(f"{name}: no task of the paper; it has {', '.join(TASKS)}")
    parts = []
    for task in (TASKS[chosen],) if chosen else TASKS.values():
        dataset = ", ".join([task.dataset, *(f"{k}: {v}" for k, v in task.options.items())])
        command = f"flava eval RUN --data ROOT --tasks {task.name}"
        if task.kind == "finetuned":
            words = " ".join([task.recipe, "init.run=RUN", *task.changes])
            command = f"flava train {words}, then flava eval of that run"
        lines = [
            f"task {task.name}, {task.group}, {task.kind}, by {task.metric}",
            f"  dataset: {{type: {dataset}}}",
            f"  data: {', '.join(map(str, wanted(task, Path('ROOT'))))}",
            f"  measured by: {command}",
        ]
        for figure, values in task.printed.items():
            printed = ", ".join(f"{c} {v:.2f}" for c, v in zip(COLUMNS, values, strict=False))
            lines.append(f"  {figure}: {printed}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
