"""Tiny data sets in the layouts their authors publish, written by hand from the descriptions.

Each function writes a tree below a folder and returns the options of its builder, and the pairs
that should come out: (stem of the picture's path, caption). Pictures are of one colour each, and no
two of those with captions are the same.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from PIL import Image

Tree = tuple[dict[str, Any], list[tuple[str, str]]]

WIT_COLUMNS = [
    *("language", "page_url", "image_url", "page_title", "section_title"),
    *("hierarchical_section_title", "caption_reference_description"),
    *("caption_attribution_description", "caption_alt_text_description", "mime_type"),
    *("original_height", "original_width", "is_main_image", "attribution_passes_lang_id"),
    *("page_changed_recently", "context_page_description", "context_section_description"),
]


def picture(path: Path, shade: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    Image.new("RGB", (56, 48), (shade % 256, 3 * shade % 256, 7 * shade % 256)).save(path, kind)


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def coco(folder: Path, count: int = 6) -> Tree:
    """``annotations/captions_train2014.json``: captions are in no order of pictures."""
    images, annotations, pairs = [], [], []
    for number in range(count):
        name = f"COCO_train2014_{number + 9:012d}.jpg"
        picture(folder / "train2014" / name, number)
        images.append({"id": number + 9, "file_name": name, "height": 48, "width": 56})
    for turn in range(2):
        for row in images:
            caption = f"a red thing number {row['id']} told {('once', 'twice')[turn]}"
            annotations.append({"image_id": row["id"], "id": len(annotations), "caption": caption})
    for row in images:
        pairs += [
            (str(row["file_name"])[:-4], str(a["caption"]))
            for a in annotations
            if a["image_id"] == row["id"]
        ]
    data = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
    path = write_json(folder / "annotations" / "captions_train2014.json", data)
    return {"path": path, "images": folder}, pairs


def karpathy(folder: Path) -> Tree:
    """``dataset_coco.json``: one picture of each split."""
    images, pairs = [], []
    for number, split in enumerate(("train", "restval", "val", "test")):
        where = "train2014" if split == "train" else "val2014"
        name = f"COCO_{where}_{number:012d}.jpg"
        picture(folder / where / name, number)
        raws = [f"a {split} picture", f"another {split} sentence"]
        sentences = [{"raw": raw, "tokens": raw.split(), "imgid": number} for raw in raws]
        row = {"filepath": where, "filename": name, "split": split, "cocoid": number + 100}
        images.append({**row, "imgid": number, "sentences": sentences})
        if number < 2:
            pairs += [(name[:-4], raw) for raw in raws]
    path = write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})
    return {"path": path, "images": folder}, pairs


def visual_genome(folder: Path, count: int = 4) -> Tree:
    """``region_descriptions.json``; the second half of the pictures lies in ``VG_100K_2``."""
    items, pairs = [], []
    for number in range(1, count + 1):
        where = "VG_100K" if number <= count // 2 else "VG_100K_2"
        picture(folder / where / f"{number}.jpg", number)
        regions = []
        for place in range(3):
            phrase = f"the small part {place} of picture {number}"
            box = {"x": 1, "y": 2, "width": 9, "height": 8}
            regions.append({"region_id": 10 * number + place, "image_id": number, **box})
            regions[-1]["phrase"] = phrase
            pairs.append((str(number), phrase))
        items.append({"id": number, "regions": regions})
    path = write_json(folder / "region_descriptions.json", items)
    return {"path": path, "images": folder}, pairs


def localized_narratives(folder: Path, count: int = 3) -> Tree:
    """A file of Open Images and one of COCO, whose pictures are called by twelve digits."""
    pairs = []
    for dataset, names in (
        ("open_images_train", [f"{number:016x}" for number in range(count)]),
        ("mscoco_train2017", [str(391895 + number) for number in range(count)]),
    ):
        rows = []
        for shade, name in enumerate(names):
            sentences = [f"In this image I can see {name}.", "In the background there are trees."]
            row = {"dataset_id": dataset, "image_id": name, "annotator_id": 93}
            rows.append({**row, "caption": " ".join(sentences), "voice_recording": "x.ogg"})
            stem = name.zfill(12) if "coco" in dataset else name
            picture(folder / "pictures" / f"{stem}.jpg", shade + 11 * len(pairs))
            pairs += [(stem, sentence) for sentence in sentences]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{dataset}_captions.jsonl").write_text(lines, encoding="utf-8")
    # files in the order of their names
    pairs = pairs[2 * count :] + pairs[: 2 * count]
    return {"path": folder, "images": folder / "pictures"}, pairs


def _by_row(folder: Path, captions: list[str], dead: int) -> list[tuple[str, str]]:
    """Pictures as img2dataset's ``files`` output has them; one link is dead."""
    pairs = []
    for row, caption in enumerate(captions):
        if row != dead:
            picture(folder / "pictures" / "00000" / f"{row:09d}.jpg", row)
            pairs.append((f"{row:09d}", caption))
    return pairs


def cc3m(folder: Path, count: int = 8) -> Tree:
    """``Train_GCC-training.tsv``: caption, then address; a caption opens with a quote."""
    captions = [f"a view of the town number {row}" for row in range(count)]
    captions[1] = '" the best of both worlds'
    lines = [f"{text}\thttps://x.org/{row}.jpg" for row, text in enumerate(captions)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "Train_GCC-training.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"path": path, "images": folder / "pictures"}, _by_row(folder, captions, 3)


def cc12m(folder: Path, count: int = 8) -> Tree:
    """``cc12m.tsv``: address, then caption."""
    captions = [f"<PERSON> and the boat number {row}" for row in range(count)]
    lines = [f"http://x.org/{row}.jpg\t{text}" for row, text in enumerate(captions)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cc12m.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"path": path, "images": folder / "pictures"}, _by_row(folder, captions, 0)


def sbu(folder: Path, count: int = 6) -> Tree:
    """The two text files whose lines belong together; pictures by the end of the address."""
    urls, captions, pairs = [], [], []
    for row in range(count):
        name = f"43850589{row}_b0f291553e"
        urls.append(f"http://static.flickr.com/2723/{name}.jpg")
        captions.append(f"my cat in the box, picture {row}")
        picture(folder / "dataset" / f"{name}.jpg", row)
        pairs.append((name, captions[-1]))
    for kind, rows in (("urls", urls), ("captions", captions)):
        path = folder / f"SBU_captioned_photo_dataset_{kind}.txt"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"path": folder, "images": folder / "dataset"}, pairs


def wit(folder: Path) -> Tree:
    """Two gzipped tables; English and other rows, with each of the three texts missing in turn."""
    texts = [
        # language, reference, attribution, alt text, attribution_passes_lang_id -> caption
        ("en", "The bridge at night", "English: A bridge", "bridge", "true", "The bridge at night"),
        ("en", "", "English: A bridge by day", "bridge", "true", "A bridge by day"),
        ("de", "Die Brücke bei Nacht", "", "", "false", None),
        ("en", "", "Deutsch: Eine Brücke", "the old bridge", "false", "the old bridge"),
        ("en", "", "Deutsch: Eine Brücke", "", "false", None),
    ]
    pairs = []
    (folder / "tables").mkdir(parents=True)
    for part in range(2):
        rows = ["\t".join(WIT_COLUMNS)]
        for row, (language, reference, attribution, alt, passes, caption) in enumerate(texts):
            values = dict.fromkeys(WIT_COLUMNS, "x")
            values |= {"language": language, "image_url": f"https://x.org/{part}{row}.jpg"}
            values |= {"caption_reference_description": reference}
            values |= {"caption_attribution_description": attribution}
            values |= {"caption_alt_text_description": alt, "attribution_passes_lang_id": passes}
            rows.append("\t".join(values[name] for name in WIT_COLUMNS))
            number = 10_000 * part + row  # the second file starts a new folder
            picture(folder / "pictures" / f"0000{part}" / f"{number:09d}.jpg", number)
            if caption is not None:
                pairs.append((f"{number:09d}", caption))
        data = ("\n".join(rows) + "\n").encode("utf-8")
        name = f"wit_v1.train.all-0000{part}-of-00010.tsv.gz"
        (folder / "tables" / name).write_bytes(gzip.compress(data))
    return {"path": folder / "tables", "images": folder / "pictures"}, pairs


def redcaps(folder: Path, count: int = 4) -> Tree:
    """``annotations/SUBREDDIT_YEAR.json`` and ``images/SUBREDDIT/IMAGE_ID.jpg``."""
    pairs = []
    for subreddit in ("cats", "jellyfish"):
        rows = []
        for number in range(count):
            key = f"{subreddit[0]}{number}xyz"
            picture(folder / "images" / subreddit / f"{key}.jpg", 9 * len(pairs))
            caption = f"the {subreddit} of my friend number {number}"
            row = {"image_id": key, "author": "a", "url": f"https://i.redd.it/{key}.jpg"}
            row |= {"raw_caption": caption.upper(), "caption": caption, "subreddit": subreddit}
            rows.append({**row, "score": 7, "created_utc": 1500000000, "permalink": "/r/x"})
            pairs.append((key, caption))
        info = {"start_date": "2017-01-01", "end_date": "2017-12-31"}
        path = folder / "annotations" / f"{subreddit}_2017.json"
        write_json(path, {"info": info, "annotations": rows})
    return {"path": folder / "annotations", "images": folder / "images"}, pairs


def yfcc100m(folder: Path) -> Tree:
    """``yfcc100m_dataset.bz2``: 25 columns; what the filter keeps and what it does not."""
    link = '<a href="http://x.y">the zoo</a>'
    rows = [
        # title, description, marker -> caption
        ("IMG_0012", "The lighthouse at the end of the pier", "0", "="),
        ("A walk in the snow", "IMG 0013", "0", "A walk in the snow"),
        ("Am See", "Der Leuchtturm am Ende des Stegs und das Meer", "0", None),
        ("Sunset", "", "0", None),
        ("The film of the day", "This is a film of the day", "1", None),
        ("x", f"We went to {link} &amp; the park", "0", "We went to the zoo & the park"),
        ("x", "Le phare est dans la mer avec les bateaux", "0", None),
    ]
    lines, pairs = [], []
    for number, (title, description, marker, caption) in enumerate(rows):
        key = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
        values = [""] * 25
        values[0], values[1], values[2] = str(number), str(5000 + number), key
        values[8], values[9] = quote_plus(title), quote_plus(description)
        values[23], values[24] = "jpg", marker
        lines.append("\t".join(values))
        picture(folder / "images" / key[:3] / key[3:6] / f"{key}.jpg", number)
        if caption is not None:
            pairs.append((key, description if caption == "=" else caption))
    path = folder / "yfcc100m_dataset.bz2"
    path.write_bytes(bz2.compress(("\n".join(lines) + "\n").encode("utf-8")))
    return {"path": path, "images": folder / "images"}, pairs


TREES: dict[str, Callable[[Path], Tree]] = {
    "coco_captions": coco,
    "visual_genome": visual_genome,
    "localized_narratives": localized_narratives,
    "cc3m": cc3m,
    "cc12m": cc12m,
    "sbu": sbu,
    "wit": wit,
    "redcaps": redcaps,
    "yfcc100m": yfcc100m,
}
"""The nine sources of PMD, by the names of their builders."""


def imagenet(folder: Path, count: int = 2) -> Path:
    """``{train,val}/nXXXXXXXX/*.JPEG``; the folders come in no order."""
    for split in ("train", "val"):
        for wnid in ("n02084071", "n01440764", "n03000684"):
            for number in range(count):
                path = folder / split / wnid / f"{wnid}_{number}.JPEG"
                picture(path, number + 7 * int(wnid[-2:]))
    return folder
