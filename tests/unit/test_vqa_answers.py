"""The official normalisation and accuracy on 200 hand-made answers, and on every split of ten."""

import pytest

from flava_plugin.data.vqa_answers import CONTRACTIONS, normalise, soft_score, vqa_accuracy

# answer -> what the published program makes of it, derived by hand from its description
BY_HAND = {
    "yes": "yes", "Yes": "yes", "YES": "yes", " yes ": "yes", "no\n": "no", "n\to": "n o",
    "two": "2", "Two": "2", "none": "0", "None": "0", "zero": "0", "one": "1", "three": "3",
    "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
    "eleven": "eleven", "twenty one": "twenty 1", "two two": "2 2", "twos": "twos",
    "a dog": "dog", "an apple": "apple", "the dog": "dog", "The Dog": "dog", "a": "", "the": "",
    "a an the": "", "dog a": "dog", "theatre": "theatre", "another": "another", "A+": "",
    "grade a": "grade", "vitamin a": "vitamin", "plan the day": "plan day",
    "red, white": "red white", "red,white": "red white", "red , white": "red white",
    "1,000": "1000", "10,000": "10000", "4:30": "4:30",
    "1,000,000": "1000000", "1,000-2,000": "10002000",
    "a,b 1,2": "ab 12", "black/white": "black white", "black / white": "black white",
    "black/ white": "black white", "black /white": "black white", "t-shirt": "t shirt",
    "t- shirt": "t shirt", "t -shirt": "t shirt", "hot-dog stand-up": "hot dog stand up",
    "what?": "what", "what ?": "what", "really!": "really", "wow!!": "wow", "wow! yes": "wow yes",
    "yes;no": "yes no", "yes; no": "yes no", "[red]": "red", "{red}": "red", "(red)": "red",
    "red (dark)": "red dark", "red(dark)": "red dark", '"stop"': "stop", "x=1": "x 1",
    "x = 1": "x 1", "1+1": "1 1", "1 + 1": "1 1", "a\\b": "b", "c\\d": "c d",
    "snake_case": "snake case",
    "snake _case": "snake case", "<b>": "b", "5>4": "5 4", "5 > 4": "5 4", "me@home": "me home",
    "me @home": "me home", "`quoted`": "quoted", "dog.": "dog", "dog...": "dog", "u.s.": "us",
    "u.s.a": "usa", "3.5": "3.5", ".5": ".5", "3.": "3", "v. 2": "v 2", "a.m.": "am",
    "10.30": "10.30", "10:30": "10:30", "10:30 a.m.": "10:30 am", "mr. x": "mr x",
    "x.9.": "x.9", "." * 32: "", "." * 33: ".", "." * 40: "." * 8,
    "dont": "don't", "don't": "don't", "Dont": "don't", "cant": "can't", "wont": "won't",
    "isnt": "isn't", "isnt it": "isn't it", "hes": "he's", "he's": "he's", "shes": "shes",
    "she's": "she's", "im": "im", "Im": "im", "ive": "ive", "id've": "id've", "Id've": "id've",
    "its": "its", "it's": "it's", "lets": "lets", "let's": "let's", "thats": "that's",
    "whats": "what's", "whats up": "what's up", "somebody'd": "somebodyd",
    "somebodyd": "somebodyd", "somebodys": "somebody's", "oclock": "o'clock",
    "2 oclock": "2 o'clock", "two oclock": "2 o'clock", "maam": "ma'am", "yall": "y'all",
    "y'allll": "y'all'll", "twas": "'twas", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at",
    "wed": "wed", "wed've": "we'd've", "were": "were", "werent": "weren't", "well": "well",
    "theyre": "they're", "youre": "you're", "hed": "he'd", "hell": "hell", "shed": "shed",
    "shed've": "she'd've", "ill": "ill", "arent": "aren't", "aint": "ain't",
    "couldnt": "couldn't", "couldn'tve": "couldn't've", "couldnt've": "couldn't've",
    "didnt": "didn't", "doesnt": "doesn't", "hadnt": "hadn't", "hasnt": "hasn't",
    "havent": "haven't", "mustve": "must've", "mustnt've": "mustnt've", "neednt": "needn't",
    "oughtnt": "oughtn't", "shant": "shan't", "wasnt": "wasn't", "wouldve": "would've",
    "weve": "we've", "whos": "who's", "whove": "who've", "whens": "when's", "wheres": "where's",
    "theres": "there's", "therere": "there're", "theyd": "they'd", "theyll": "they'll",
    "someones": "someone's", "somethingll": "something'll", "notve": "not've",
    "dog's": "dog's", "dogs'": "dogs'", "'dog'": "'dog'", "rock'n'roll": "rock'n'roll",
    "two dogs": "2 dogs", "the two dogs": "2 dogs", "a one": "1", "one a": "1",
    "one-way": "1 way", "one -way": "1 way", "one way": "1 way", "three-one": "3 1",
    "the-cat": "cat", "a-frame": "frame", "x-a": "x", "no-one": "no 1", "none.": "0",
    "ten.": "10", "ten.5": "ten.5", "two,": "2", "two, three": "2 3", "two,three": "2 3",
    "": "", " ": "", "\n": "", "?": "", "!?": "", "-": "", "--": "", "- -": "",
    "red  white": "red white", "red\nwhite": "red white", "100%": "100%", "$5": "$5", "#1": "#1",
    "a&b": "a&b", "a & b": "& b", "½": "½", "café": "café", "CAFÉ": "café",
    "ünder-ground": "ünder ground",
    "it is 1,5 - 2": "it is 15 2", "dont, cant": "don't can't", "dont,cant": "don't can't",
    "wont?": "won't", "hes-here": "he's here", "hes.": "he's", "the.": "", "a.b": "ab",
    "yes.": "yes", "yes .": "yes", "2.0.": "2.0", "x,": "x", ",x": "x", "x ,y": "x y",
    "skate board": "skate board", "skateboard": "skateboard", "skate-board": "skate board",
    "frisbee": "frisbee", "Frisbee!": "frisbee", "on the table": "on table",
    "in an airplane": "in airplane", "to left of the dog": "to left of dog", "nike.": "nike",
    "stop sign": "stop sign", "\"stop\" sign": "stop sign", "5 o'clock": "5 o'clock",
}  # fmt: skip

# what ten annotators said, what is asked, what it scores (worked out by hand)
ACCURACY = [
    (["yes"] * 10, "yes", 1.0), (["yes"] * 10, "no", 0.0), (["yes"] * 10, "Yes", 0.0),
    (["Yes."] * 10, "yes", 0.0), (["yes"] * 10, " yes\n", 1.0), (["two"] * 10, "2", 0.0),
    (["two"] * 9 + ["2"], "2", 1.0), (["yes"] + ["no"] * 9, "yes", 0.3),
    (["yes"] * 2 + ["no"] * 8, "yes", 0.6), (["yes"] * 3 + ["no"] * 7, "yes", 0.9),
    (["yes"] * 4 + ["no"] * 6, "yes", 1.0),
    (["a dog", "dog", "the dog"] + ["cat"] * 7, "Dog.", 0.9),
    (["dont"] + ["don't"] * 2 + ["x"] * 7, "dont", 0.9),
    (["t-shirt"] + ["t shirt"] + ["x"] * 8, "t shirt", 0.6),
]  # fmt: skip


def test_there_are_two_hundred() -> None:
    assert len(BY_HAND) >= 200


@pytest.mark.parametrize(("answer", "expected"), BY_HAND.items())
def test_an_answer_is_made_comparable_as_published(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


@pytest.mark.parametrize(("said", "answer", "score"), ACCURACY)
def test_accuracy_by_hand(said: list[str], answer: str, score: float) -> None:
    assert vqa_accuracy(answer, said) == pytest.approx(score)


@pytest.mark.parametrize("matches", range(11))
@pytest.mark.parametrize("others", [1, 3, 10])
def test_accuracy_is_the_mean_over_leaving_one_out(matches: int, others: int) -> None:
    said = ["x"] * matches + ["y"] * others
    scores = []
    for left_out in range(len(said)):
        rest = said[:left_out] + said[left_out + 1 :]
        scores.append(min(1, rest.count("x") / 3))
    assert vqa_accuracy("x", said) == pytest.approx(sum(scores) / len(scores))
    assert soft_score(matches, len(said)) == pytest.approx(sum(scores) / len(scores))


def test_no_annotators_no_score() -> None:
    with pytest.raises(ValueError, match="without annotators"):
        vqa_accuracy("x", [])


def test_every_contraction_only_lacks_apostrophes() -> None:
    assert len(CONTRACTIONS) > 110
    for wrong, right in CONTRACTIONS.items():
        assert wrong.replace("'", "") == right.replace("'", "")
        assert wrong != right and normalise(right) in (right, "somebodyd")
