"""How well scores separate in-distribution (ID) from out-of-distribution (OOD) images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mcm.errors import InvalidInput, MissingExtra
from mcm.scores import Floats, finite_scores


@dataclass(frozen=True)
class Metrics:
    """AUROC and AUPR (ID positive) and FPR95 in both conventions; all in [0, 1]."""

    auroc: float
    aupr: float
    fpr95: float
    fpr95_ood_positive: float


def metrics(id_scores: ArrayLike, ood_scores: ArrayLike) -> Metrics:
    """All metrics of scores (n,) of ID and (m,) of OOD images; higher scores are more ID.

    AUROC and AUPR are scikit-learn's; AUPR is its average precision.

    Raises:
        InvalidInput: one of them is empty, or no vector of finite numbers.
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError as error:
        raise MissingExtra("eval", "AUROC and AUPR") from error
    id_, ood = checked_side(id_scores, "ID scores"), checked_side(ood_scores, "OOD scores")
    scores = np.concatenate([id_, ood])
    is_id = np.concatenate([np.ones(id_.size), np.zeros(ood.size)])
    return Metrics(
        auroc=float(roc_auc_score(is_id, scores)),
        aupr=min(float(average_precision_score(is_id, scores)), 1.0),  # its sum may round to above 1
        fpr95=fpr95(id_, ood),
        fpr95_ood_positive=fpr95_ood_positive(id_, ood),
    )


def fpr95(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Share of OOD accepted (score >= threshold) where the recall of ID is nearest to 95 %; in [0, 1].

    The convention of the MCM paper's code: every distinct score, ID or OOD, that is not below all ID
    scores is a threshold; of equally near recalls the lowest threshold counts. Distances are float64, as
    there: 142 and 143 of 150 are equally far from 95 %, and rounding decides for 142 here as it does there.

    Raises:
        InvalidInput: scores that are empty, or no vector of finite numbers.
    """
    id_, ood = np.sort(checked_side(id_scores, "ID scores")), checked_side(ood_scores, "OOD scores")
    thresholds = np.unique(np.concatenate([id_, ood[ood >= id_[0]]]))
    recall = (id_.size - np.searchsorted(id_, thresholds, side="left")) / id_.size
    chosen = thresholds[np.argmin(np.abs(recall - 0.95))]  # ascending: the first minimum is the lowest
    return float((ood >= chosen).mean())


def fpr95_ood_positive(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Share of ID rejected (score <= threshold) where first at least 95 % of OOD is caught; in [0, 1].

    The convention of OpenOOD 1.5 (Zhang et al., 2023), in which OOD is the positive class.

    Raises:
        InvalidInput: scores that are empty, or no vector of finite numbers.
    """
    id_, ood = checked_side(id_scores, "ID scores"), np.sort(checked_side(ood_scores, "OOD scores"))
    threshold = ood[-(-19 * ood.size // 20) - 1]  # the ceil(0.95 m)-th smallest, in whole numbers
    return float((id_ <= threshold).mean())


def checked_side(scores: ArrayLike, what: str) -> Floats:
    """The scores of one side, ID or OOD, as finite float64 (n,), n >= 1.

    Raises:
        InvalidInput: they are anything else; the message starts with `what`.
    """
    array = finite_scores(scores, what)
    if array.size == 0:
        raise InvalidInput(f"{what} must not be empty")
    return array
