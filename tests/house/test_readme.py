"""Every command and every piece of Python in the README is run, as a newcomer would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")

# The shapes recipe at a size that trains in a second; the words of the README stay.
SMALL_MODEL = (
    "model.image_encoder.layers=1 model.text_encoder.layers=1 data.global_batch=8 data.workers=0 "
    "metrics.every=1 threads=1"
)
# Appended to commands that would take long: the first fitting beginning counts.
SHORTER = {
    "flava train mine.yaml run_dir=runs/mine seed=1 steps": f"{SMALL_MODEL} steps=4",
    "flava profile": SMALL_MODEL,
    "flava train pretrain/folder": "steps=4 data.workers=0 metrics.every=1 threads=1",
    "flava train": f"{SMALL_MODEL} steps=3",
    "flava balance pretrain/shapes": f"{SMALL_MODEL} steps=4 --seeds 1 evaluate.tasks.masked=null "
    "evaluate.tasks.zero_shot=null evaluate.tasks.questions=null "
    "evaluate.tasks.retrieval.dataset.size=16 evaluate.tasks.itm.dataset.size=16",
    "flava eval runs/colors": "evaluate.tasks.answers.dataset.size=16",
    "flava eval runs/": "evaluate.tasks.zero_shot=null evaluate.tasks.questions=null "
    "evaluate.tasks.masked=null evaluate.tasks.retrieval.dataset.size=16 "
    "evaluate.tasks.itm.dataset.size=16",
}


CLUSTER = ("flava submit", "ID=", "flava jobs", "flava logs")
"""Beginnings of commands that need SLURM: ``tests/slurm/test_readme_commands.py`` runs them."""


class Piece(NamedTuple):
    """A command, or a block of Python, in the order of the README."""

    language: str
    text: str


def pieces() -> list[Piece]:
    found = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.M | re.S):
        if language == "python":
            found.append(Piece(language, block))
            continue
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(Piece(language, line.split(" #")[0].strip()))
    return found


PIECES = pieces()


def environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def run(text: str, cwd: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is after 'make demo', with some data of one's own."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / ".venv").symlink_to(sys.prefix)
    run(f"flava train pretrain/shapes run_dir=runs/demo {SHORTER['flava train']}", folder)
    pictures = folder / "my_data" / "images"
    pictures.mkdir(parents=True)
    lines = []
    for index, colour in enumerate(("red", "green", "blue", "white", "gold", "gray") * 4):
        picture = Image.new("RGB", (80, 64), "black")
        ImageDraw.Draw(picture).ellipse((index, 8, 40 + index, 48), fill=colour)
        suffix = ("jpg", "png")[index % 2]
        picture.save(pictures / f"{index}.{suffix}")
        caption = f"a {colour} disc, picture {index}"
        lines.append(f'{{"image": "images/{index}.{suffix}", "caption": "{caption}"}}\n')
    (folder / "my_data" / "captions.jsonl").write_text("".join(lines), "utf-8")
    (folder / "my_data" / "text").mkdir()
    (folder / "my_data" / "text" / "some.txt").write_text(
        (ROOT / "LICENSE").read_text("utf-8"), "utf-8"
    )
    return folder


def test_the_readme_has_commands() -> None:
    commands = [piece.text for piece in PIECES if piece.language == "sh"]
    assert sum(text.startswith("make ") for text in commands) == 2
    for verb in ("ls", "show", "cp", "train", "eval", "data", "weights", "plan", "profile"):
        assert any(text.startswith(f"flava {verb} ") for text in commands), verb
    assert sum(piece.language == "python" for piece in PIECES) >= 2


def test_every_command_works_in_turn(newcomer: Path) -> None:
    """One test: each command stands on what those before it left."""
    here = newcomer
    for piece in PIECES:
        if piece.text.startswith("cd "):
            here = (here / piece.text.removeprefix("cd ")).resolve()
        elif piece.language == "python":
            named = re.match(r"# (\w+\.py)\n", piece.text)
            name = named.group(1) if named else "piece.py"
            (newcomer / name).write_text(piece.text, "utf-8")
            assert run(f"python {name}", newcomer) or named, "a piece of Python shows something"
        elif not piece.text.startswith(("make ", *CLUSTER)):
            short = next(
                (more for start, more in SHORTER.items() if piece.text.startswith(start)), ""
            )
            run(f"{piece.text} {short}", here)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_place_it_names_is_there() -> None:
    section = README.split("## Map of the repository")[1].split("\n## ")[0]
    for cell in re.findall(r"^\| (`.*?) \|", section, re.M):
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            folder = str(Path(name).parent) if "/" in name else folder
            assert (ROOT / name).exists() or (ROOT / folder / name).exists(), name


def test_every_target_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make ([a-z]+)", README):
        assert target == "help" or re.search(rf"^{target}:", makefile, re.M), target
