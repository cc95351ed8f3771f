"""The one door to scikit-learn: logistic regression with its strength chosen on held-out rows.

The sweep is CLIP's (Radford et al. 2021, arXiv 2103.00020, appendix A.3): of the 96 logarithmic
steps of lambda from 1e-6 to 1e6, a parametric binary search tries 1e-6, 1e-4, 1e-2, 1, 1e2, 1e4 and
1e6, then halves the interval around the peak until there are eight steps in a power of ten. Lambda
is chosen on a validation split, which is joined to train for the last fit. What the paper does not
say is scikit-learn's default (openai/CLIP issue 39), and lambda is the inverse of its C. FLAVA's
probes take the same range (section 4: L-BFGS, 1000 iterations). Neither says which of equal scores
is taken: here the strongest lambda.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]

COARSE = tuple(range(-6, 7, 2))
"""Exponents of ten that are tried first."""

FINEST = 1 / 8
"""Powers of ten between the last values that are tried."""


class Probe(NamedTuple):
    """A fitted probe.

    Attributes:
        logits: (N, D) features -> (N, C) scores.
        strength: The lambda that was chosen.
        tried: Score on the held-out rows by exponent of lambda.
        converged: Whether the last fit ended before its iterations did.
    """

    logits: Callable[[Matrix], Matrix]
    strength: float
    tried: dict[float, float]
    converged: bool


def choose_and_fit(
    train: tuple[Matrix, Labels],
    held_out: tuple[Matrix, Labels],
    score: Callable[[Matrix, Labels], float],
    *,
    classes: int,
    iterations: int = 1000,
) -> Probe:
    """Choose lambda on the held-out rows, then fit to all rows with it.

    Args:
        train: (N, D) features and (N,) classes.
        held_out: The same of rows to choose on.
        score: (M, C) scores and (M,) classes -> what is to be high.
        classes: C; a class that no row has is never predicted.
        iterations: Most of L-BFGS.

    Returns:
        The probe; of strengths that do equally well the strongest is taken.

    Raises:
        ValueError: There are fewer than two classes in the rows, or scikit-learn is missing.
    """
    tried: dict[float, float] = {}

    def attempt(exponent: float) -> None:
        if COARSE[0] <= exponent <= COARSE[-1] and exponent not in tried:
            logits, _ = fit(*train, 10.0**exponent, classes=classes, iterations=iterations)
            tried[exponent] = score(logits(held_out[0]), held_out[1])

    def best() -> float:
        return max(tried, key=lambda exponent: (tried[exponent], exponent))

    for exponent in COARSE:
        attempt(float(exponent))
    step = 1.0
    while step >= FINEST:
        middle = best()
        attempt(middle - step)
        attempt(middle + step)
        step /= 2
    features = np.concatenate([train[0], held_out[0]])
    labels = np.concatenate([train[1], held_out[1]])
    strength = 10.0 ** best()
    logits, converged = fit(features, labels, strength, classes=classes, iterations=iterations)
    return Probe(logits, strength, dict(sorted(tried.items())), converged)


def fit(
    features: Matrix, labels: Labels, strength: float, *, classes: int, iterations: int
) -> tuple[Callable[[Matrix], Matrix], bool]:
    """Fit logistic regression by L-BFGS from zero, so that the same rows give the same weights.

    Args:
        features: (N, D).
        labels: (N,) classes.
        strength: Lambda; scikit-learn's C is its inverse.
        classes: C.
        iterations: Most of L-BFGS.

    Returns:
        (M, D) features -> (M, C) scores, and whether it converged.

    Raises:
        ValueError: There are fewer than two classes in the rows, or scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ValueError(
            "probes are fitted by scikit-learn; install it: pip install 'flava-plugin[eval]'"
        ) from error
    there = np.unique(labels)
    if len(there) < 2:
        raise ValueError(f"linear_probe: the rows to fit to have only class {there.tolist()}")
    make: Any = LogisticRegression
    model = make(C=1 / strength, solver="lbfgs", max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that iterations ran out is in what is returned
        model.fit(features, labels)

    def logits(rows: Matrix) -> Matrix:
        found = np.full((len(rows), classes), -np.inf, np.float32)
        decided = np.asarray(model.decision_function(rows), np.float32)
        if len(there) == 2:  # scikit-learn gives the second class's score alone
            decided = np.stack([np.zeros_like(decided), decided], 1)
        found[:, there] = decided
        return found

    return logits, bool(np.max(model.n_iter_) < iterations)
