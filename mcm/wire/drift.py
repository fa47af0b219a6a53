"""The answer about drift."""

from datetime import datetime

from mcm.wire.base import Answer


class RecentImages(Answer):
    """The last images, 1,000 to 2,000 once there are so many; shares are fractions.

    `rejected_share` was called OOD; it lies in `rejected_band` with a chance of 95 % if nothing has drifted.
    `ood_share` is Storey's estimate of how many are OOD.
    """

    images: int
    rejected_share: float | None
    rejected_band: tuple[float, float] | None
    ood_share: float | None


class Drift(Answer):
    """GET /v1/detectors/{name}/drift: the images scored since the calibration, against the calibration.

    The alarm is raised once `log10_wealth` has reached `log10_alarm_wealth`, after `alarm_after` images, and
    stays. The chance that it is ever raised though nothing has drifted is at most `false_alarm_probability`.
    """

    detector: str
    revision: int
    definition_hash: str
    calibration_images: int
    images: int
    since: datetime | None
    updated_at: datetime | None
    recent: RecentImages
    log10_wealth: float
    log10_alarm_wealth: float
    alarm: bool
    alarm_at: datetime | None
    alarm_after: int | None
    false_alarm_probability: float
    summary: str
