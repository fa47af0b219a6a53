"""Calibrating the detector of a file, on this machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mcm import review
from mcm.advice import Advice
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.calibration import calibrate as calibrate_scores
from mcm.cli import facts, local, output
from mcm.cli.calibrate import How, Outcome
from mcm.cli.rows import Row
from mcm.errors import InvalidInput


@dataclass
class Gathered:
    """The scores of the images that could be used, and why the others could not."""

    good: list[Row] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """How many images there were."""
        return len(self.good) + len(self.failures)

    @property
    def used(self) -> list[Path]:
        """The files of the images, as far as they are files here."""
        return [Path(row.name) for row in self.good]

    def add(self, row: Row) -> None:
        """Take the row of an image."""
        if row.score is None:
            self.failures.append((row.name, str(row.error)))
        else:
            self.good.append(row)

    @property
    def scores(self) -> list[float]:
        """The scores."""
        return [float(row.score or 0) for row in self.good]

    @property
    def concepts(self) -> list[str]:
        """Each image's most similar concept."""
        return [str(row.concept) for row in self.good]

    @property
    def lowest(self) -> list[tuple[str, float]]:
        """Names and scores of the images to look at."""
        scores = self.scores
        return [(self.good[i].name, scores[i]) for i in review.lowest(scores)]


def with_images(
    path: Path, images: Iterator[Path], encoder: str | None, device: str, jobs: int | None, how: How
) -> Outcome:
    """Calibrate with images, alone or added to those before, and write the file."""
    detector, encoder_name = local.read_detector(path)
    new, before = Gathered(), detector.calibration
    for row in output.with_progress(local.rows_of_file(path, encoder, device, images, 1, jobs), "scoring"):
        new.add(row)
    try:
        calibration = _calibrated(new.scores, new.concepts, before, detector.definition_hash, how)
    except InvalidInput:
        output.list_failures(new.failures, new.seen)  # they may be why there are too few
        raise
    changed = replace(detector, calibration=calibration)
    local.write_detector(path, changed, encoder_name)
    share = review.share_against(before, np.array(new.scores), new.concepts)
    told = review.advice(before, np.array(new.scores), share, appended=how.append)
    if (copies := copies_among(new.used)) is not None:
        told.append(copies)
    warnings = [advice.message for advice in told]
    return Outcome(facts.required_certificate(changed), new.failures, new.lowest, share, warnings)


def again(path: Path, how: How) -> Outcome:
    """Calibrate with the scores that the file has, by other options, and write it."""
    detector, encoder_name = local.read_detector(path)
    before = detector.calibration
    concepts = None if before.groups is None else before.groups.concepts
    if how.per_concept and concepts is None:
        raise InvalidInput("the stored scores have no concepts: calibrate per concept with the images")
    calibration = calibrate_scores(
        before.scores,
        detector.definition_hash,
        concepts=None if how.per_concept is False else concepts,
        **how.given,
    )
    changed = replace(detector, calibration=calibration)
    local.write_detector(path, changed, encoder_name)
    return Outcome(facts.required_certificate(changed))


def copies_among(paths: Sequence[Path]) -> Advice | None:
    """What to know of files with the same content; only those of one size are read."""
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        with suppress(OSError):  # it has gone meanwhile
            by_size.setdefault(os.path.getsize(path), []).append(path)
    copies = review.Copies()
    for same in by_size.values():
        for path in same if len(same) > 1 else ():
            with suppress(OSError):
                copies.add(str(path), review.digest_of(path.read_bytes()))
    return copies.advice


def _calibrated(
    scores: Sequence[float], concepts: Sequence[str], before: Calibration, definition_hash: str, how: How
) -> Calibration:
    append_to = before if how.append else UNCALIBRATED
    stays = how.append and how.per_concept is None
    per_concept = append_to.groups is not None if stays else how.per_concept
    return calibrate_scores(
        scores,
        definition_hash,
        concepts=concepts if per_concept else None,
        append_to=append_to,
        **how.given,
    )
