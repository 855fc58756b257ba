"""Seamless images without a model: Poisson blending, and the periodic part of an image. On the host, in f64."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def differences(height: int, width: int) -> sparse.csc_matrix:
    """Return the matrix [e h*w] of differences between neighbours: first down, then across. One row per pair."""

    def along(n: int) -> sparse.csr_matrix:
        return sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))  # pyright: ignore

    down = sparse.kron(along(height), sparse.identity(width))
    across = sparse.kron(sparse.identity(height), along(width))
    return sparse.csc_matrix(sparse.vstack([down, across]))


def poisson(
    background: np.ndarray,
    foreground: np.ndarray,
    mask: np.ndarray,
    mixed: bool = False,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Return the background f[h w c] with the foreground's differences where the mask [h w 1] is above 0.

    There it solves sum_q (f_p - f_q) = sum_q v_pq over p's neighbours q in the image, f as it is outside of the mask,
    v_pq = g_p - g_q of the foreground or, with `mixed`, the larger of that and f*_p - f*_q. Perez, Gangnet and Blake
    2003, "Poisson Image Editing", equations 7 and 12. If the mask covers the whole image, the solution is free up to a
    constant, and the foreground is returned. `known` bool[h w 1] is where the foreground has colours: across its border
    v is 0, so that it blends into the background; None: everywhere.
    """
    inside = mask[..., 0] > 0
    if not inside.any():
        return background.astype(np.float32)
    if inside.all():
        return foreground.astype(np.float32)
    f, g = (x.astype(np.float64) for x in (background, foreground))
    # Only the hole and one pixel around it matter.
    rows, columns = (np.flatnonzero(inside.any(1 - axis)) for axis in (0, 1))
    part = tuple(slice(max(at[0] - 1, 0), at[-1] + 2) for at in (rows, columns))
    made = f.copy()
    there = np.ones_like(inside) if known is None else known[..., 0] > 0
    made[part] = _solved(f[part], g[part], inside[part], there[part], mixed)
    return made.astype(np.float32)


def _solved(f: np.ndarray, g: np.ndarray, inside: np.ndarray, known: np.ndarray, mixed: bool) -> np.ndarray:
    height, width, channels = f.shape
    d, hole = differences(height, width), np.flatnonzero(inside)
    flat = f.reshape(-1, channels).copy()
    both = abs(d) @ known.ravel() == 2
    own, field = d @ flat, both[:, None] * (d @ g.reshape(-1, channels))  # differences of neighbours [e c]
    if mixed:
        field = np.where(np.abs(own) > np.abs(field), own, field)
    around = np.where(inside.reshape(-1, 1), 0, flat)
    inner = d[:, hole]  # D f = D around + inner f_hole, and of D^T D f = D^T v the rows in the hole
    right = inner.T @ (field - d @ around)
    factors = splu((inner.T @ inner).tocsc(), "MMD_AT_PLUS_A", options={"SymmetricMode": True})
    flat[hole] = factors.solve(right)
    return flat.reshape(f.shape)


def periodic(image: np.ndarray) -> np.ndarray:
    """Return the periodic part of an image [h w c]: a tile without seams that looks like the image.

    The smoothest image with the same jumps across the border is subtracted. Its Laplacian on the torus is 0 inside.
    Moisan 2011, "Periodic Plus Smooth Image Decomposition", section 2.
    """
    x = image.astype(np.float64)
    jumps = np.zeros_like(x)  # v
    for axis in (0, 1):
        first, last = (np.take(x, [at], axis) for at in (0, -1))
        rows = [(slice(None),) * axis + (at,) for at in (slice(0, 1), slice(-1, None))]
        jumps[rows[0]] += last - first
        jumps[rows[1]] += first - last
    height, width = x.shape[:2]
    waves = [2 * np.cos(2 * np.pi * np.fft.fftfreq(n)) for n in (height, width)]
    bottom = (waves[0][:, None] + waves[1][None] - 4)[..., None]
    bottom[0, 0] = 1  # the mean stays: that of v is 0
    smooth = np.fft.ifft2(np.fft.fft2(jumps, axes=(0, 1)) / bottom, axes=(0, 1)).real
    return (x - smooth).astype(np.float32)
