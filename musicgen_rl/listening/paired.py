"""Strength of arms from choices with ties: Bradley-Terry, Davidson's ties, and an order effect."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from musicgen_rl.config import require
from musicgen_rl.listening.crossed import p_value, two_way_se

FIRST, SECOND, TIE = 0, 1, 2
_PRIOR = 1e-3
"""Weight of a normal prior on every parameter: keeps an arm that always wins finite."""


@dataclass(frozen=True)
class PairedModel:
    """A fitted model."""

    strengths: NDArray[np.float64]
    """Log strength of each arm, [A], their sum 0."""
    order: float
    """Log odds that standing first adds; 0 where nobody prefers the first for its place."""
    log_tie: float
    """Log of Davidson's tie parameter; -inf where ties could not be or never were answered."""
    influence: NDArray[np.float64]
    """What each answer adds to (strengths, order), to first order, [n, A + 1]; sums to 0."""

    def difference(self, a: int, b: int) -> tuple[float, NDArray[np.float64]]:
        """Compute one arm's log strength minus another's, and each answer's influence, [n]."""
        return (
            float(self.strengths[a] - self.strengths[b]),
            self.influence[:, a] - self.influence[:, b],
        )


def fit_paired(first: ArrayLike, second: ArrayLike, outcome: ArrayLike, arms: int) -> PairedModel:
    """Fit strengths, ties and the order effect by maximum likelihood.

    With e = strength of the first + order and f = strength of the second:
    P(first) = exp(e) / Z, P(second) = exp(f) / Z, P(tie) = nu exp((e + f) / 2) / Z.

    Args:
        first: arm that stood first, [n] in 0..arms-1.
        second: the other one, [n].
        outcome: FIRST, SECOND or TIE, [n].
        arms: A.

    Returns:
        The fit.

    Raises:
        ConfigError: there are no answers, or an arm was never compared.

    Source: Bradley and Terry (1952); Davidson (1970), On extending the Bradley-Terry model to
    accommodate ties; Davidson and Beaver (1977) for the order effect. The prior is ours.
    """
    i, j, y = (np.asarray(values, dtype=np.intp) for values in (first, second, outcome))
    require(len(y) > 0, "there are no choices to fit")
    seen = set(i.tolist()) | set(j.tolist())
    require(len(seen) == arms, f"{arms - len(seen)} arms were never compared")
    ties = bool((y == TIE).any())
    n = len(y)
    # Parameters: A strengths, order, log nu. Rows: derivative of e, f and of the tie's exponent.
    size = arms + 2
    rows = np.zeros((n, 3, size))
    at = np.arange(n)
    rows[at, FIRST, i] = 1
    rows[at, FIRST, arms] = 1
    rows[at, SECOND, j] = 1
    rows[at, TIE] = (rows[:, FIRST] + rows[:, SECOND]) / 2
    rows[at, TIE, arms + 1] = 1

    def log_shares(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        logits = rows @ theta  # [n, 3]
        if not ties:
            logits[:, TIE] = -np.inf
        shifted = logits - logits.max(1, keepdims=True)
        normal = np.log(np.exp(shifted).sum(1, keepdims=True))
        return shifted - normal  # type: ignore[no-any-return]

    def scores(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = np.einsum("nk,nkp->np", np.exp(log_shares(theta)), rows)
        return rows[at, y] - mean  # type: ignore[no-any-return]  # [n, P]

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value = -log_shares(theta)[at, y].sum() + _PRIOR / 2 * theta @ theta
        return float(value), _PRIOR * theta - scores(theta).sum(0)

    found = optimize.minimize(
        loss, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500}
    )
    theta = found.x
    shares = np.exp(log_shares(theta))  # [n, 3]
    mean = np.einsum("nk,nkp->np", shares, rows)
    hessian = np.einsum("nk,nkp,nkq->pq", shares, rows, rows) - mean.T @ mean
    hessian += _PRIOR * np.eye(size)
    influence = scores(theta) @ np.linalg.inv(hessian)  # [n, P]
    influence -= influence.mean(0)
    strengths = theta[:arms] - theta[:arms].mean()
    moved = influence[:, :arms] - influence[:, :arms].mean(1, keepdims=True)
    return PairedModel(
        strengths=strengths,
        order=float(theta[arms]),
        log_tie=float(theta[arms + 1]) if ties else -np.inf,
        influence=np.concatenate([moved, influence[:, arms : arms + 1]], 1),
    )


def spread(
    influence: ArrayLike, raters: ArrayLike, prompts: ArrayLike, value: float
) -> tuple[float, float]:
    """Compute standard error and p-value of a fitted parameter, clustered by rater and prompt.

    Args:
        influence: of each answer on the parameter, [n].
        raters: of each answer, [n].
        prompts: of each answer, [n].
        value: the parameter, tested against 0.
    """
    z = np.asarray(influence, dtype=np.float64)
    se = two_way_se(z * len(z), raters, prompts)
    df = min(len(np.unique(np.asarray(raters))), len(np.unique(np.asarray(prompts)))) - 1
    return se, p_value(value, se, max(df, 1))
