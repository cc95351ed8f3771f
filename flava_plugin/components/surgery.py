"""Gradient surgery by torchjd; the only file that imports it, inside a function: it is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

from flava_plugin.balance_types import Objectives

Weighting = Literal[
    "AlignedMTL", "CAGrad", "DualProj", "FairGrad", "IMTLG", "MGDA", "PCGrad", "UPGrad"
]

NEEDS: dict[str, tuple[str, ...]] = {
    "CAGrad": ("cvxpy",),
    "DualProj": ("quadprog", "qpsolvers"),
    "FairGrad": ("scipy",),
    "UPGrad": ("quadprog", "qpsolvers"),
}
"""What a weighting of torchjd 0.18 needs besides torchjd."""

OPTIONS: dict[str, dict[str, float]] = {
    "CAGrad": {"c": 0.5},
    "FairGrad": {"alpha": 1.0},
}
"""What torchjd has no default for.

CAGrad's radius c lies between 0, the plain mean, and 1, under which it converges (2110.14048);
FairGrad's exponent 1 is proportional fairness (2402.15638).
"""


class Surgery:
    """Worse on shapes, off by default. Takes conflicts out of gradients: there are few.

    Against ``fixed`` weights of 1 (``tests/benchmarks/RESULTS.md``), mean of seven figures, three
    seeds: PCGrad -0.046 ± 0.026, UPGrad -0.027 ± 0.006, MGDA -0.247 ± 0.030; accumulated steps
    without it -0.039 ± 0.007.

    In a joint run of ``pretrain/shapes`` the cosine between the gradients of the contrastive and
    the masked losses was within 0.10 of 0 on both encoders, and the only steady conflict, of
    MMM-text with MMM-image in the text encoder (-0.12 to -0.30), was with a tiny gradient; what
    differed were the norms. Every step takes a forward and a backward pass for each objective, and
    memory for the gradients of all. The coefficients are torchjd's for the inner products of the
    weighted gradients on what objectives share; heads keep their own gradients. Weightings that
    keep a state from step to step are not offered: nothing would bring it back when a run goes on.

    Args:
        objectives: The recipe's; ``balance.step`` has to be ``accumulated``.
        weighting: What torchjd calls it.
    """

    def __init__(self, objectives: Objectives, /, *, weighting: Weighting = "PCGrad") -> None:
        errors = []
        if objectives.step != "accumulated":
            errors.append(
                "balance.strategy: surgery compares gradients of all objectives, and a step of "
                "one kind has a few of them; set balance.step=accumulated"
            )
        missing = [name for name in ("torchjd", *NEEDS.get(weighting, ())) if not find_spec(name)]
        if missing:
            errors.append(
                f"balance.strategy.weighting: {weighting} needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed: "
                "pip install 'flava-plugin[surgery]'"
            )
        if errors:
            raise ValueError("\n".join(errors))
        self.seed = objectives.seed
        self.weighting = weighting

    def combine(self, gramian: Sequence[Sequence[float]], step: int) -> list[float]:
        """Choose the factor of each objective's gradient; see ``ByGramian``.

        Args:
            gramian: (K, K).
            step: PCGrad's order of projections depends on it and the seed.

        Returns:
            K factors.
        """
        import torch

        table = torch.tensor(gramian, dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * 1_000_003 + step)
            factors: list[float] = self._torchjd(table).tolist()
        return factors

    @cached_property
    def _torchjd(self) -> Any:
        from torchjd import aggregation

        made = getattr(aggregation, f"{self.weighting}Weighting")
        return made(**OPTIONS.get(self.weighting, {}))
