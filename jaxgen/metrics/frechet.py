"""The Fréchet distance between Gaussians fitted to features: FID of images, FVD of videos.

Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), section 2; Unterthiner et al. 2018
(https://arxiv.org/abs/1812.01717), equation 2.
"""

import contextlib
from collections.abc import Callable

import jax
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.metrics.accumulate import MOMENTS, Moments, check_dimensions, summary
from jaxgen.metrics.metric import Metric

Array = jax.Array


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Return the squared Fréchet distance of N(m1, S1) and N(m2, S2): means f64[d], covariances f64[d d], in f64.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With S1 = A A^T and S2 = B B^T, the eigenvalues of S1 S2 are the
    squares of the singular values of A^T B. This avoids the root of a non-symmetric product and negative eigenvalues.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(x, np.float64) for x in (mean1, cov1, mean2, cov2))
    cross = np.linalg.svd(factor(cov1).T @ factor(cov2), compute_uv=False).sum()  # tr (S1 S2)^(1/2)
    distance = np.square(mean1 - mean2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return max(float(distance), 0.0)  # rounding could make it negative


def factor(cov: np.ndarray) -> np.ndarray:
    """Return A with A A^T = cov, a positive semi-definite f64[d d] of any rank."""
    noise = np.finfo(np.float64).eps * np.trace(
        cov
    )  # the size of rounding errors of zero eigenvalues; their roots would be too large
    with contextlib.suppress(np.linalg.LinAlgError):
        lower = np.linalg.cholesky(cov)  # a sixth of the time of eigh
        if np.square(np.diag(lower)).min() > noise:
            return lower
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.where(values > noise, values, 0))  # [d d], columns scaled


def frechet(name: str) -> Metric:
    """Return the metric {name: Fréchet distance} of features f[b d]; its initial state is empty(d)."""

    def result(real: Moments, generated: Moments) -> dict[str, float]:
        """Raises InputError for different dimensions d, features that are not finite, or at most d samples."""
        d = real.mean.shape[1]
        check_dimensions(d, generated.mean.shape[1], name)
        a, b = summary(real, name, "real"), summary(generated, name)
        if min(a.count, b.count) <= d:
            got = f"{a.count} real and {b.count} generated"
            raise InputError(f"{name} needs more than {d} samples for {d} features, got {got}.")
        return {name: frechet_distance(a.mean, a.covariance, b.mean, b.covariance)}

    return Metric(*MOMENTS, result)


FRECHET = frechet("fid")
FRECHET_VIDEO = frechet("fvd")


def video_features(net: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function f[b t h w c] -> f[b d], the features of whole clips, from any network on videos.

    The network may return f[b d], or f[b ... d] with one vector per position or time, which are averaged. Published FVD
    uses the logits [b 400] of I3D trained on Kinetics-400, for clips resized to 224x224 pixels. `net` itself must
    convert the clips to its size, range and length. Raises InputError if its output has another batch size.
    """

    def features(video: Array) -> Array:
        out = net(video)  # [b ... d]
        if out.ndim < 2 or len(out) != len(video):
            raise InputError(f"A video network must keep the batch, but {video.shape} became {out.shape}.")
        return out.reshape(len(out), -1, out.shape[-1]).mean(1)  # -> [b d]

    return features
