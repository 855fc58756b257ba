"""How well scores tell anomalies from the rest: the area under the receiver operating characteristic."""

import numpy as np


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Return the share of pairs, an anomaly and another, whose anomaly has the higher score; a tie counts half.

    scores f[n], anomalous bool[n]: some are and some are not. This is the area under the curve of true against false
    alarms, and Mann and Whitney's U over the number of pairs.
    """
    scores, anomalous = np.asarray(scores, np.float64), np.asarray(anomalous, bool)
    odd, rest = scores[anomalous], np.sort(scores[~anomalous])
    below, not_above = (np.searchsorted(rest, odd, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(rest)))
