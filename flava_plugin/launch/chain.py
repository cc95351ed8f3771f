"""Jobs that one command submits, each waiting for the one before it: pretrain, tune, evaluate.

All of them are checked before the first is queued. A training after the first starts from the run
before it, which need not be there yet; that the sizes of the two models fit is seen from both
recipes. SLURM takes a job whose predecessor failed out of the queue (``kill-on-invalid-dep``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flava_plugin.launch.checks import Check
from flava_plugin.launch.submission import Prepared, Request, prepare
from flava_plugin.recipe import Recipe, override


def prepare_chain(requests: Sequence[Request]) -> list[Prepared]:
    """Check the jobs of a chain.

    Args:
        requests: In order, at least one; an evaluation without a name is of the training before it.

    Returns:
        What would be submitted; nothing has been written.
    """
    prepared: list[Prepared] = []
    made: dict[Path, Recipe] = {}
    for place, request in enumerate(requests):
        wrong = list(_word_errors(request, place)) if len(requests) > 1 else []
        if made:
            request = _after(request, made)
        request = replace(request, earlier=dict(made), wrong=(*request.wrong, *wrong))
        one = prepare(request)
        found = one.elements[0] if len(one.elements) == 1 else None
        if found is not None and found.recipe is not None:
            if place:
                one.checks.extend(_start_checks(found.recipe, made))
            if found.run_dir in made:
                one.errors.append(f"run_dir: two jobs of the chain train in {found.run_dir}")
            made.pop(found.run_dir, None)
            made[found.run_dir] = found.recipe
        prepared.append(one)
    return prepared


def _word_errors(request: Request, place: int) -> Iterator[str]:
    if request.axes:
        yield "--sweep: a job of a chain makes one run; submit a sweep by itself"
    if place and request.dependency is not None:
        yield "--dependency: a job after --then waits for the one before it; leave it out"
    if request.evaluate is None and not request.name:
        yield "--then: names no recipe; or evaluate the run before it with --then --eval"


def _after(request: Request, made: Mapping[Path, Recipe]) -> Request:
    """Say which run of the chain a request goes on from, where it does not say so itself."""
    newest = list(made)[-1]
    if request.evaluate is not None:
        return request if request.name else replace(request, name=str(newest))
    asked = override({}, request.overrides)[0].get("init", {"run": str(newest)})
    run = asked.get("run") if isinstance(asked, dict) else None
    start = f"init={{run: {json.dumps(str(newest))}}}"  # an override's value is YAML
    own = any(word.partition("=")[0].split(".")[0] == "init" for word in request.overrides)
    return replace(
        request,
        overrides=request.overrides if own else (*request.overrides, start),
        origin=made.get(Path(os.path.expandvars(run)).absolute()) if isinstance(run, str) else None,
    )


def _start_checks(recipe: Recipe, made: Mapping[Path, Recipe]) -> Iterator[Check]:
    """Look at what a training starts from: a run of the chain, whose sizes are its own."""
    run = recipe.init.run if recipe.init is not None else None
    known = ", ".join(map(str, made)) or "none could be read"
    if run is None or run.absolute() not in made:
        text = f"{run or 'null'} is no run that a job before it makes ({known})"
        yield Check("init.run", "refused", f"{text}; leave init out, and it starts from the last")
        return
    from flava_plugin.train.initialise import misfits

    try:
        faults = misfits(_shapes(recipe), _shapes(made[run.absolute()]))
    except (OSError, ValueError) as error:  # such as a vocabulary that is not here
        yield Check("init.run", "not known", f"whether the models' sizes fit: {error}")
        return
    if faults:
        said = "; ".join(fault.strip() for fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        text = f"the backbone of {run} will not fit this recipe's model: {said}{more}"
        way = "give the model section the same sizes, and use the same tokenizer"
        yield Check("init.run", "refused", f"{text}; {way}")
    else:
        yield Check("init.run", "ok", f"the backbone of {run} will fit this recipe's model")


def _shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Shapes of a backbone's tensors by name, without making them."""
    import torch

    from flava_plugin import registry
    from flava_plugin.model.parts import build_backbone

    spec = recipe.data.tokenizer
    words = registry.tokenizers.build(spec.type, **spec.options).vocab_size
    with torch.device("meta"):
        backbone = build_backbone(recipe.model, words=words, seed=recipe.seed)
    return {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
