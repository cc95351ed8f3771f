"""Where torchtext does not load these tests are skipped, unless they are to run come what may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flava_plugin.components.torchtext_library import why_there_are_no_datasets


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the marked tests; ``make test-torchtext`` forbids it, so that none is lost there."""
    marked = [item for item in items if item.get_closest_marker("torchtext")]
    if not marked or os.environ.get("FLAVA_TEST_TORCHTEXT") == "must run":
        return
    if (why := why_there_are_no_datasets()) is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"{why}; run make test-torchtext"))


@pytest.fixture(scope="session")
def source_lines() -> list[str]:
    """Lines of prose and code, of no package's data: this Python's own library."""
    lines: list[str] = []
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        text = path.read_text("utf-8", errors="replace")
        lines += [line for line in text.split("\n") if line.strip()]
        if len(lines) >= 30_000:
            break
    return lines
