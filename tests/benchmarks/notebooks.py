"""The stored outputs of the notebooks: python -m tests.benchmarks.notebooks [NAME ...]

Runs all notebooks, or the named ones, from top to bottom, each in a kernel of its own, and stores their outputs in
them: images in few bytes, and no execution counts.
"""

import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from tests.helpers.notebooks import NOTEBOOKS, Kernel, read

COLOURS = 128  # of a PNG's palette
QUALITY = 88  # of JPEG


def main():
    wanted = sys.argv[1:]
    for path in NOTEBOOKS:
        if not wanted or path.stem in wanted:
            start, notebook = time.monotonic(), read(path)
            with tempfile.TemporaryDirectory() as folder, Kernel(Path(folder), os.environ) as kernel:
                outputs = kernel.run(notebook, timeout=1800)
            for output in outputs:
                make_smaller(output)
            for cell in notebook.cells:
                tidy(cell)
            notebook.metadata.language_info = {"name": "python"}
            nbformat.write(notebook, path)
            print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size:,} bytes", flush=True)


def make_smaller(output: Any):
    """Store the image of an output as PNG with a palette or as JPEG: the smaller one."""
    data = output.get("data", {})
    if "image/png" in data:
        image = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        png, jpeg = io.BytesIO(), io.BytesIO()
        image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
        image.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
        kind, file = min(("image/png", png), ("image/jpeg", jpeg), key=lambda pair: len(pair[1].getvalue()))
        data[kind] = base64.b64encode(file.getvalue()).decode()
        data.pop("text/plain", None)  # <Figure size 640x480 with 1 Axes>


def tidy(cell: Any):
    """Remove what differs in each run: times, counts, and the places where printed lines were cut into parts."""
    cell.metadata.pop("execution", None)
    if cell.cell_type != "code":
        return
    cell.execution_count, outputs = None, []
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = None
        if outputs and output.output_type == "stream" and outputs[-1].get("name") == output.name:
            outputs[-1].text += output.text
        else:
            outputs.append(output)
    cell.outputs = outputs


if __name__ == "__main__":
    main()
