"""Where the time of a training step goes: a stack of sections, marked as they begin and end.

Every moment belongs to the innermost open section, so that the sections add up to the step. Hooks
and wrapped methods exist inside ``watch`` only; training itself pays nothing. On a GPU a mark is an
event in its stream: what is measured is when the GPU got there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from flava_plugin.model.learner import Learner
from flava_plugin.train import step as step_module
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.world import World

SECTIONS = (
    "waiting for data",
    "codebook",
    "image encoder",
    "text encoder",
    "multimodal encoder",
    "projections",
    "heads and losses",
    "backward",
    "optimiser",
    "collectives",
    "other",
)
"""Sections of a step. Collectives that run inside the backward pass (DDP) belong to it."""

ENCODERS = (
    ("image_encoder", "image encoder"),
    ("text_encoder", "text encoder"),
    ("mm_encoder", "multimodal encoder"),
)


class Sections:
    """Adds up the time of nested sections.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._open = ["other"]
        self._marks: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Begin a step: earlier marks are dropped."""
        self._open, self._marks = ["other"], []
        self._mark()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Attribute what runs inside to a section.

        Args:
            name: One of ``SECTIONS``.

        Yields:
            None: While the section is the innermost one.
        """
        self.enter(name)
        with torch.profiler.record_function(f"flava: {name}"):
            try:
                yield
            finally:
                self.leave()

    def enter(self, name: str) -> None:
        """Open a section; inside a backward pass everything stays the backward's.

        Args:
            name: One of ``SECTIONS``.
        """
        self._open.append("backward" if self._open[-1] == "backward" else name)
        self._mark()

    def leave(self) -> None:
        """Close the innermost section."""
        self._open.pop()
        self._mark()

    def stop(self) -> dict[str, float]:
        """End a step.

        Returns:
            Seconds by section; their sum is the time since ``start``.
        """
        self._mark()
        if self._gpu:
            torch.cuda.synchronize()
        seconds = dict.fromkeys(SECTIONS, 0.0)
        for (name, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            seconds[name] += begin.elapsed_time(end) / 1000 if self._gpu else end - begin
        return seconds

    def _mark(self) -> None:
        moment: Any
        if self._gpu:
            moment = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            moment.record()
        else:
            moment = time.perf_counter()
        self._marks.append((self._open[-1], moment))


@contextmanager
def watch(sections: Sections, learner: Learner, strategy: Strategy, world: World) -> Iterator[None]:
    """Mark the sections of every step that runs inside.

    Args:
        sections: Filled.
        learner: Its encoders, heads and codebook are watched.
        strategy: Its backward and its optimiser's step are watched.
        world: Its collectives are watched.

    Yields:
        None: While hooks and wrappers are in place.
    """
    with ExitStack() as stack:
        for attribute, name in ENCODERS:
            encoder = getattr(learner.backbone, attribute)
            if encoder is not None:  # a dual encoder has no multimodal one
                _watch_module(stack, sections, encoder, name)
        _watch_module(stack, sections, learner.backbone, "projections")
        _watch_module(stack, sections, learner, "heads and losses")
        for owner, method, name in (
            (learner, "with_codes", "codebook"),
            (step_module, "differentiate", "heads and losses"),
            (strategy, "backward", "backward"),
            (strategy, "zero_grad", "optimiser"),
            (strategy, "clip_grad_norm", "optimiser"),
            (strategy, "step", "optimiser"),
            (world, "sum_over_ranks", "collectives"),
            (world, "gather_rows", "collectives"),
        ):
            _watch_call(stack, sections, owner, method, name)
        yield


def _watch_module(stack: ExitStack, sections: Sections, module: nn.Module, name: str) -> None:
    ranges: list[Any] = []

    def before(_: nn.Module, __: Any) -> None:
        ranges.append(torch.profiler.record_function(f"flava: {name}"))
        ranges[-1].__enter__()
        sections.enter(name)

    def after(_: nn.Module, __: Any, ___: Any) -> None:
        sections.leave()
        ranges.pop().__exit__(None, None, None)

    stack.callback(module.register_forward_pre_hook(before).remove)
    stack.callback(module.register_forward_hook(after).remove)


def _watch_call(stack: ExitStack, sections: Sections, owner: Any, method: str, name: str) -> None:
    plain: Callable[..., Any] = getattr(owner, method)
    own = method in vars(owner)

    def watched(*args: Any, **options: Any) -> Any:
        with sections.section(name):
            return plain(*args, **options)

    # not setattr, which a frozen dataclass refuses
    vars(owner)[method] = watched
    if own:
        stack.callback(vars(owner).__setitem__, method, plain)
    else:
        stack.callback(vars(owner).pop, method)
