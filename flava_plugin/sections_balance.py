"""How tasks share a run, as sections of a recipe: which source feeds a step, what losses weigh."""

from __future__ import annotations

from typing import Literal

from flava_plugin.schema import BalanceSpec, Component, MixtureSpec, Positive, Section


class MixtureSection(Section):
    """Which source feeds a step.

    Attributes:
        strategy: A registered mixture (``flava ls mixtures``), with options or its name alone.
    """

    strategy: MixtureSpec = Component(type="fixed")


class DiagnoseSection(Section):
    """When the objectives' gradients are measured (``train/diagnosis.py``).

    Attributes:
        every: Optimiser steps between diagnoses. One takes as long as 2.5 to 3.3 steps of
            ``pretrain/shapes`` (``tests/benchmarks/bench/diagnose.py``), which at the default is
            1.2 to 1.7 % of a run.
    """

    every: Positive = 200


class BalanceSection(Section):
    """How the objectives' losses become one number.

    Attributes:
        strategy: A registered balance (``flava ls balances``), with options or its name alone.
        step: What an optimiser step reads. ``interleaved``: a batch of the source whose turn it is
            (paper). ``accumulated``: one of each kind, so that all objectives meet in it; a step
            then costs as much as one of each kind.
        diagnose: Measure the objectives' gradients while training; null for never.
    """

    strategy: BalanceSpec = Component(type="fixed")
    step: Literal["interleaved", "accumulated"] = "interleaved"
    diagnose: DiagnoseSection | None = None
