"""VQA accuracy, and how answers are made comparable before they are compared.

Follows the published evaluation of VQA (Antol et al. 2015, section 3; Goyal et al. 2017, VQAv2): an
answer scores min(1, n / 3), where n of the other annotators gave it, averaged over leaving each of
the annotators out. What the evaluation program does beyond its description is kept, for figures are
compared with those it printed:

- a sign goes without a trace where the text has it beside a space, or has a comma between digits
  anywhere; elsewhere it leaves a space;
- at most 32 full stops are taken out (a flag of ``re`` stands where the count belongs), and a full
  stop before a digit stays, even without a digit before it;
- articles go after numbers became digits, and contractions get their apostrophe last: ``hes`` is
  ``he's`` and ``somebody'd`` loses its own;
- contractions written with a capital can never be found, since the text is in small letters.

Where all annotators wrote the same, neither theirs nor the model's answer is processed, and only
an answer written just so is right. That is the program of GT-Vision-Lab/VQA in its newest form,
which its author confirms as meant (issue 14 there). Its older one (commit c4e6a0e4), of which most
copies are (LAVIS's among them), always processes the model's answer, and of annotators' that differ
only takes out the signs, so that "two" never equals their "two"; the first of all also took out
colons and apostrophes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COUNTED = "zero one two three four five six seven eight nine ten"

NUMBERS = {word: str(number) for number, word in enumerate(_COUNTED.split(" "))} | {"none": "0"}
"""Words that become digits."""

ARTICLES = frozenset({"a", "an", "the"})
"""Words that are left out."""

SIGNS = ';/[]"{}()=+\\_-><@`,?!'
"""Signs that are taken out; the apostrophe, the colon and the full stop are not among them."""

MOST_STOPS = int(re.UNICODE)  # 32
"""Full stops taken out of one answer."""

# Each right spelling, and after it those that lack apostrophes, as far as they are known.
_SPELLINGS = """
ain't aint|aren't arent|can't cant|could've couldve|couldn't couldnt
couldn't've couldn'tve couldnt've|didn't didnt|doesn't doesnt|don't dont|hadn't hadnt
hadn't've hadnt've hadn'tve|hasn't hasnt|haven't havent|he'd hed|he'd've hed've he'dve|he's hes
how'd howd|how'll howll|how's hows|isn't isnt|it'd itd|it'd've itd've it'dve|it'll itll|ma'am maam
mightn't mightnt|mightn't've mightnt've mightn'tve|might've mightve|mustn't mustnt|must've mustve
needn't neednt|not've notve|o'clock oclock|oughtn't oughtnt|'ow's'at ow's'at 'ows'at 'ow'sat
shan't shant|she'd've shed've she'dve|should've shouldve|shouldn't shouldnt
shouldn't've shouldnt've shouldn'tve|somebodyd somebody'd|somebody'd've somebodyd've somebody'dve
somebody'll somebodyll|somebody's somebodys|someone'd someoned|someone'd've someoned've someone'dve
someone'll someonell|someone's someones|something'd somethingd
something'd've somethingd've something'dve|something'll somethingll|that's thats|there'd thered
there'd've thered've there'dve|there're therere|there's theres|they'd theyd
they'd've theyd've they'dve|they'll theyll|they're theyre|they've theyve|'twas twas|wasn't wasnt
we'd've wed've we'dve|we've weve|weren't werent|what'll whatll|what're whatre|what's whats
what've whatve|when's whens|where'd whered|where's wheres|where've whereve|who'd whod
who'd've whod've who'dve|who'll wholl|who's whos|who've whove|why'll whyll|why're whyre|why's whys
won't wont|would've wouldve|wouldn't wouldnt|wouldn't've wouldnt've wouldn'tve|y'all yall
y'all'll yall'll y'allll|y'all'd've yall'd've y'alld've y'all'dve|you'd youd
you'd've youd've you'dve|you'll youll|you're youre|you've youve
"""

CONTRACTIONS = {
    wrong: right
    for group in re.split(r"[|\n]", _SPELLINGS.strip())
    for right, *others in [group.split()]
    for wrong in others
}
"""Spelling without its apostrophes -> the right one."""

_STOP = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")


def normalise(answer: str) -> str:
    """Make an answer comparable, as the published evaluation does.

    Args:
        answer: As it was written.

    Returns:
        In small letters, with single spaces; may be empty.
    """
    return _words(_without_signs(_line(answer)))


def _without_signs(text: str) -> str:
    everywhere = _COMMA_IN_NUMBER.search(text) is not None
    changed = text
    for sign in SIGNS:
        # looked up in the text as it was, so that one sign's space does not decide the next one's
        beside_space = f"{sign} " in text or f" {sign}" in text
        changed = changed.replace(sign, "" if everywhere or beside_space else " ")
    return _STOP.sub("", changed, count=MOST_STOPS)


def _words(text: str) -> str:
    numbered = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in numbered if word not in ARTICLES)


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """Score an answer against those of a question's annotators.

    Args:
        answer: The model's.
        annotators: N answers, ten in VQAv2, one per annotator.

    Returns:
        From 0 to 1: mean over leaving each annotator out of min(1, equal answers / 3).

    Raises:
        ValueError: There are no annotators.
    """
    if not annotators:
        raise ValueError("vqa_accuracy: a question without annotators' answers has no score")
    flat = [_line(each) for each in annotators]
    said = _line(answer)
    if len(set(flat)) > 1:
        flat, said = [normalise(each) for each in flat], normalise(said)
    return soft_score(sum(each == said for each in flat), len(flat))


def _line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def soft_score(matches: int, annotators: int = 10) -> float:
    """Score an answer that some annotators gave.

    Args:
        matches: How many gave it.
        annotators: How many there were.

    Returns:
        The mean over leaving each annotator out: 0, 0.3, 0.6, 0.9, 1 for none to four of ten.
    """
    with_it, without = min(1.0, max(matches - 1, 0) / 3), min(1.0, matches / 3)
    return (matches * with_it + (annotators - matches) * without) / annotators
