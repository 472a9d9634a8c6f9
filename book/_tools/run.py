"""Execute chapters in place, so that the same code gives the same bytes.

Usage: python book/_tools/run.py [--jobs 2] book/bounds.ipynb ...

Each notebook starts from cleared outputs in a fresh kernel, in its own folder, on one thread. What is written
holds nothing of the moment or the machine it ran on: no timestamps, no interpreter version, execution counts
1, 2, 3, ..., cell ids that stay. A file whose bytes would not change is not touched.
"""

import argparse
import base64
import io
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",  # progress bars are for the reader who runs a chapter, not for the stored page
}
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def clear(notebook: nbformat.NotebookNode) -> None:
    """Remove every trace of an earlier run and give each cell an id that stays."""
    used = set()
    for number, cell in enumerate(notebook.cells):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cell.get("id", "")) or cell.id in used:
            cell["id"] = f"cell-{number}"
        used.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime", "jupyter"):
            cell.metadata.pop(key, None)


def finish(notebook: nbformat.NotebookNode) -> None:
    """Make what was executed independent of the moment: metadata, output order, execution counts."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if "".join(cell.source).strip():
            count += 1
            cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = smaller(picture)
        _merge_streams(cell)


def smaller(picture: str) -> str:
    """A PNG picture, in base64, with the 256 colours that fit it best: a third of the bytes, and almost the look."""
    full = Image.open(io.BytesIO(base64.b64decode(picture)))
    if full.mode == "P" or ("A" in full.mode and full.getchannel("A").getextrema() != (255, 255)):
        return picture
    fitted, stream = full.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, kmeans=3), io.BytesIO()
    fitted.save(stream, "PNG", optimize=True)
    return min(base64.b64encode(stream.getvalue()).decode(), picture, key=len)


def _merge_streams(cell: nbformat.NotebookNode) -> None:
    """Join neighbouring pieces of one stream: where the kernel happened to cut them is a matter of timing."""
    merged = []
    for output in cell.outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    cell.outputs = merged


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not be stored: anything on stderr, such as warnings."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {cell.execution_count} wrote to stderr: {output.text.strip()[:300]}")
    return found


def execute(path: Path) -> tuple[Path, str, bool]:
    """Execute one notebook; returns its path, one line of news, and whether it went well."""
    os.environ.update(ENVIRONMENT)
    before = path.read_bytes()
    notebook = nbformat.reads(before.decode(), as_version=4)
    clear(notebook)
    start = time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return path, str(error), False
    finish(notebook)
    seconds = f"{time.monotonic() - start:.0f} s"
    if wrong := complaints(notebook):
        return path, "\n".join([f"not stored ({seconds}):", *wrong]), False
    after = (nbformat.writes(notebook, indent=1).rstrip("\n") + "\n").encode()
    if after == before:
        return path, f"unchanged ({seconds})", True
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(after)
    temporary.replace(path)
    return path, f"written ({seconds}, {len(after) / 1e3:.0f} kB)", True


def main() -> int:
    """Execute the notebooks named on the command line; the exit status says whether all went well."""
    parser = argparse.ArgumentParser(description="Execute chapters in place, reproducibly.")
    parser.add_argument("notebooks", nargs="+", type=Path, help="paths of .ipynb files")
    parser.add_argument("--jobs", type=int, default=1, help="how many to execute at the same time")
    arguments = parser.parse_args()
    missing = [str(path) for path in arguments.notebooks if not path.is_file()]
    if missing:
        parser.error(f"no such notebook: {', '.join(missing)}")
    good = True
    with ProcessPoolExecutor(max_workers=arguments.jobs) as pool:
        for job in as_completed([pool.submit(execute, path.resolve()) for path in arguments.notebooks]):
            path, news, well = job.result()
            good &= well
            print(f"{path.name}: {news}", flush=True)
    return not good


if __name__ == "__main__":
    sys.exit(main())
