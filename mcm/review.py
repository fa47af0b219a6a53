"""What to look at in a set of calibration images before its threshold is trusted."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import ArrayLike

from mcm.advice import Advice
from mcm.calibration import Calibration
from mcm.fdr import ood_share
from mcm.scores import Floats
from mcm.thresholds import percent

LOWEST = 10  # images to list
_NAMED = 3  # groups of copies to name


class Copies:
    """Finds images that are given more than once, by a hash of their content."""

    def __init__(self) -> None:
        self._names: dict[bytes, list[str]] = {}

    def add(self, name: str, digest: bytes) -> None:
        """Take an image by the `digest_of` its content."""
        self._names.setdefault(digest, []).append(name)

    @property
    def advice(self) -> Advice | None:
        """What to know of the copies, if there are any."""
        groups = [names for names in self._names.values() if len(names) > 1]
        if not groups:
            return None
        copies = sum(len(names) - 1 for names in groups)
        told = "; ".join(" = ".join(names) for names in groups[:_NAMED])
        more = f"; and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
        return Advice(
            "duplicate-images",
            f"{copies} calibration images are copies of others ({told}{more}): they count twice and say "
            "nothing new, so the promise does not hold; calibrate again with each image once",
        )


def digest_of(content: bytes) -> bytes:
    """What only the same content has."""
    return sha256(content).digest()


def lowest(scores: ArrayLike) -> list[int]:
    """The places of the lowest of scores (n,), at most LOWEST, lowest first: do these images belong?"""
    places: list[int] = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")[:LOWEST].tolist()
    return places


def share_against(before: Calibration, scores: Floats, concepts: Sequence[str] | None) -> float | None:
    """Storey's OOD share among new scores (n,), by their p-values under the calibration `before`.

    None without one, and where the scores are its own: a set's p-values against itself are uniform and
    cannot show contamination. Per concept, `concepts` (n,) are needed.
    """
    if repeated(before, scores) or (before.groups is not None and concepts is None):
        return None
    p = before.p_values(scores, concepts)
    return None if p is None else ood_share(p)


def repeated(before: Calibration, scores: Floats) -> bool:
    """Whether most of the scores (n,) are among the calibration's: then they are of the same images."""
    return bool(2 * np.isin(scores, before.scores).sum() > scores.size)


def advice(before: Calibration, scores: Floats, share: float | None, *, appended: bool) -> list[Advice]:
    """What to know of new scores (n,) beside the calibration before, with `share` from `share_against`."""
    found = []
    if appended and repeated(before, scores):
        found.append(
            Advice(
                "repeated-scores",
                "most of the scores that were added were there already: if they are of the same images, "
                "they count twice; calibrate again without `append`",
            )
        )
    if share is not None and share > 3 * (1 / scores.size + 1 / before.scores.size) ** 0.5:
        found.append(
            Advice(
                "ood-among-calibration-images",
                f"measured against the calibration before, about {percent(share)} of the new images are OOD: "
                "look at those with the lowest scores; where they do not belong, calibrate without them",
            )
        )
    return found
