"""Agreement of the labels of a grid of clips, in closed form."""

import numpy as np

from jaxgen.metrics.content_motion import agreement


def test_labels_of_rows_of_columns_and_of_neither():
    row, column = np.arange(4)[:, None].repeat(6, 1), np.arange(6)[None].repeat(4, 0)
    assert agreement(row) == {"row": 1, "column": 0, "floor": 0}
    assert agreement(column // 3) == {"row": 2 / 5, "column": 1, "floor": 2 / 5}
    assert agreement(np.zeros((4, 6))) == {"row": 1, "column": 1, "floor": 1}
    drawn = agreement(np.random.default_rng(0).integers(0, 4, (60, 60)))
    assert all(abs(value - 0.25) < 0.02 for value in drawn.values())
    assert np.isnan(agreement(np.zeros((1, 3)))["column"])
