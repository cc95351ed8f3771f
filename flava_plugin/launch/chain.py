"""Jobs that one command submits, each waiting for the one before it: pretrain, tune, evaluate.

All of them are checked before the first is queued. A training after the first starts from the run
before it, which need not be there yet; that the sizes of the two models fit is seen from both
recipes. ``init=null`` makes a fresh start, and a recipe whose ``init`` names encoders or a run of
the chain keeps it: two trainings of one modality each, and the joint one that takes both their
encoders. As each job waits for the one before it, it comes after all of them. SLURM takes a job
whose predecessor failed out of the queue (``kill-on-invalid-dep``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flava_plugin.launch.checks import Check
from flava_plugin.launch.submission import Prepared, Request, prepare
from flava_plugin.recipe import Recipe, RecipeError, find_recipe, load_recipe, override, read_recipe

START = object()
"""The run before it, where a training says nothing of its own."""


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
    init = _own_init(request, made)
    start = f"init={{run: {json.dumps(str(newest))}}}"  # an override's value is YAML
    own = init is not START
    run = str(newest) if not own else init.get("run") if isinstance(init, dict) else None
    return replace(
        request,
        overrides=request.overrides if own else (*request.overrides, start),
        origin=made.get(_place(run)) if isinstance(run, str) else None,
    )


def _own_init(request: Request, made: Mapping[Path, Recipe]) -> Any:
    """What a request itself says of its start, in words or by its recipe; ``START`` for nothing.

    A recipe's run of elsewhere, or its file, is what it starts from alone, and not in a chain.
    """
    try:
        data = read_recipe(find_recipe(request.name))
    except RecipeError:  # which is told when it is loaded
        data = {}
    init = override(data, request.overrides)[0].get("init")
    if any(word.partition("=")[0].split(".")[0] == "init" for word in request.overrides):
        return init
    if not isinstance(init, dict):
        return START
    run = init.get("run")
    known = isinstance(run, str) and _place(run) in made
    return init if known or init.get("image") or init.get("text") else START


def _place(run: str) -> Path:
    return Path(os.path.expandvars(run)).absolute()


def _start_checks(recipe: Recipe, made: Mapping[Path, Recipe]) -> Iterator[Check]:
    """Look at what a training starts from: runs of the chain, whose sizes are its own."""
    init = recipe.init
    if init is None or init.weights is not None:
        text = "starts fresh" if init is None else f"starts from {init.weights}"
        yield Check("init", "ok", f"{text}, and from no run of the chain")
        return
    if init.run is not None and init.run.absolute() not in made:
        known = ", ".join(map(str, made)) or "none could be read"
        text = f"{init.run} is no run that a job before it makes ({known})"
        yield Check("init.run", "refused", f"{text}; leave init out, and it starts from the last")
        return
    for key, run in init.runs.items():
        if run.absolute() not in made and not run.is_dir():
            continue  # refused already
        try:
            faults = _faults(recipe, key, _recipe_of(run, made))
        except (OSError, ValueError) as error:  # such as a vocabulary that is not here
            yield Check(key, "not known", f"whether the models' sizes fit: {error}")
            continue
        what = "backbone" if key == "init.run" else f"{key.split('.')[1]} encoder"
        if faults:
            said = "; ".join(fault.strip() for fault in faults[:3])
            more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
            text = f"the {what} of {run} will not fit this recipe's model: {said}{more}"
            way = "give the model section the same sizes, and use the same tokenizer"
            yield Check(key, "refused", f"{text}; {way}")
        else:
            yield Check(key, "ok", f"the {what} of {run} will fit this recipe's model")


def _recipe_of(run: Path, made: Mapping[Path, Recipe]) -> Recipe:
    """The recipe of a run of the chain, or of one that is there already."""
    found = made.get(run.absolute())
    return load_recipe(str(run), check_files=False) if found is None else found


def _faults(recipe: Recipe, key: str, theirs: Recipe) -> list[str]:
    """What of a run will not fit a recipe that starts from it."""
    from flava_plugin.train.initialise_encoders import (
        HEADS,
        no_objective,
        part_of,
        parts_of,
        unlike,
    )
    from flava_plugin.train.initialise_fit import misfits

    if key == "init.run" or recipe.init is None:
        return misfits(*(_backbone(_shapes(one)) for one in (recipe, theirs)))
    (kind,) = (kind for kind in HEADS if key == f"init.{kind}.run")
    part = parts_of(recipe.init)[kind]
    saved = theirs.model_dump(mode="json")
    faults = unlike(kind, part, recipe.model, recipe.data, saved)
    head = part.head and HEADS[kind] in recipe.objectives
    if part.head and not head:
        faults.append(no_objective(kind))
    names = [HEADS[kind]] if head else []
    own, other = (part_of(_shapes(one, names), kind, head=head) for one in (recipe, theirs))
    return faults + misfits(own, other)


def _backbone(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("backbone."): shape for name, shape in shapes.items()}


def _shapes(recipe: Recipe, heads: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """Shapes of a learner's tensors by name, without making them."""
    import torch

    from flava_plugin import registry
    from flava_plugin.model.learner import build_learner

    spec = recipe.data.tokenizer
    words = registry.tokenizers.build(spec.type, **spec.options).vocab_size
    chosen = {name: one for name, one in recipe.objectives.items() if name in heads}
    model = recipe.model if chosen else recipe.model.model_copy(update={"codebook": None})
    with torch.device("meta"):
        learner = build_learner(
            model, chosen, words=words, image_size=recipe.data.image.size, seed=recipe.seed
        )
    return {name: tuple(tensor.shape) for name, tensor in learner.state_dict().items()}
