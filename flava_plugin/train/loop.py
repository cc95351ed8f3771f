"""The only training loop, for pretraining and fine-tuning; they differ in what the recipe says.

Exact resume: what a step computes is a function of the recipe and the step's number (data order,
masks, dropout) and of the weights and optimiser state in the checkpoint, and no global random state
is used. On a CPU torch's kernels give the same bits for the same number of threads, so that
deterministic algorithms need not be asked for, which would cost time on a GPU.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from flava_plugin import registry
from flava_plugin.data.codes import open_codes
from flava_plugin.data.loader import load_steps
from flava_plugin.data.mixture_run import open_mixture
from flava_plugin.evaluate.inference import Flava
from flava_plugin.evaluate.sharing import ALONE, Ranks
from flava_plugin.evaluate.tasks import Evaluator, build_tasks, measure
from flava_plugin.model.attention_kernels import check_kernel
from flava_plugin.model.execution import compile_layers, compiled_graphs, text_multiple
from flava_plugin.model.freezing import freeze
from flava_plugin.model.learner import Learner, build_learner, hides
from flava_plugin.recipe import Recipe, RecipeError
from flava_plugin.recipe_balance import batches_of_step
from flava_plugin.recipe_mixture import facts_of
from flava_plugin.train import checkpoint, initialise, mixing, run_folder
from flava_plugin.train.accumulated import Computing
from flava_plugin.train.balance import Balance
from flava_plugin.train.best import Best
from flava_plugin.train.data_log import DataLog
from flava_plugin.train.diagnosis import Diagnosis
from flava_plugin.train.ema import Ema
from flava_plugin.train.gradient_groups import groups_of
from flava_plugin.train.loss_scale import LossScale
from flava_plugin.train.metrics import MetricLog
from flava_plugin.train.optim import clamp_logit_scale, lr_at, set_lr
from flava_plugin.train.progress import Progress
from flava_plugin.train.requeue import Stopped, StopRequest
from flava_plugin.train.resume import newest_of_all, take_over
from flava_plugin.train.saver import Saver
from flava_plugin.train.sharding import Strategy, make_strategy
from flava_plugin.train.sharding.whole import full_state
from flava_plugin.train.step import check_finite, check_precision
from flava_plugin.train.world import connect, disconnect, lost_ranks_named

logger = logging.getLogger(__name__)


def train(recipe: Recipe) -> None:
    """Run a recipe to its last step, going on from its run folder's newest checkpoint.

    Args:
        recipe: The checked recipe; every process of torchrun or srun gets the same one.

    Raises:
        RecipeError: The run folder holds a checkpoint of another recipe.
        LostRankError: Another process died or hangs.
        Stopped: A signal asked the run to stop, and it is saved.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    run_dir, plain, steps = Path(recipe.run_dir), recipe.model_dump(mode="json"), recipe.steps
    with ExitStack() as stack:
        stack.callback(disconnect)
        world = connect(recipe.device, recipe.sharding.timeout)
        stack.enter_context(lost_ranks_named(world))
        request = stack.enter_context(StopRequest())
        check_kernel(recipe.attention, world.device, bf16=recipe.precision == "bf16")
        check_precision(recipe.precision, world.device)

        # Where the run stands
        world.require_same("the recipe", recipe.to_yaml())
        found = newest_of_all(run_dir, world)
        if found and (changes := run_folder.changes(found.state["recipe"], plain)):
            raise RecipeError([*changes, run_folder.way_out(run_dir)])
        token, found = take_over(run_dir, world, found)
        first, saved = (found.step, found.state) if found else (0, {})
        best = Best(recipe.evaluate, saved)
        rows = recipe.data.global_batch * batches_of_step(recipe)
        seconds: float = saved.get("seconds", 0.0)
        writes = world.rank == 0
        if writes:
            checkpoint.sweep(run_dir)
            checkpoint.point_best(run_dir, best.found["step"] if best.found else None)
            run_folder.summarise(run_dir, first, seconds, first * rows)
        if first >= steps:
            logger.info("%s has done its %d steps; raise steps to go on with it", run_dir, first)
            return
        if world.from_first(best.enough):
            logger.info("%s stopped early at step %d; raise evaluate.patience", run_dir, first)
            return

        # What is trained
        spec = recipe.data.tokenizer
        tokenizer = registry.tokenizers.build(spec.type, **spec.options)
        build = partial(
            build_learner,
            recipe.model,
            recipe.objectives,
            words=tokenizer.vocab_size,
            image_size=recipe.data.image.size,
            seed=recipe.seed,
            attention=recipe.attention,
        )
        learner = build(activation_checkpointing=recipe.sharding.activation_checkpointing)
        if recipe.compile:
            compile_layers(learner.backbone)
        if recipe.init and not found:
            initialise.load(learner, recipe.init, recipe.model, recipe.data)
        freeze(learner, recipe.freeze)
        groups = groups_of(learner)
        strategy = make_strategy(recipe.sharding, learner, recipe.optim, world)
        ema = Ema(strategy, recipe.optim.ema) if recipe.optim.ema is not None else None
        balance = Balance(recipe.balance, recipe.objectives, recipe.seed)
        computing = Computing(strategy, learner, balance, groups, recipe.seed, recipe.precision)
        scale = LossScale(enabled=recipe.precision == "fp16")
        if found:
            strategy.load_model(found.source("model"))
            if ema is not None:
                ema.load(found.source("model"), found.source("ema"))
            strategy.load_optimizer(found.source("optim"))
            scale.load_state(saved.get("loss_scale", scale.state()))
            balance.load_state(saved["balance"])
            logger.info("going on from step %d of %s", first, run_dir)

        # On what
        datasets = {
            name: registry.datasets.build(source.dataset.type, **source.dataset.options)
            for name, source in recipe.data.sources.items()
        }
        measured = 0 < recipe.evaluate.every <= steps  # a set that is not there is told now
        tasks = build_tasks(recipe.evaluate.tasks, recipe.evaluate.split) if measured else {}
        data_log = DataLog(recipe.data, datasets, world)
        if found:
            data_log.load_state(saved["data"])
        facts, were = facts_of(recipe, lambda: datasets), saved.get("mixture")
        mixture = open_mixture(recipe.mixture.strategy, facts, recipe.seed, first, were)
        batches = load_steps(
            recipe.data,
            mixture,
            datasets,
            tokenizer,
            seed=recipe.seed,
            first=first,
            last=steps,
            rank=world.rank,
            size=world.size,
            patch_grid=math.isqrt(cast(int, learner.backbone.image_encoder.num_patches)),
            with_codebook=any(getattr(h, "needs_codes", False) for h in learner.heads.values()),
            masked=hides(learner),
            codes=open_codes(recipe.data, datasets, learner.codebook),
            accumulated=balance.accumulated,
            text_multiple=text_multiple(
                compiled=recipe.compile, padding_is_read=recipe.model.padding == "released"
            ),
        )
        diagnosis = Diagnosis(
            recipe.balance.diagnose,
            strategy,
            learner,
            groups,
            batches,
            recipe.data.sources,
            seed=recipe.seed,
            precision=recipe.precision,
            clip_norm=recipe.optim.clip_norm,
        )
        if writes:
            run_folder.describe(run_dir, recipe.to_yaml())
            data_log.write(run_dir)
            # and again however it ends: over too much damage above all
            stack.callback(data_log.write_if_claimed, run_dir, token)
        log = stack.enter_context(
            MetricLog(
                run_dir,
                first=first,
                global_batch=rows,
                seconds=seconds,
                tensorboard=recipe.metrics.tensorboard,
                writes=writes,
                check=partial(run_folder.keep_claim, run_dir, token),
            )
        )
        progress = stack.enter_context(Progress(steps, first, shown=writes))
        saver = stack.enter_context(Saver(run_dir, recipe.checkpoint, world, token, rows))

        for batch in batches:
            done = batch.step + 1
            lr = lr_at(batch.step, recipe.optim, steps)
            set_lr(strategy.optimizer, lr)
            losses = computing.step(batch, scale.value)
            norm = strategy.clip_grad_norm(recipe.optim.clip_norm, loss_scale=scale.value)
            check_finite(losses if scale.enabled else {**losses, "gradient norm": norm}, done)
            if scale.allows(norm):
                strategy.step()
            clamp_logit_scale(strategy.parameters(), recipe.optim.max_logit_scale)
            if ema is not None and scale.allows(norm):
                ema.update()

            mixing.note(mixture, batch, losses, world)
            progress.advance()
            if done % recipe.metrics.every == 0 or done == steps:
                line = log.log(
                    done,
                    kind=batch.kind,
                    source=batch.source,
                    losses=losses,
                    grad_norm=norm,
                    lr=lr,
                    data=data_log.figures(batch),
                    shares=mixture.begun(batch.step, recipe.metrics.every),
                    weights=balance.begun(batch.step, recipe.metrics.every),
                    compiled=compiled_graphs() if recipe.compile else None,
                )
                progress.show(line, list(losses))
            balance.note(done, losses, partial(diagnosis.gradients, scale.value), world)
            if diagnosis.due(done):
                record = diagnosis.measure(done, mixture, balance.weights, lr, scale.value)
                log.log_balance(record)

            # What the ranks tell each other: a signal to stop, how the last save goes, samples that
            # could not be read
            own = [request.flags(), saver.flags(), data_log.flags(batch)]
            noted = world.sum_over_ranks(torch.cat(own)).cpu()
            stop = request.agreed(noted[:-4])
            saver.settle(noted[-4:-2])
            data_log.note(batch, noted[-2:])

            is_best = enough = False
            if recipe.evaluate.every and done % recipe.evaluate.every == 0:
                with ema.applied() if ema is not None else nullcontext():
                    results = _evaluate(strategy, learner, build, tokenizer, recipe, tasks)
                if results is not None:
                    log.log_evaluation(done, results)
                    is_best = best.consider(done, results)
                is_best, enough = world.from_first((is_best, best.enough))

            if stop or is_best or enough or done % recipe.checkpoint.every == 0 or done == steps:
                log.flush()
                state = {
                    "order": {"seed": recipe.seed, "next_step": done},
                    "schedule": {"lr": lr},
                    "mixture": mixture.state(),
                    "balance": balance.state(),
                    "loss_scale": scale.state(),
                    "data": data_log.state(),
                    **best.state(),
                    "seconds": log.seconds,
                    "fingerprint": hashlib.sha256(recipe.to_yaml().encode()).hexdigest(),
                    "recipe": plain,
                }
                saver.save(strategy, done, state, best=is_best, ema=ema)
                if writes:
                    data_log.write(run_dir)
                if stop or enough or done == steps:
                    saver.finish()
            if enough and done < steps and not stop:
                logger.info("no better %s: stopped early", recipe.evaluate.metric)
                break
            if stop and done < steps:
                request.hand_over(stop)
                resume = shlex.join(["flava", "train", str(run_dir / "recipe.yaml")])
                raise Stopped(stop, done, resume)
        logger.info("%d steps done in %.0f s: %s", done, log.seconds, run_dir)


def _evaluate(
    strategy: Strategy,
    learner: Learner,
    build: Callable[[], Learner],
    tokenizer: Any,
    recipe: Recipe,
    tasks: Mapping[str, Evaluator],
) -> dict[str, dict[str, float | int]] | None:
    """Measure on all ranks, or where they hold parts on rank 0 with a copy; None on the others."""
    world = strategy.world
    state = None if strategy.whole else full_state(strategy)
    ranks = Ranks(world.rank, world.size) if strategy.whole else ALONE
    if state is not None:
        if world.rank:
            return None
        learner = build()
        learner.load_state_dict(state)
        learner.to(world.device)
    flava = Flava(learner, tokenizer, recipe, world.device, ranks=ranks)
    found = measure(flava, tasks)
    return None if world.rank else found
