"""What ``flava data curate`` is told: the schema of a plan, the same in a file and in options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from flava_plugin.schema import (
    Count,
    Float,
    Int,
    Positive,
    Section,
    Share,
    expand_variables,
)

File = Annotated[Path, BeforeValidator(expand_variables)]
"""A path of this machine, ``$VAR`` expanded."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]


class ScoreSection(Section):
    """Where a score of each sample comes from: one of ``record``, ``file`` and ``run``.

    Attributes:
        record: Key of the sample's JSON record, or of its labels.
        file: A parquet or CSV file with a line for each sample.
        key: Column of the file that names samples.
        column: Column of the file that has the score; null takes the score's own name.
        run: Folder of a training of ours: the score is the cosine of its two projections.
        checkpoint: Which of the run's checkpoints.
    """

    record: str | None = None
    file: File | None = None
    key: str = "key"
    column: str | None = None
    run: File | None = None
    checkpoint: Annotated[str, BeforeValidator(lambda value: str(value))] = "latest"

    @model_validator(mode="after")
    def _one_source(self) -> ScoreSection:
        if sum(each is not None for each in (self.record, self.file, self.run)) != 1:
            raise ValueError("give one of record, file and run")
        return self


class BasicStep(Section):
    """DataComp's basic filtering (arXiv 2304.14108): short captions and odd pictures go.

    Attributes:
        type: ``basic``.
        min_words: Fewest words (DataComp: more than 2).
        min_chars: Fewest characters (DataComp: more than 5).
        min_side: Fewest pixels of the shorter side (DataComp: 200).
        max_aspect: Largest ratio of the sides (DataComp: 3); null for any.
        min_ascii: Smallest share of ASCII among the letters: in place of DataComp's classifier of
            English, which needs a model; 0 takes every language.
    """

    type: Literal["basic"]
    min_words: Count = 3
    min_chars: Count = 6
    min_side: Count = 200
    max_aspect: Annotated[Float, Field(ge=1)] | None = 3.0
    min_ascii: Share = 0.9

    @property
    def judges_pictures(self) -> bool:
        """Whether a picture can fail it."""
        return self.min_side > 0 or self.max_aspect is not None

    @property
    def judges_texts(self) -> bool:
        """Whether a text can fail it."""
        return self.min_words > 0 or self.min_chars > 0 or self.min_ascii > 0


class ScoreStep(Section):
    """The best by a score, as DataComp and DFN (arXiv 2309.17425) filter; several steps combine.

    A sample without a score, or with NaN, goes.

    Attributes:
        type: ``score``.
        score: Its name.
        share: Which share of the samples stays, best first; equals of the last one stay with it.
        min: Or the smallest score that stays.
        of: The share is one of the samples that are left (``kept``), or of all that can be read
            (``all``), as where DataComp intersects two filters.
    """

    type: Literal["score"]
    score: Name
    share: Annotated[Float, Field(gt=0, le=1)] | None = None
    min: Float | None = None
    of: Literal["kept", "all"] = "kept"

    @model_validator(mode="after")
    def _one_bound(self) -> ScoreStep:
        if (self.share is None) == (self.min is None):
            raise ValueError("give share or min")
        return self


class DuplicatesStep(Section):
    """One stays of those that are the same.

    Attributes:
        type: ``duplicates``.
        same: What has to be the same: ``pair``, ``picture`` or ``text`` (case and needless spaces
            count for nothing).
        prefer: The score whose largest stays; null takes the first sample.
    """

    type: Literal["duplicates"]
    same: Literal["pair", "picture", "text"] = "pair"
    prefer: Name | None = None


class HashFile(Section):
    """Perceptual hashes that somebody else made.

    Attributes:
        file: A parquet or CSV file with a line for each sample.
        key: Column that names samples.
        column: Column of the hashes, 64 bits in 16 hex digits.
    """

    file: File
    key: str = "key"
    column: str = "phash"


class NearDuplicatesStep(Section):
    """One stays of a group of pictures that look alike, by their perceptual hashes.

    Attributes:
        type: ``near_duplicates``.
        distance: Most bits of 64 in which neighbours in a group differ. Measured: another size,
            encoding or brightness changes 0 to 4, a crop of 2 % mostly up to 6; different pictures
            differ in 19 and more; of 10 million, some 400 are within 6 of another by chance alone.
        prefer: The score whose largest stays, or ``pixels``; null takes the first sample.
        hashes: Hashes of somebody else in place of the scan's.
    """

    type: Literal["near_duplicates"]
    distance: Annotated[Int, Field(ge=0, le=8)] = 4
    prefer: Name | None = None
    hashes: HashFile | None = None


class BalanceStep(Section):
    """MetaCLIP's balancing (arXiv 2309.16671, Algorithm 1): frequent things become rarer.

    A caption matches an entry that stands in it as whole words. Each match of an entry with
    ``count`` matches keeps its sample with probability ``threshold / count``, independently.

    Attributes:
        type: ``balance``.
        metadata: The entries: a text file with one on each line, or a JSON list.
        threshold: Matches that an entry has left, about (paper: 20,000 for 400 M pairs).
        tail: Or which share of all matches belongs to entries below the threshold (paper: 0.06),
            from which the threshold follows.
        unmatched: Captions without any match ``drop`` (paper) or are kept.
        ignore_case: Match ``Dog`` with ``dog``; the paper does not.
    """

    type: Literal["balance"]
    metadata: File
    threshold: Positive | None = None
    tail: Annotated[Float, Field(gt=0, lt=1)] | None = None
    unmatched: Literal["drop", "keep"] = "drop"
    ignore_case: bool = False

    @model_validator(mode="after")
    def _one_threshold(self) -> BalanceStep:
        if self.threshold is not None and self.tail is not None:
            raise ValueError("give threshold or tail")
        return self


Step = Annotated[
    BasicStep | ScoreStep | DuplicatesStep | NearDuplicatesStep | BalanceStep,
    Field(discriminator="type"),
]


class CurationPlan(Section):
    """A plan: scores, and steps in their order.

    Attributes:
        seed: Of every choice by chance.
        key: Key of the sample's JSON record that names it in files; null takes the name of its
            file up to the first dot.
        scores: Scores by name.
        steps: What is done, in order; each sees what the ones before have left.
    """

    seed: Int = 0
    key: str | None = None
    scores: dict[Name, ScoreSection] = {}
    steps: Annotated[list[Step], Field(min_length=1)]

    @model_validator(mode="after")
    def _scores_are_there(self) -> CurationPlan:
        known = set(self.scores)
        problems = []
        for place, step in enumerate(self.steps):
            asked = getattr(step, "score", None) or getattr(step, "prefer", None)
            fine = known | ({"pixels"} if isinstance(step, NearDuplicatesStep) else set())
            if asked is not None and asked not in fine:
                listed = ", ".join(sorted(fine)) or "there are none"
                problems.append(f"steps.{place}: no score '{asked}' under scores ({listed})")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def needs_pictures(self) -> bool:
        """Whether a step looks at what only a decoded picture shows."""
        for step in self.steps:
            if isinstance(step, NearDuplicatesStep) and (
                step.hashes is None or step.prefer == "pixels"
            ):
                return True
            if isinstance(step, BasicStep) and step.judges_pictures:
                return True
        return False


def read_plan(data: Any, where: str) -> CurationPlan:
    """Check a plan whole.

    Args:
        data: What its YAML or the command line says.
        where: What names it in messages.

    Returns:
        The plan.

    Raises:
        ValueError: Anything is wrong; a line for each problem.
    """
    try:
        return CurationPlan.model_validate(data)
    except ValidationError as error:
        lines = []
        for each in error.errors():
            path = ".".join(str(part) for part in each["loc"])
            lines.append(f"{where}: {path + ': ' if path else ''}{each['msg']}")
        raise ValueError("\n".join(lines)) from error
