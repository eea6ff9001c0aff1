"""Gaussian expectations of a pair of smooth activations, by Hermite series.

For (u, v) centred normal with variances q, q' and correlation rho (Mehler's formula)

    E[f(u) f(v)] = sum_k c_k(q) c_k(q') rho^k,   c_k(q) = E[f(sqrt(q) g) h_k(g)],

g ~ N(0, 1), h_k the orthonormal Hermite polynomials.  The coefficients are
one-dimensional integrals, one set for an input instead of one double integral for a
pair; the sum is positive semi-definite term by term.  The integrals use the trapezoid
rule on the real line, which converges geometrically for analytic integrands (Trefethen
& Weideman 2014, SIAM Review 56).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_REACH, _STEP = 14.0, 1 / 32  # of the trapezoid rule, in standard deviations


@functools.cache
def _rule(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (M,) and weights times h_k at them, (M, terms)."""
    nodes = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    # h_k sqrt(density) stays bounded, h_k does not.
    columns = [np.exp(-(nodes**2) / 4) / (2 * np.pi) ** 0.25]
    columns.append(nodes * columns[0])
    for k in range(1, terms - 1):
        columns.append((nodes * columns[k] - k**0.5 * columns[k - 1]) / (k + 1) ** 0.5)
    return nodes, _STEP * columns[0][:, None] * np.stack(columns[:terms], 1)


def hermite_coefficients(
    f: Callable[[jax.Array], jax.Array], variance: jax.Array, terms: int
) -> jax.Array:
    """c_k(q) = E[f(sqrt(q) g) h_k(g)], k = 0..terms-1, for a scalar variance q."""
    nodes, weighted = _rule(terms)
    values = f(jnp.sqrt(jnp.maximum(variance, 0)) * nodes)
    return values @ jnp.asarray(weighted)


def terms_for(variance: float) -> int:
    """Terms that serve tanh and its derivative up to this variance.

    Their singularities at +-i pi/2 make c_k^2 fall like exp(-pi sqrt(2 k / q)), so the
    number needed grows like q.  The tail is below 1e-9 up to q = 30 (tests/kernels);
    the cap keeps larger variances affordable: 1e-5 at q = 100, for |rho| near 1 only.
    """
    return min(64 * (1 + math.ceil(variance)), 2048)


def dual(f: Callable[[jax.Array], jax.Array], terms: int):
    """Returns the scalar function (cov, q, q') -> E[f(u) f(v)].

    The error is the tail of the series, at most the geometric mean over the two inputs
    of E[f(sqrt(q) g)^2] - sum_k c_k(q)^2, and smaller by rho^terms off the diagonal.
    """

    def expectation(cov, q1, q2):
        c1 = hermite_coefficients(f, q1, terms)
        c2 = hermite_coefficients(f, q2, terms)
        p = jnp.sqrt(jnp.maximum(q1 * q2, 0))
        rho = jnp.clip(cov / jnp.where(p > 0, p, 1), -1, 1)
        step = lambda total, c: (total * rho + c[0] * c[1], None)
        return jax.lax.scan(step, jnp.zeros_like(rho), (c1, c2), reverse=True)[0]

    return expectation
