"""The chapter "Your own modalities": its reader's code is short, and runs as a plain script."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmlib import data, models, nets
from mmlib.train import fit

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "own-modalities.ipynb"
CELLS = json.loads(CHAPTER.read_text("utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SOURCES = ["".join(cell["source"]) for cell in CODE]
LAST = next(i for i, source in enumerate(SOURCES) if "\nfitted = " in source)
# The reader's: unfolded cells, from the table to the trained models; the first, folded one holds the imports.
READER = [
    "".join(cell["source"])
    for cell in CODE[: LAST + 1]
    if "hide-input" not in cell["metadata"].get("tags", [])
]
CHECK = """
assert set(fitted) == {"mvae", "mopoe", "mmvae"}
for kind, (model,) in fitted.items():
    found = errors(fill(model, tables[0].validation, draws=2), tables[0], tables[0].validation)
    assert 0 < found["rmse"] < 2 and 0 <= found["accuracy"] <= 1, found
"""


def test_three_models_take_fewer_than_60_lines():
    lines = [line for source in READER for line in source.splitlines() if line.strip()]
    assert 30 < len(lines) < 60, len(lines)


def test_a_file_of_arrays_takes_fewer_than_20_lines():
    sources = {cell["id"]: "".join(cell["source"]) for cell in CELLS}
    lines = [line for name in ("own-37", "own-38") for line in sources[name].splitlines() if line.strip()]
    assert 10 < len(lines) < 20, len(lines)


def test_the_code_is_a_script_outside_the_notebook(tmp_path):
    short, count = re.subn(r"STEPS, SEEDS = 300, range\(5\)", "STEPS, SEEDS = 3, range(1)", READER[-1])
    assert count == 1
    environment = {**os.environ, "PYTHONPATH": str(CHAPTER.parents[1]), "MPLBACKEND": "agg"}
    script = tmp_path / "own.py"
    script.write_text("\n\n".join([SOURCES[0], *READER[:-1], short, CHECK]))
    subprocess.run([sys.executable, script], check=True, cwd=tmp_path, env=environment)


def test_two_lines_take_folders_of_images(tmp_path):
    text = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    (lines,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(lines.splitlines()) == 2
    noise = np.random.default_rng(0)
    for kind, pixels in (("photos", (40, 36, 3)), ("sketches", (40, 36))):
        for name in ("cat", "dog"):
            (tmp_path / kind / name).mkdir(parents=True)
            for i in range(10 if kind == "photos" else 8):  # two photos without a sketch
                picture = Image.fromarray(noise.integers(0, 256, pixels, dtype="uint8"))
                picture.save(tmp_path / kind / name / f"{i}.png")
    lines = lines.replace('"photos"', repr(str(tmp_path / "photos")))
    lines = lines.replace('"sketches"', repr(str(tmp_path / "sketches")))
    names = {"data": data, "models": models, "nets": nets}
    exec(lines, names)
    assert names["pictures"].shapes == {"photo": (3, 32, 32), "sketch": (1, 32, 32)}
    history = fit(names["model"], names["pictures"].train, 1, batch_size=4, progress=False)
    assert math.isfinite(history[-1]["loss"]) and torch.isfinite(names["model"].prior.scale).all()
