"""What k discrete steps of gradient descent do to one eigenmode of the kernel.

With residual g and eigenvalue w of Theta, heavy ball at rate eta = lr / N is

    g_{k+1} = g_k - eta w g_k + beta (g_k - g_{k-1}),      g_{-1} = g_0,

so that g_k = (1 - w a_k) g_0 with

    a_{k+1} = a_k + beta (a_k - a_{k-1}) + eta (1 - w a_k),    a_0 = a_{-1} = 0.

a_k(w) is what the predictions need: f_k(x) = f_0(x) - Theta(x, X) V a_k V^T (f_0 - y).
It is finite as w -> 0 and needs no inverse.  beta = 0 gives a_k = (1 - (1-eta w)^k)/w.
"""

import numpy as np


def response(
    w: np.ndarray, steps: int, rate: float, momentum: float = 0.0
) -> np.ndarray:
    """a_k(w) after k = `steps` steps.

    The affine recursion is a 3x3 matrix acting on (a_k, a_{k-1}, 1), raised to the
    k-th power by squaring: exact to rounding for every sign of 1 - eta w and both real
    and oscillating modes of the heavy ball.

    Args:
      w: eigenvalues of Theta, any shape, float64.
      steps: k >= 0.
      rate: eta = lr / N.
      momentum: beta.

    Returns:
      a_k, of the shape of `w`; the residual factor is 1 - w a_k.

    Source: Lee et al. 2019, arXiv:1902.06720, eqs. 9-11 with (I - eta Theta)^k in place
    of exp(-eta Theta t), and S1, S2 for momentum.
    """
    w = np.asarray(w, np.float64)
    matrix = np.zeros((*w.shape, 3, 3))
    matrix[..., 0, 0] = 1 + momentum - rate * w
    matrix[..., 0, 1] = -momentum
    matrix[..., 0, 2] = rate
    matrix[..., 1, 0] = 1
    matrix[..., 2, 2] = 1
    with np.errstate(over="ignore", invalid="ignore"):  # unstable modes: inf is right
        return np.linalg.matrix_power(matrix, steps)[..., 0, 2]
