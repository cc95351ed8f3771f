"""The detector's parts by hand: who answers for what, what counts as found, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from object_files import ACME, write_objects

from flava_plugin import Batch

sys.path.insert(0, str(ACME))

from acme_flava.average_precision import Truth, hits, mean_average_precision  # noqa: E402
from acme_flava.detection import acme_detection, assign  # noqa: E402
from acme_flava.grid import Found, Grid, find  # noqa: E402
from acme_flava.objects import acme_objects  # noqa: E402

WHOLE, CORNER = [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]


def batch(classes: list[list[int]], boxes: list[list[list[float]]]) -> Batch:
    extra = {"classes": torch.tensor(classes), "boxes": torch.tensor(boxes)}
    return Batch("image", image=torch.zeros(len(classes), 3, 2, 2), extra=extra)


def test_a_patch_answers_for_the_smallest_thing_around_it() -> None:
    one = batch([[0, 1, -1]], [[WHOLE, CORNER, CORNER]])
    place, on = assign(2, one.extra["boxes"], one.extra["classes"])
    assert place.tolist() == [[1, 0, 0, 0]] and bool(on.all())


def test_the_loss_of_a_picture_does_not_depend_on_its_neighbours() -> None:
    dice = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 4, 4, generator=dice).sort(-1).values
    grid = Grid(torch.randn(2, 4, 3, generator=dice), boxes)
    both = batch([[2, -1], [-1, -1]], [[WHOLE, WHOLE], [WHOLE, WHOLE]])
    loss = acme_detection()
    together = loss(grid, both)
    alone = loss(Grid(grid.logits[:1], grid.boxes[:1]), batch([[2, -1]], [[WHOLE, WHOLE]]))
    assert torch.equal(together[:1], alone)
    right = Grid(torch.full((1, 4, 3), -20.0), torch.tensor(WHOLE).expand(1, 4, 4))
    right.logits[..., 2] = 20
    assert float(loss(right, batch([[2]], [[WHOLE]]))) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="class 3 is in the batch.*0 to 2"):
        loss(grid, batch([[3], [0]], [[WHOLE], [WHOLE]]))


def test_of_boxes_on_one_another_the_surest_stays() -> None:
    logits = torch.tensor([[2.0, -9], [3, -9], [-9, -9], [-9, 1]])
    boxes = torch.tensor([WHOLE, WHOLE, WHOLE, CORNER])
    found = find(logits, boxes, least=0.1, overlap=0.5, most=9)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))])


def test_precision_by_hand() -> None:
    """Three things of class 0; of four boxes the first and third are right, one thing is missed."""
    far = [0.6, 0.6, 0.9, 0.9]
    truth = Truth(torch.tensor([CORNER, far, WHOLE]), torch.tensor([0, 0, 0]))
    boxes = torch.tensor([CORNER, CORNER, far, [0.9, 0.9, 1.0, 1.0]])
    found = Found(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4, dtype=torch.long))
    assert hits(found, truth, 0.5).tolist() == [True, False, True, False]
    # precision 1 at recall 1/3, and 2/3 at recall 2/3
    assert mean_average_precision([(found, truth)], 2, 0.5) == pytest.approx((1 + 2 / 3) / 3)
    other = found._replace(classes=torch.ones(4, dtype=torch.long))
    assert mean_average_precision([(other, truth)], 2, 0.5) == 0


def test_the_json_is_read_as_coco_writes_it(tmp_path: Path) -> None:
    write_objects(tmp_path, train=5)
    data = acme_objects(path=tmp_path / "train.json", images=tmp_path / "images", most=2)
    told = json.loads((tmp_path / "train.json").read_text())
    own = [thing for thing in told["annotations"] if thing["image_id"] == 3]
    sample = data.read(3)
    assert len(sample.extra["boxes"]) == 2 and sample.image is not None
    kept = [place for place in sample.extra["classes"] if place >= 0]
    assert len(kept) == min(2, len(own))
    x, y, w, h = max((thing["bbox"] for thing in own), key=lambda box: box[2] * box[3])
    assert sample.extra["boxes"][0] == pytest.approx([x / 48, y / 48, (x + w) / 48, (y + h) / 48])
    told["annotations"][0]["category_id"] = 99
    (tmp_path / "bad.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="category 99, which the file does not list"):
        acme_objects(path=tmp_path / "bad.json", images=tmp_path / "images")
