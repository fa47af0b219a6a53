"""How well scores separate in-distribution (ID) from out-of-distribution (OOD) images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mcm.errors import InvalidInput, MissingExtra
from mcm.scores import Floats


@dataclass(frozen=True)
class Metrics:
    """AUROC and AUPR (ID positive) and FPR95 in both conventions; all in [0, 1]."""

    auroc: float
    aupr: float
    fpr95: float
    fpr95_ood_positive: float


def metrics(id_scores: ArrayLike, ood_scores: ArrayLike) -> Metrics:
    """All metrics of scores (n,) of ID and (m,) of OOD images; higher scores are more ID.

    Raises:
        InvalidInput: one of them is empty or not finite.
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError as error:
        raise MissingExtra("eval", "AUROC and AUPR") from error
    id_, ood = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    scores = np.concatenate([id_, ood])
    is_id = np.concatenate([np.ones(id_.size), np.zeros(ood.size)])
    return Metrics(
        auroc=float(roc_auc_score(is_id, scores)),
        aupr=float(average_precision_score(is_id, scores)),
        fpr95=fpr95(id_, ood),
        fpr95_ood_positive=fpr95_ood_positive(id_, ood),
    )


def fpr95(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Share of OOD accepted (score >= threshold) where the recall of ID is nearest to 95 %.

    The MCM paper's convention: every distinct score is a threshold; of equally near recalls the
    lowest threshold counts.
    """
    id_, ood = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    thresholds = np.unique(np.concatenate([id_, ood]))
    accepted = id_.size - np.searchsorted(np.sort(id_), thresholds, side="left")
    distance = np.abs(20 * accepted - 19 * id_.size)  # |recall - 19/20| in whole numbers: ties stay ties
    chosen = thresholds[np.argmin(distance)]  # ascending: the first minimum is the lowest threshold
    return float((ood >= chosen).mean())


def fpr95_ood_positive(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Share of ID rejected (score <= threshold) where first at least 95 % of OOD is caught (OpenOOD 1.5)."""
    id_, ood = _checked(id_scores, "ID"), _checked(ood_scores, "OOD")
    ascending = np.sort(ood)
    caught = np.searchsorted(ascending, ascending, side="right")
    threshold = ascending[np.argmax(20 * caught >= 19 * ood.size)]
    return float((id_ <= threshold).mean())


def _checked(scores: ArrayLike, what: str) -> Floats:
    array = np.asarray(scores, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise InvalidInput(f"the {what} scores must be finite and not empty")
    return array
