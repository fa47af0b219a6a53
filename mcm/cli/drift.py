"""Drift in words."""

from mcm import wire
from mcm.cli.facts import Facts


def drift_facts(found: wire.Drift) -> Facts:
    """The sentence first, then the numbers behind it."""
    recent, band = found.recent, found.recent.rejected_band
    return [
        ("detector", found.detector),
        ("drift", found.summary),
        ("since", None if found.since is None else found.since.isoformat(timespec="seconds")),
        ("images", found.images),
        ("calibration images", found.calibration_images),
        ("alarm", "no" if found.alarm_at is None else found.alarm_at.isoformat(timespec="seconds")),
        ("evidence", f"{found.log10_wealth:.2f} (alarm at {found.log10_alarm_wealth:g})"),
        ("recent images", recent.images),
        ("called OOD", recent.rejected_share),
        ("without drift", None if band is None else f"{band[0]:.4g} .. {band[1]:.4g}"),
        ("estimated OOD", recent.ood_share),
    ]
