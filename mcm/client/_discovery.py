"""The FDR over any number of images: their p-values come in chunks and are judged once. For both clients."""

import numpy as np

from mcm import wire
from mcm.calibration import Calibration
from mcm.client._calls import checked
from mcm.client._work import ScorePiece, answer_without_results, first_column
from mcm.client.errors import DefinitionChanged, Uncalibrated
from mcm.discoveries import with_discoveries
from mcm.mondrian import Groups


class Gathering:
    """The results of many chunks, all made under one calibration."""

    def __init__(self, detector: wire.Detector, calibration: wire.Calibration, q: float, method: str) -> None:
        """Refuse, before any work, what would fail after it.

        Raises:
            InvalidArgument: `q` or `method` is not of the contract.
            Uncalibrated: there are no calibration scores.
        """
        self._options = checked(wire.ScoreOptions, fdr=q, fdr_method=method)
        self._q = q
        self._calibration = core_calibration(calibration)
        self._answer = answer_without_results(detector)
        self._revision = calibration.revision
        self._results: list[wire.Result] = []
        self._require(detector.revision)
        if not calibration.scores:
            raise Uncalibrated(
                f"detector {detector.name!r} has no calibration scores, and the FDR needs p-values: "
                "calibrate it with in-distribution images (a threshold set by hand gives no p-values)"
            )

    def add(self, piece: ScorePiece) -> None:
        """Take the results of a piece.

        Raises:
            DefinitionChanged: the detector is at another revision than before.
        """
        if piece.answer is not None:
            self._require(piece.answer.revision)
            self._answer = piece.answer
        self._results += first_column(piece)

    def answer(self) -> wire.ScoreAnswer:
        """One answer over all images."""
        whole = self._answer.model_copy(update={"results": self._results})
        return with_discoveries(whole, self._calibration, self._q, self._options.fdr_method)

    def _require(self, revision: int | None) -> None:
        if revision != self._revision:
            raise DefinitionChanged(
                f"the detector changed while the images were scored (revision {self._revision}, then "
                f"{revision}): p-values of two calibrations do not go together; score the images again"
            )


def core_calibration(calibration: wire.Calibration) -> Calibration:
    """The scores as the core has them, to compare with."""
    groups = calibration.groups
    return Calibration(
        np.asarray(calibration.scores, dtype=np.float64),
        None,
        None if groups is None else Groups(tuple(groups.concepts), groups.minimum),
    )
