"""How strongly the skip and the branch of a residual block are weighted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class BranchScaling:
    """(alpha_l, lam_l) of z_{l+1} = alpha_l z_l + lam_l sqrt(2/n) W_l phi(z_l).

    Build one with `fixed` or `depth_scaled`; `at_depth` gives its arrays.  Arrays are
    kept as tuples of floats, so that a network hashes and compares like any other
    (`jax.jit` with a static network, `flax.nnx`); only traced values stay as they are.

    Attributes:
      alpha: weight of the skip, scalar or (depth,); None means sqrt(1 - lam_l^2).
      lam: weight of the branch before depth scaling, scalar or (depth,).
      exponent: kappa in lam_l = lam * depth^-kappa.
    """

    alpha: ArrayLike | None
    lam: ArrayLike
    exponent: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", _hashable(self.alpha))
        object.__setattr__(self, "lam", _hashable(self.lam))

    @classmethod
    def fixed(cls, alpha: ArrayLike, lam: ArrayLike) -> "BranchScaling":
        """The same at every depth, or one value a layer; arrays may be traced."""
        return cls(alpha, lam)

    @classmethod
    def depth_scaled(
        cls, c: ArrayLike, exponent: float = 0.5, normalized: bool = False
    ) -> "BranchScaling":
        """Sets lam = c d^-exponent and alpha = 1, or sqrt(1 - lam^2) if `normalized`.

        With exponent 1/2 and alpha = 1 the depth limit is that of Hayou 2022
        (arXiv:2210.00688) at time T = 2 c^2.
        """
        return cls(None if normalized else 1.0, c, exponent)

    def at_depth(self, depth: int, dtype=jnp.float32) -> tuple[jax.Array, jax.Array]:
        """Returns (alpha, lam), each of shape (depth,).

        Raises:
          ValueError: depth < 1, an array of another length than `depth`, or lam > 1
            where alpha = sqrt(1 - lam^2) is asked for.
        """
        if depth < 1:
            raise ValueError(f"depth={depth}: must be at least 1")
        traced = _traced((self.alpha, self.lam))
        xp = jnp if traced else np  # in numpy: float64 up to the final cast
        lam = xp.asarray(self.lam) * float(depth) ** -self.exponent
        if self.alpha is None:
            if not traced and (np.abs(lam) > 1).any():
                raise ValueError(
                    f"lam={np.max(np.abs(lam)):g}: must be at most 1 for alpha = "
                    "sqrt(1 - lam^2); lower c or use alpha = 1"
                )
            alpha = xp.sqrt(1 - lam**2)
        else:
            alpha = xp.asarray(self.alpha)
        for name, value in (("alpha", alpha), ("lam", lam)):
            if np.shape(value) not in ((), (depth,)):
                raise ValueError(
                    f"{name} has shape {np.shape(value)}: must be a scalar or "
                    f"({depth},), one value a layer"
                )
        spread = lambda v: jnp.broadcast_to(jnp.asarray(v, dtype), (depth,))
        return spread(alpha), spread(lam)


def _traced(values) -> bool:
    return any(isinstance(v, Tracer) for v in jax.tree.leaves(values))


def _hashable(value):
    if value is None or _traced(value):
        return value
    plain = np.asarray(value).tolist()
    return tuple(plain) if isinstance(plain, list) else plain
