"""Parts of a learner that are not trained.

Nothing else is needed: autograd records no graph below the first trained parameter, every sharding
strategy leaves such parameters out of its sums, and the optimiser keeps nothing for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

ALIASES = {"backbone.mm_encoder": "backbone.fused_encoder"}
"""A part's name in a learner -> what a recipe calls it."""


def freeze(learner: nn.Module, patterns: Sequence[str]) -> int:
    """Take gradients away from what patterns name.

    Args:
        learner: The learner, before it is sharded.
        patterns: Each as of a shell (``*``, ``?``, ``[0-5]``; ``*`` goes through dots). It matches
            a parameter by its name or by that of a part around it, with or without ``backbone.``:
            ``image_encoder`` is all of it; ``fused_encoder`` is what weights call ``mm_encoder``.

    Returns:
        Number of parameters frozen.

    Raises:
        ValueError: A pattern matches nothing; what there is is named.
    """
    frozen: set[nn.Parameter] = set()
    parameters = dict(learner.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        found = [
            parameter
            for name, parameter in parameters.items()
            if any(fnmatchcase(each, pattern) for each in _names(name))
        ]
        if not found:
            parts = {".".join(name.removeprefix("backbone.").split(".")[:2]) for name in parameters}
            raise ValueError(
                f"freeze: '{pattern}' matches nothing; there are {', '.join(sorted(parts))} and "
                "what is in them"
            )
        frozen.update(found)
    for parameter in frozen:
        parameter.requires_grad_(False)
    return len(frozen)


def _names(name: str) -> Iterator[str]:
    """A parameter's name and those of all parts around it, as patterns may give them."""
    for own in (name, *(name.replace(k, v, 1) for k, v in ALIASES.items() if name.startswith(k))):
        parts = own.split(".")
        for end in range(len(parts), 0, -1):
            whole = ".".join(parts[:end])
            yield whole
            if parts[0] == "backbone" and end > 1:
                yield ".".join(parts[1:end])
