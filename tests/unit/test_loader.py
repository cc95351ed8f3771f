import os
import signal
import time

import pytest
import torch
from data_stubs import LetterTokenizer, Pairs, Pictures, Sentences, mixture_of, section

from flava_plugin.data.loader import load_steps, start_worker
from flava_plugin.data.reading import UnreadableDataError
from flava_plugin.types import Sample

LAST = 12


def load(data=None, rank=0, size=1, first=0, last=LAST, pairs=None, seed=4, **options):
    datasets = {
        "pairs": pairs or Pairs(11),
        "sentences": Sentences(),
        "pictures": Pictures(),
        **options.pop("datasets", {}),
    }
    data = data or section()
    return load_steps(
        data,
        options.pop("mixture", None) or mixture_of(data, seed),
        datasets,
        LetterTokenizer(),
        seed=seed,
        first=first,
        last=last,
        rank=rank,
        size=size,
        patch_grid=options.pop("patch_grid", 4),
        with_codebook=True,
        **options,
    )


def flat(batch):
    """What a batch holds, row by row, without padding."""
    rows = []
    for number in range(len(batch)):
        real = slice(None) if batch.text is None else batch.text_padding[number]
        fields = {
            "image": batch.image,
            "codebook_image": batch.codebook_image,
            "patch_mask": batch.patch_mask,
            "matched": batch.matched,
            "positives": batch.positives,
        }
        rows.append(
            {name: value[number].tolist() for name, value in fields.items() if value is not None}
            | {
                name: getattr(batch, name)[number][real].tolist()
                for name in ("text", "text_masked", "word_labels")
                if getattr(batch, name) is not None
            }
            | {name: value[number].item() for name, value in batch.extra.items()}
        )
    return rows


def contents(loader):
    return [
        (step.step, step.source, [row for batch in step.micro_batches for row in flat(batch)])
        for step in loader
    ]


@pytest.fixture(scope="module")
def alone():
    return contents(load())


def test_sources_take_turns_by_their_shares(alone):
    sources = [source for _, source, _ in alone]
    assert [sources.count(name) for name in ("pairs", "sentences", "pictures")] == [6, 3, 3]
    assert [step for step, _, _ in alone] == list(range(LAST))
    assert all(len(rows) == 8 for _, _, rows in alone)


def test_pairs_hold_matched_and_unmatched_rows(alone):
    rows = [row for _, source, found in alone if source == "pairs" for row in found]
    hard = LetterTokenizer().encode("not", 77)[1:-1]
    kinds = {"matched": 0, "hard": 0, "other": 0}
    for row in rows:
        assert row["positives"] == row["matched"]
        right = LetterTokenizer().encode(Pairs(11).read(row["index"]).text, 77)
        assert (row["text"] == right) == row["matched"]
        is_hard = row["text"][1:4] == hard
        kinds["matched" if row["matched"] else "hard" if is_hard else "other"] += 1
    assert min(kinds.values()) > 4


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("per_gpu_batch", [None, 1])
def test_ranks_share_the_same_global_batch(alone, size, per_gpu_batch):
    data = section(per_gpu_batch=per_gpu_batch)
    ranks = [contents(load(data, rank, size)) for rank in range(size)]
    for number, (step, source, rows) in enumerate(alone):
        together = [ranks[row % size][number][2][row // size] for row in range(8)]
        assert [rank[number][:2] for rank in ranks] == [(step, source)] * size
        assert together == rows


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(alone, workers):
    before = torch.get_rng_state()
    loader = load(section(workers=workers))
    assert contents(loader) == alone
    assert contents(loader) == alone  # the same workers again
    assert (torch.get_rng_state() == before).all()


@pytest.mark.parametrize("first", [0, 1, 5, 11, 12])
def test_a_run_taken_up_again_sees_the_tail(alone, first):
    assert contents(load(first=first)) == alone[first:]


def test_micro_batches_are_consecutive_rows_of_the_rank():
    steps = list(load(section(per_gpu_batch=2), rank=1, size=2))
    assert all([len(batch) for batch in step.micro_batches] == [2, 2] for step in steps)


def test_workers_hand_over_as_many_tensors_however_many_micro_batches():
    """Each is an open file; past the limit of open files, torch's workers would hang."""
    loader = load(section(per_gpu_batch=1))
    assert len(loader) == LAST
    assert [len(step.micro_batches) for step in loader.reader] == [1] * LAST
    assert [len(step.micro_batches) for step in loader] == [8] * LAST


@pytest.mark.parametrize("workers", [0, 1])
def test_what_ends_a_run_arrives_as_it_was_said(workers):
    loader = load(section(workers=workers), pairs=Pairs(9, bad=range(9)))
    with pytest.raises(UnreadableDataError) as raised:
        list(loader)
    assert str(raised.value).startswith("data.sources.pairs: sample ")
    assert "Traceback" not in str(raised.value)


def test_another_seed_gives_other_batches(alone):
    assert contents(load(seed=5)) != alone


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_samples_are_replaced_and_recorded(workers):
    def run(size=1):
        loaders = [
            load(section(workers=workers), rank, size, pairs=Pairs(11, bad=[2, 7]), last=24)
            for rank in range(size)
        ]
        steps = [list(loader) for loader in loaders]
        bad = [(bad.source, bad.index, bad.reason, bad.detail)
               for rank in steps for step in rank for bad in step.bad]  # fmt: skip
        seen = [
            index
            for rank in steps
            for step in rank
            if step.source == "pairs"
            for batch in step.micro_batches
            for index in batch.extra["index"].tolist()
        ]
        return sorted(bad), sorted(seen)

    bad, seen = run()
    assert {record[:3] for record in bad} == {
        ("pairs", 2, "OSError"),
        ("pairs", 7, "OSError"),
    }
    assert bad[0][3] == "no file 2"
    assert len(seen) == 12 * 8
    assert not {2, 7} & set(seen)
    assert run(size=2) == (bad, seen)


def test_equal_captions_are_no_negatives():
    data = section(matching={"negatives": 1.0, "tries": 3, "no_positives": "skip"})
    twins = Pairs(11, repeat=1)
    twins.read = lambda index: Sample(twins.pictures[index], " Twin" if index % 2 else "twin ")
    for step in load(data, pairs=twins):
        if step.source == "pairs":
            assert all(batch.matched.all() for batch in step.micro_batches)


def test_all_rows_count_where_none_matches_and_the_recipe_says_so():
    for rule, counted in (("skip", False), ("all", True)):
        data = section(matching={"negatives": 1.0, "hard": 1.0, "no_positives": rule})
        for step in load(data, size=2, rank=1):
            if step.source == "pairs":
                assert not step.micro_batches[0].matched.any()
                assert (step.micro_batches[0].positives == counted).all()


def test_captions_are_read_alone_where_a_dataset_can():
    class Captioned(Pairs):
        asked = 0

        def read_text(self, index):
            self.asked += 1
            return super().read(index).text

    pairs = Captioned(11)
    data = section(matching={"negatives": 1.0})
    read_alone = contents(load(data, size=2, pairs=pairs))
    assert pairs.asked > 0
    assert read_alone == contents(load(data, size=2))


def test_fine_tuning_hides_nothing():
    for step in load(masked=False, patch_grid=1):
        for batch in step.micro_batches:
            assert batch.patch_mask is batch.text_masked is batch.word_labels is None


def test_batches_that_do_not_come_out_even_are_refused():
    with pytest.raises(ValueError, match=r"data\.global_batch: 8 .* of 6 .*take 6 or 12, or chang"):
        load(section(per_gpu_batch=2), size=3)
    with pytest.raises(ValueError, match=r"8 is not a multiple of 3 \(3 ranks\)"):
        load(size=3)


def test_what_is_no_dataset_is_refused():
    with pytest.raises(ValueError, match=r"sources\.pictures\.dataset: generator has no __len__"):
        load(datasets={"pictures": (x for x in "ab")})
    with pytest.raises(ValueError, match=r"data\.sources\.pairs\.dataset: it holds no sample"):
        load(datasets={"pairs": Pairs(0)})
    with pytest.raises(ValueError, match=r"patch_count: 5 .* 2 x 2; lower it to at most 4"):
        load(patch_grid=2)


def test_a_missing_dataset_is_refused():
    with pytest.raises(ValueError, match=r"data\.sources\.pictures: no dataset"):
        load_steps(
            section(), mixture_of(section(), 0), {"pairs": Pairs(3), "sentences": Sentences()},
            LetterTokenizer(), seed=0, first=0, last=1, patch_grid=4, with_codebook=False,
        )  # fmt: skip


def test_workers_leave_signals_to_the_training_process():
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    threads = torch.get_num_threads()
    try:
        start_worker(0)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
        assert torch.get_num_threads() == 1
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        torch.set_num_threads(threads)


def test_workers_outlive_an_interrupt(alone):
    loader = load(section(workers=2))
    steps = iter(loader)
    found = [next(steps)]
    time.sleep(0.5)  # so that the workers have set their signals
    for worker in loader.reader._iterator._workers:
        os.kill(worker.pid, signal.SIGINT)
    found += list(steps)
    assert contents(found) == alone
