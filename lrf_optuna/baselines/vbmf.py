"""The rank of a matrix in noise of unknown variance, by empirical variational Bayes, in closed form.

Nakajima, Sugiyama, Babacan and Tomioka: Global analytic solution of fully-observed variational Bayesian matrix
factorization, JMLR 14 (2013); in the form of the same authors' Perfect dimensionality recovery by variational Bayesian
PCA, NIPS 2012. For an l by m matrix (l <= m) with alpha = l / m, noise variance s2 and singular values g, a component
is alive where x = g^2 / (m s2) is above (1 + t)(1 + alpha / t); s2 minimizes the sum of psi(x) over the components.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.chains.linalg import LARGE

NOISE_GRID = 64
"""Noise variances of the first scan; the best one is refined, because the free energy has several minima."""
NOISE_FLOOR = 1e-14
"""Share of the largest squared singular value below which double precision has only rounding left."""


def evb_rank(matrix: Array) -> int:
    """The rank of the global EVB solution for a matrix `(l, m)` or its transpose; 0 where the matrix is all noise."""
    squares, columns = squared_values(matrix), max(matrix.shape)
    if squares[0] <= 0:
        return 0
    squares = np.maximum(squares / squares[0], NOISE_FLOOR * len(squares))
    alpha = len(squares) / columns
    return int(np.sum(squares > columns * noise_variance(squares, columns) * alive_threshold(alpha)))


def squared_values(matrix: Array) -> Array:
    """The squared singular values of a matrix in double precision, the largest first, from its smaller Gram matrix."""
    rows = matrix if matrix.size > LARGE else matrix.astype(np.float64)
    gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    out: Array = np.maximum(np.linalg.eigvalsh(gram.astype(np.float64))[::-1], 0.0)
    return out


def alive_threshold(alpha: float) -> float:
    """The least x of an alive component: (1 + t)(1 + alpha / t).

    t is the zero of f(t) + f(t / alpha), f(z) = log(1 + z) / z - 1/2; the authors give 2.5129 sqrt(alpha) for it.
    """
    t = 2.5129 * sqrt(alpha)
    return (1 + t) * (1 + alpha / t)


def noise_variance(squares: Array, columns: int) -> float:
    """The noise variance that minimizes the free energy, between two bounds of the paper.

    At most h = ceil(l / (1 + alpha)) - 1 components are alive. The lower bound leaves the next component dead and is
    no less than the mean square of the dead ones; the upper bound is the mean square of all.
    `squares`: the l squared singular values of an l by m matrix, the largest first; `columns`: m.
    """
    from scipy.optimize import minimize_scalar

    count = len(squares)
    alpha = count / columns
    most = max(ceil(count / (1 + alpha)) - 1, 0)
    high = float(squares.sum()) / (count * columns)
    low = max(float(squares[most]) / alive_threshold(alpha), float(squares[most:].mean())) / columns
    if not low < high:
        return high
    logarithms = np.linspace(np.log(low), np.log(high), NOISE_GRID)
    best = int(np.argmin([free_energy(squares / (columns * np.exp(t)), alpha) for t in logarithms]))
    minimum = minimize_scalar(
        lambda t: free_energy(squares / (columns * np.exp(t)), alpha),
        bounds=(logarithms[max(best - 1, 0)], logarithms[min(best + 1, NOISE_GRID - 1)]),
        method="bounded",
    )
    return float(np.exp(minimum.x))


def free_energy(x: Array, alpha: float) -> float:
    """The free energy up to a constant, by x = g^2 / (m s2) of all components.

    Each component adds x - log x, and an alive one also log(1 + u) + alpha log(1 + u / alpha) - u, where u is the
    larger root of (1 + u)(1 + alpha / u) = x.
    """
    alive = x[x > alive_threshold(alpha)]
    off = alive - (1 + alpha)
    u = (off + np.sqrt(off**2 - 4 * alpha)) / 2
    return float(np.sum(x - np.log(x)) + np.sum(np.log1p(u) + alpha * np.log1p(u / alpha) - u))
