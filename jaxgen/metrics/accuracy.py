"""Top-1 and top-5 accuracy of a classifier, and its confusion matrix."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgen.metrics.metric import Metric, State


def empty(classes: int) -> State:
    """Return zero counts: `confusion` i32[true predicted], `top5` i32[]."""
    return {"confusion": jnp.zeros((classes, classes), jnp.int32), "top5": jnp.zeros((), jnp.int32)}


def update(state: State, logits: Array, label: Array, valid: Array) -> State:
    """Add logits f32[b k] and label i32[b] where valid bool[b]. Ties go to the lower class."""
    predicted = logits.argmax(-1)
    counted = valid.astype(jnp.int32)
    true = jnp.take_along_axis(logits, label[:, None], axis=-1)  # [b 1]
    classes = jnp.broadcast_to(jnp.arange(logits.shape[-1])[None], logits.shape)
    behind = (logits < true) | ((logits == true) & (classes >= label[:, None]))  # [b k]; comparisons with NaN are false
    return {
        "confusion": state["confusion"].at[label, predicted].add(counted),
        "top5": state["top5"] + (counted * ((~behind).sum(-1) < 5)).sum(),
    }


def merge(a: State, b: State) -> State:
    return {name: a[name] + b[name] for name in a}


def result(state: State) -> dict[str, float]:
    """Return top1 and top5, in [0, 1]."""
    confusion = np.asarray(state["confusion"], np.int64)
    total = confusion.sum()
    return {"top1": float(np.trace(confusion) / total), "top5": float(np.asarray(state["top5"]) / total)}


ACCURACY = Metric(empty, update, merge, result)
