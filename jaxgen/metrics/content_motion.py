"""Content and motion apart: whether clips with one content look alike, and clips with one motion move alike.

A grid of clips has a content for each row and a motion for each column. Labels of the clips, such as those that
data/moving_shapes.py reads by rule, should depend on the row alone or on the column alone.
"""

import numpy as np


def agreement(labels: np.ndarray) -> dict[str, float]:
    """Return how often two clips have the same label, i32[rows columns].

    row, column: of two clips in one row, in one column
    floor:       of two clips in different rows and columns: the value of both where the label depends on neither
    A label of content alone has row 1 and column equal to the floor, one of motion alone the other way round. NaN:
    there are no such two clips.
    """
    labels = np.asarray(labels)
    rows, columns = labels.shape
    same = labels[:, :, None, None] == labels[None, None]  # [r c r c]
    one_row, one_column = np.eye(rows, dtype=bool), np.eye(columns, dtype=bool)
    one_row = np.broadcast_to(one_row[:, None, :, None], same.shape)
    one_column = np.broadcast_to(one_column[None, :, None, :], same.shape)
    mean = lambda pairs: float(same[pairs].mean()) if pairs.any() else float("nan")  # noqa: E731
    return {
        "row": mean(one_row & ~one_column),
        "column": mean(one_column & ~one_row),
        "floor": mean(~one_row & ~one_column),
    }
