"""The folder of a pack: whose it is, how far it is, and what came of it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from flava_plugin.data.shards.packing_part import LeftOut
from flava_plugin.data.shards.packing_plan import PackPlan
from flava_plugin.durable import TEMPORARY, write_text

ABOUT = "pack.json"
"""What was packed and how; its ``result`` is null until the pack is whole."""

LEFT_OUT = "left_out.jsonl"
"""Every damaged sample, one JSON object a line; there is no such file where there is none."""

WORK = ".pack"
"""Folder of what is needed only until the pack is whole."""

_FORMAT = "flava_plugin pack 1"


class RefusedFolderError(ValueError):
    """A folder that this pack must not be written to."""


class PackFolder:
    """A folder that one process packs into, as a context.

    Args:
        folder: The folder; made where it is missing.
        plan: What is packed.
    """

    def __init__(self, folder: Path, plan: PackPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.records = folder / WORK
        self._lock: TextIO | None = None

    def __enter__(self) -> PackFolder:
        """Take the folder.

        Returns:
            Itself.

        Raises:
            RefusedFolderError: It holds something else, or another process packs into it.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise RefusedFolderError(f"--out {self.folder}: is a file; name a folder")
        about = self._read()
        if about is None and self.folder.is_dir():
            others = [p.name for p in self.folder.iterdir() if not p.name.startswith(TEMPORARY)]
            if set(others) - {WORK}:
                raise RefusedFolderError(
                    f"--out {self.folder}: holds other files ({sorted(others)[0]}); name a new "
                    "folder"
                )
        if about is not None:
            self._compare(about)
        self.records.mkdir(parents=True, exist_ok=True)
        self._lock = (self.records / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RefusedFolderError(
                f"--out {self.folder}: another flava data pack writes there; wait for its end"
            ) from error
        for place in (self.folder, self.records):
            for left in place.glob(f"{TEMPORARY}*"):  # of a process that was killed
                left.unlink(missing_ok=True)
        if about is None:
            self._write(None, {})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the folder.

        Args:
            kind: Of an error.
            error: It.
            trace: Where.
        """
        if self._lock is not None:
            if self.finished() is not None:
                shutil.rmtree(self.records, ignore_errors=True)
            self._lock.close()

    def finished(self) -> dict[str, Any] | None:
        """Look up what came of it.

        Returns:
            ``finish``'s ``result``, or None where the pack is not whole.
        """
        about = self._read() or {}
        result: dict[str, Any] | None = about.get("result")
        return result

    def finish(
        self, result: dict[str, Any], about: dict[str, Any], left_out: Sequence[LeftOut]
    ) -> None:
        """Note that the pack is whole.

        Args:
            result: Counts, for ``finished``.
            about: What else is to be known of it.
            left_out: The damaged samples.
        """
        if left_out:
            lines = [json.dumps(each._asdict()) + "\n" for each in left_out]
            write_text(self.folder / LEFT_OUT, "".join(lines))
        self._write(result, about)

    def _write(self, result: dict[str, Any] | None, about: dict[str, Any]) -> None:
        plan = self.plan.model_dump(mode="json")
        content = {"format": _FORMAT, "plan": plan, "result": result, **about}
        write_text(self.folder / ABOUT, json.dumps(content, indent=1, default=str) + "\n")

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / ABOUT
        try:
            about = json.loads(path.read_text("utf-8"))
            if about["format"] != _FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise RefusedFolderError(
                f"{path}: is not what flava data pack writes ({error}); name a new folder"
            ) from error
        assert isinstance(about, dict), "it has a format"
        return about

    def _compare(self, about: dict[str, Any]) -> None:
        try:
            there = PackPlan.model_validate(about.get("plan"))
        except ValueError as error:
            raise RefusedFolderError(
                f"{self.folder / ABOUT}: its plan cannot be read; name a new folder"
            ) from error
        different = self.plan.differences(there)
        if different:
            raise RefusedFolderError(
                f"--out {self.folder}: holds another pack ({'; '.join(different)}); name a new "
                "folder, or give the same arguments to go on with it"
            )
