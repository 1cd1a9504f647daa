"""The mixed model beside the bootstrap: arms fixed, raters and prompts random and crossed."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MOST_ANSWERS = 6000
"""Above, the fit takes long and adds little to the bootstrap."""


@dataclass(frozen=True)
class MixedFit:
    """A difference between two arms by a linear mixed model, or why there is none."""

    difference: float = float("nan")
    se: float = float("nan")
    rater_variance: float = float("nan")
    prompt_variance: float = float("nan")
    residual_variance: float = float("nan")
    reason: str = ""
    """Why it was not fitted or is not to be used; empty if it is."""


def fit_mixed(
    scores: ArrayLike, is_b: ArrayLike, raters: ArrayLike, prompts: ArrayLike
) -> MixedFit:
    """Fit score = mean + arm + rater + prompt + noise by restricted maximum likelihood.

    Slopes of raters and prompts are not in it: with them most studies of this size do not fit. So
    it tends to be surer than the bootstrap, and stands in the report beside it, not in its place.

    Args:
        scores: [n].
        is_b: whether the score is of arm b, [n].
        raters: who gave it, [n].
        prompts: what it is about, [n].

    Returns:
        b minus a, or the reason why it does not fit.
    """
    import pandas as pd
    import statsmodels.formula.api as smf

    y = np.asarray(scores, dtype=np.float64)
    if len(y) > MOST_ANSWERS:
        return MixedFit(reason=f"more than {MOST_ANSWERS} answers")
    if np.ptp(y) == 0:
        return MixedFit(reason="all scores are equal")
    frame = pd.DataFrame(
        {"y": y, "b": np.asarray(is_b, dtype=np.float64), "rater": np.asarray(raters),
         "prompt": np.asarray(prompts), "all": 1}
    )  # fmt: skip
    parts = {"rater": "0 + C(rater)", "prompt": "0 + C(prompt)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they tell is asked below
        try:
            model = smf.mixedlm("y ~ b", frame, groups="all", vc_formula=parts)
            fit = model.fit(reml=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            return MixedFit(reason=f"it does not fit ({error})")
    if not fit.converged or not np.isfinite(fit.bse["b"]):
        return MixedFit(reason="it does not converge, as with few answers")
    named = dict(zip(model.exog_vc.names, fit.vcomp, strict=True))
    return MixedFit(
        difference=float(fit.params["b"]),
        se=float(fit.bse["b"]),
        rater_variance=float(named["rater"]),
        prompt_variance=float(named["prompt"]),
        residual_variance=float(fit.scale),
    )
