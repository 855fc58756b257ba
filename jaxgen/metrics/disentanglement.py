"""MIG: whether a factor of the images is told by one latent alone."""

import numpy as np

from jaxgen.core.errors import InputError


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> dict[str, float]:
    """Return {"mig": in [0, 1]}: how much more the best latent tells of a factor than the second best, a mean.

    1/K sum_k (I(z_1; v_k) - I(z_2; v_k)) / H(v_k), with the two latents that tell most of factor k, by histograms of
    equal width: `bins` of them for each latent, and for each factor with more values. Chen et al. 2018, "Isolating
    Sources of Disentanglement in Variational Autoencoders"; the histograms are Locatello et al.'s, 2019.

    codes: f[n d], factors: f or i[n k]. Raises InputError for fewer than two latents, and a factor that never changes.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise InputError(f"MIG takes codes [n d] and factors [n k], not {codes.shape} and {factors.shape}.")
    if codes.shape[1] < 2:
        raise InputError("MIG compares two latents: the codes have one.")
    z = np.stack([bin_indices(x, bins) for x in codes.T])  # [d n]
    gaps = []
    for v in factors.T:
        values = np.unique(v)
        v = np.searchsorted(values, v) if len(values) <= bins else bin_indices(v, bins)
        if len(values) < 2:
            raise InputError("MIG is of factors that change: one of these does not.")
        told = np.sort([mutual_information(x, v) for x in z])
        gaps.append((told[-1] - told[-2]) / mutual_information(v, v))
    return {"mig": float(np.mean(gaps))}


def bin_indices(x: np.ndarray, bins: int) -> np.ndarray:
    """Return which of so many bins of equal width each number is in, i[n]; numbers that are all alike share one."""
    edges = np.linspace(x.min(), x.max(), bins + 1)
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return I(a; b) in nats of whole numbers i[n] by their joint histogram."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    of_a, of_b = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log((joint / np.maximum(of_a * of_b, 1e-300))[some])).sum())
