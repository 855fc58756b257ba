"""MIG, the mutual information gap: how far single latents represent the factors of the images."""

import numpy as np

from jaxgen.core.errors import InputError


def mutual_information_gap(latents: np.ndarray, factors: np.ndarray, bins: int = 20) -> dict[str, float]:
    """Return {"mig": value in [0, 1]}, the mean gap in information about a factor between the two best latents.

    1/K sum_k (I(z_1; v_k) - I(z_2; v_k)) / H(v_k), where z_1 and z_2 have the most mutual information with factor k. It
    is estimated from histograms with `bins` bins of equal width per latent, and per factor with more values. Chen et
    al. 2018, "Isolating Sources of Disentanglement in Variational Autoencoders"; the histograms are Locatello et al.'s,
    2019.

    latents: f[n d], factors: f or i[n k]. Raises InputError for fewer than two latents, and a constant factor.
    """
    if latents.ndim != 2 or factors.ndim != 2 or len(latents) != len(factors):
        raise InputError(f"MIG takes latents [n d] and factors [n k], not {latents.shape} and {factors.shape}.")
    if latents.shape[1] < 2:
        raise InputError("MIG compares two latents, but there is only one.")
    z = np.stack([bin_indices(x, bins) for x in latents.T])  # [d n]
    gaps = []
    for v in factors.T:
        values = np.unique(v)
        v = np.searchsorted(values, v) if len(values) <= bins else bin_indices(v, bins)
        if len(values) < 2:
            raise InputError("MIG needs factors that vary, but one of them is constant.")
        ordered = np.sort([mutual_information(x, v) for x in z])
        gaps.append((ordered[-1] - ordered[-2]) / mutual_information(v, v))
    return {"mig": float(np.mean(gaps))}


def bin_indices(x: np.ndarray, bins: int) -> np.ndarray:
    """Return the index of the bin of each number, i[n], for `bins` bins of equal width; equal numbers share one bin."""
    edges = np.linspace(x.min(), x.max(), bins + 1)
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return I(a; b) in nats for integers i[n], from their joint histogram."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    of_a, of_b = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log((joint / np.maximum(of_a * of_b, 1e-300))[some])).sum())
