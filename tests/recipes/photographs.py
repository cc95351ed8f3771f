"""A folder of real photographs and texts, all from packages that the dev extra installs."""

import json
import shutil
from importlib.metadata import distributions
from pathlib import Path

import matplotlib
import skimage
import sklearn

CAPTIONS = {
    "astronaut.png": "an astronaut in an orange suit smiles before a flag",
    "brick.png": "a wall of bricks from close by",
    "camera.png": "a man in a coat looks through a camera on a tripod",
    "cell.png": "a single cell under a microscope",
    "chelsea.png": "the face of a striped cat with green eyes",
    "clock_motion.png": "a clock that moved while the picture was taken",
    "coffee.png": "a cup of coffee and a spoon on a wooden table",
    "coins.png": "old greek coins in rows on a dark cloth",
    "grass.png": "blades of grass seen from above",
    "gravel.png": "many small stones on the ground",
    "hubble_deep_field.jpg": "thousands of galaxies in the dark of deep space",
    "ihc.png": "stained tissue in blue and brown",
    "moon.png": "craters on the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage full of tools",
    "page.png": "a printed page that lies in uneven light",
    "retina.jpg": "the retina of a human eye with its vessels",
    "rocket.jpg": "a rocket on its launch pad in the evening",
    "china.jpg": "a chinese pagoda with curved roofs under a blue sky",
    "flower.jpg": "a red and yellow flower between green leaves",
    "grace_hopper.jpg": "a woman in a navy uniform with a cap",
    "logo2.png": "the word matplotlib beside a colorful round chart",
    "Minduka_Present_Blue_Pack.png": "a blue present with a ribbon on a clear ground",
}
"""By file name. Colour and grey, with and without transparency, square and not."""


def make_folder(folder: Path) -> None:
    """Lay out what ``pretrain/folder`` reads: captions.jsonl, images/ and text/."""
    roots = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
        Path(matplotlib.get_data_path()) / "sample_data",
    )
    (folder / "images").mkdir(parents=True)
    rows = []
    for name, caption in CAPTIONS.items():
        found = next((root / name for root in roots if (root / name).is_file()), None)
        if found is None:
            continue  # releases of these packages differ by a picture or two
        shutil.copy(found, folder / "images" / name)
        rows.append(json.dumps({"image": f"images/{name}", "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "text").mkdir()
    for number, text in enumerate(licences()[:20]):
        (folder / "text" / f"licence{number:02d}.txt").write_text(text, encoding="utf-8")


def licences() -> list[str]:
    """Licence texts of the installed packages."""
    texts = []
    for package in sorted(distributions(), key=lambda found: found.name.lower()):
        for file in package.files or []:
            if "licen" in file.name.lower() and file.suffix in {"", ".txt", ".md"}:
                path = Path(str(file.locate()))
                if path.is_file() and path.stat().st_size > 500:
                    texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return texts
