"""AUROC: the area under the receiver operating characteristic of anomaly scores."""

import numpy as np


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Return the fraction of (anomaly, normal) pairs in which the anomaly scores higher; a tie counts one half.

    scores f[n], anomalous bool[n], which must contain both values. This equals the area under the curve of true against
    false positive rates, and Mann and Whitney's U divided by the number of pairs.
    """
    scores, anomalous = np.asarray(scores, np.float64), np.asarray(anomalous, bool)
    odd, rest = scores[anomalous], np.sort(scores[~anomalous])
    below, not_above = (np.searchsorted(rest, odd, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(rest)))
