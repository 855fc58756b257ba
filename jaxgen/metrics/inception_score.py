"""Inception score: predictions should be confident per image and diverse over all images.

Salimans et al. 2016 (https://arxiv.org/abs/1606.03498), section 4.
"""

import numpy as np

from jaxgen.core.errors import InputError, at_least
from jaxgen.metrics.accumulate import ROWS, Rows, rows_of
from jaxgen.metrics.metric import Metric

SEED = 2020  # of the shuffle, as in torch-fidelity: the same logits in the same order give the same score


def score(logits: np.ndarray) -> float:
    """Return exp of the mean of KL(p(y | x) || p(y)) over rows of f64[n classes]; p(y) is the mean of the rows."""
    logits = logits - logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p = np.exp(log_p)
    marginal = p.mean(0, keepdims=True)  # [1 classes]
    # Terms with p = 0 are 0, even if the marginal is 0 as well.
    terms = p * (log_p - np.log(np.where(marginal > 0, marginal, 1)))
    return float(np.exp(terms.sum(1).mean()))


def inception_score(generated: Rows, splits: int = 10) -> dict[str, float]:
    """Return mean ("inception_score") and standard deviation ("inception_score_std") over `splits` shuffled parts.

    The rows are the logits of a classifier. Raises InputError for logits that are not finite or lost, or too few.
    """
    at_least(1, splits=splits)
    logits = rows_of(generated, "inception_score")
    n = len(logits)
    if n < splits:
        raise InputError(f"inception_score needs at least {splits} samples for {splits} splits, got {n}.")
    order = np.random.RandomState(SEED).permutation(n)
    scores = [score(logits[order[i * n // splits : (i + 1) * n // splits]]) for i in range(splits)]
    return {"inception_score": float(np.mean(scores)), "inception_score_std": float(np.std(scores))}


INCEPTION_SCORE = Metric(*ROWS, inception_score)
