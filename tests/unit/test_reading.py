import errno
import json
import warnings
from io import BytesIO

import pytest
from data_stubs import Pairs
from PIL import Image

from flava_plugin.data.bad_samples import BadSamples
from flava_plugin.data.captions import Captions
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.order import Row
from flava_plugin.data.reading import TRIES, BadSample, UnreadableDataError, attempt, read
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.types import Key, Sample


class Files:
    """Samples as they are given: bytes of a picture, and a text."""

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def read(self, index, /):
        data, text = self.samples[index]
        return Sample(None if data is None else Image.open(BytesIO(data)), text)


def encoded(kind, size=(64, 64), mode="RGB"):
    target = BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(target, kind)
    return target.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")


@pytest.mark.parametrize(
    ("data", "text", "reason"),
    [
        (JPEG[:900], "x", "broken picture"),
        (PNG[:900], "x", "broken picture"),
        (PNG[:200] + b"\0" * 400 + PNG[600:], "x", None),
        (b"not a picture", "x", "broken picture"),
        (b"", "x", "broken picture"),
        (None, "x", "no picture"),
        (PNG, "", "empty text"),
        (PNG, " \n", "empty text"),
        (PNG, None, "empty text"),
    ],
)
def test_damaged_samples_are_told_by_their_reason(data, text, reason):
    _, fault = attempt(Files((data, text)), "s", 0, "pair")
    assert fault is not None
    assert (fault.source, fault.index) == ("s", 0)
    assert reason is None or fault.reason == reason


def test_what_a_modality_does_not_hold_is_not_asked_for():
    assert attempt(Files((None, "x")), "s", 0, "text")[1] is None
    assert attempt(Files((PNG, None)), "s", 0, "image")[1] is None


def test_a_good_picture_is_decoded_and_rgb():
    sample, fault = attempt(Files((encoded("PNG", mode="LA"), "x")), "s", 0, "pair")
    assert fault is None
    assert sample.image.mode == "RGB"


def test_pictures_that_are_too_large_are_bad(monkeypatch):
    for limit in (3000, 1000):  # PIL warns beyond its limit and fails beyond twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, fault = attempt(Files((PNG, "x")), "s", 0, "pair")
        assert fault.reason == "decompression bomb"


def test_mistakes_in_code_are_not_taken_for_bad_samples():
    class Wrong(Pairs):
        def read(self, index, /):
            raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        read(Wrong(3), Key("s", 0, 0), "pair", 0)


def test_the_substitute_is_a_function_of_seed_and_key():
    dataset = Pairs(50, bad=range(0, 50, 2))
    found = [read(dataset, Key("s", 0, 4), "pair", 0) for _ in range(2)]
    assert found[0][0].extra == found[1][0].extra
    assert found[0][1] == found[1][1]
    assert found[0][1][0] == BadSample("s", 4, "OSError", "no file 4")
    assert found[0][0].extra["index"] % 2 == 1
    others = {read(dataset, Key("s", epoch, 4), "pair", 0)[0].extra["index"] for epoch in range(9)}
    assert len(others) > 3


def test_a_dataset_without_a_good_sample_stops_the_run():
    told = rf"data\.sources\.s: sample 1 .* nor any of {TRIES}"
    with pytest.raises(UnreadableDataError, match=told):
        read(Pairs(3, bad=range(3)), Key("s", 0, 1), "pair", 0)


def test_the_budget_counts_different_samples_by_source_and_reason():
    bad = BadSamples(budget=3)
    bad.add([BadSample("a", 1, "OSError", "cut short"), BadSample("a", 2, "empty text")])
    bad.add([BadSample("a", 1, "OSError", "cut short"), BadSample("b", 1, "OSError")])
    assert len(bad) == 3
    assert bad.counts() == {"a": {"OSError": 1, "empty text": 1}, "b": {"OSError": 1}}

    again = BadSamples(budget=3)
    again.load_state(json.loads(json.dumps(bad.state())))
    assert again.counts() == bad.counts()
    with pytest.raises(UnreadableDataError) as raised:
        again.add([BadSample("a", 9, "OSError", "cut short")])
    assert str(raised.value).splitlines() == [
        "4 samples could not be read, more than data.bad_samples: 3",
        "  data.sources.a: 2 x OSError (sample 1, cut short)",
        "  data.sources.a: 1 x empty text (sample 2)",
        "  data.sources.b: 1 x OSError (sample 1)",
        "repair or remove them (flava data check names them all), or raise data.bad_samples or "
        "data.bad_share",
    ]


def test_a_share_of_the_rows_is_put_up_with_where_it_is_more():
    bad = BadSamples(budget=3, share=0.01)
    records = [BadSample("a", index, "OSError") for index in range(9)]
    bad.add(records[:8], rows=800)
    with pytest.raises(
        UnreadableDataError, match=r"9 samples .* data\.bad_share: 0\.01 of 850 rows"
    ):
        bad.add(records, rows=850)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("flava_plugin.data.bad_samples.REMEMBERED", 5)
    bad = BadSamples(budget=100)
    records = [BadSample("a", index, "OSError", "x" * 50) for index in range(8)]
    bad.add(records)
    bad.add(records)
    assert len(bad) == 8 + 3, "the last three are counted each time"
    assert len(str(bad.state())) < 300
    again = BadSamples(budget=100)
    again.load_state(bad.state())
    assert again.state() == bad.state() and again.counts() == {"a": {"OSError": 11}}


def test_substitutes_come_from_the_same_shard_first():
    class Shards(Pairs):
        def neighbours(self, index):
            return range(index // 10 * 10, index // 10 * 10 + 10)

    for index in range(20, 30):
        sample, faults = read(Shards(100, bad=[index]), Key("s", 0, index), "pair", 0)
        assert len(faults) == 1 and sample.extra["index"] in range(20, 30)
    sample, faults = read(Shards(100, bad=range(20, 30)), Key("s", 0, 22), "pair", 0)
    assert len(faults) == 1 + 8 and sample.extra["index"] not in range(20, 30)


class Shards(Pairs):
    """Shards of ten; what is bad is so for a reason of the whole shard."""

    reason = "missing shard"

    def neighbours(self, index):
        return range(index // 10 * 10, index // 10 * 10 + 10)

    def read(self, index, /):
        if index in self.bad:
            raise DamagedSampleError(self.reason, "x.tar")
        return super().read(index)


@pytest.mark.parametrize("reason", ["missing shard", "truncated tar", "damaged index"])
def test_no_substitute_is_sought_in_a_shard_that_is_gone(reason):
    dataset = Shards(100, bad=range(20, 30))
    dataset.reason = reason
    found = [read(dataset, Key("s", 0, index), "pair", 0) for index in range(20, 30)]
    assert sum(len(faults) for _, faults in found) < 20
    assert all(sample.extra["index"] not in range(20, 30) for sample, _ in found)


def test_a_picture_at_fault_is_named_by_its_dataset():
    class Named(Pairs):
        def read(self, index, /):
            return Sample(image=Image.open(BytesIO(JPEG[:900])), text="a")

        def read_raw(self, index):
            return RawSample(name=f"7.tar:\x1b[2J{index}.jpg")

    _, fault = attempt(Named(3), "s", 1, "pair")
    assert fault.reason == "broken picture"
    assert fault.detail.startswith("7.tar:\ufffd[2J1.jpg: "), "and nothing steers a terminal"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE])
def test_what_the_machine_is_to_blame_for_is_no_damage(number):
    class Limited(Pairs):
        def read(self, index, /):
            raise OSError(number, "not now")

        def read_text(self, index):
            raise OSError(number, "not now")

    with pytest.raises(OSError, match="not now"):
        read(Limited(3), Key("s", 0, 0), "pair", 0)
    row = Row(Key("s", 0, 0), negative=True, candidates=(Key("s", 0, 1),))
    with pytest.raises(OSError, match="not now"):
        Captions(Limited(3), "s").wrong_for(Sample(text="a"), row)


def test_a_flood_of_damage_does_not_fill_the_log(caplog):
    bad = BadSamples(budget=5000)
    bad.add(BadSample("a", index, "OSError") for index in range(3000))
    bad.add([BadSample("b", 1, "OSError", "y"), BadSample("a", 4000, "empty text")])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 20 + 7 + 2, "32, 64 and so on to 2048"
    assert "number 20" in lines[19] and "data.json" in lines[19]
    assert bad.counts()["a"]["OSError"] == 3000
