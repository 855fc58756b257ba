"""Content and motion of a MoCoGAN of `moving-shapes`, by rule: python -m tests.benchmarks.content_motion RUN

A grid of clips has a content for each row, and a motion and its category for each column. Shape and colour, which are
content, and motion are read off each clip by the rule of data/moving_shapes.py. For each label it prints how often two
clips in a row, in a column, and in neither have the same; and the accuracy of the category where it is the label of the
data. Beside them stand real clips of which each row has a shape and colour, each column a motion.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxgen.core.capabilities import Latent
from jaxgen.core.types import averaged
from jaxgen.data.clips import ClipShape
from jaxgen.data.moving_shapes import MOTIONS, MovingShapes, read_labels
from jaxgen.media.image_grid import to_u8
from jaxgen.metrics.content_motion import agreement
from jaxgen.runs.load import open_run

ROWS, COLUMNS = 24, 16


def main(folder: str):
    opened = open_run(Path(folder))
    model, task = opened.run.model, opened.task
    keys = jax.random.split(jax.random.key(0), ROWS * COLUMNS)
    z = np.array(model.draw(keys)).reshape(ROWS, COLUMNS, -1)
    parts = [np.array(x).reshape(ROWS, COLUMNS, -1) for x in model.parts(z.reshape(ROWS * COLUMNS, -1))]
    parts[0] = np.broadcast_to(parts[0][:, :1], parts[0].shape)  # the content of a row
    parts[1:] = [np.broadcast_to(x[:1], x.shape) for x in parts[1:]]  # the motion of a column
    label = np.broadcast_to(np.arange(COLUMNS) % max(model.classes, 1), (ROWS, COLUMNS)).reshape(-1)
    given = {"label": label.astype(np.int32)} if model.classes else {}
    nets = averaged(opened.state, opened.frozen)
    made = jax.jit(task.get(Latent).synthesise)(*nets, np.concatenate(parts, -1).reshape(ROWS * COLUMNS, -1), given)
    clips = to_u8(np.asarray(made))
    report("generated", clips, label if model.classes else None)
    height, width, channels = model.image
    source = MovingShapes("test", ClipShape({"video": model.frames}, height, width, channels))
    one = len(MOTIONS)
    picked = [source[int(one * row + column % one)]["video"] for row in range(ROWS) for column in range(COLUMNS)]
    report("real", np.stack(picked), np.tile(np.arange(COLUMNS) % one, ROWS))


def report(name: str, clips: np.ndarray, label: np.ndarray | None):
    """Print the agreement of each label of a grid of clips u8[rows*columns t h w 3]."""
    with np.errstate(all="ignore"):
        found = [read_labels(clip) for clip in clips]
    for kind in ("shape", "colour", "motion"):
        values = agreement(np.array([each[kind] for each in found]).reshape(ROWS, COLUMNS))
        print(f"{name:>10} {kind:>7}", *(f"{key} {value:.3f}" for key, value in values.items()))
    if label is not None:
        right = np.mean([each["motion"] == own for each, own in zip(found, label, strict=True)])
        print(f"{name:>10}  motion as asked: {right:.3f}, floor {1 / len(MOTIONS):.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
