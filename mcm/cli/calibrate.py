"""`mcm calibrate`: images of the known classes in, a threshold with a promise out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from mcm.calibration import Calibration, manual
from mcm.calibration import calibrate as calibrate_scores
from mcm.cli import options
from mcm.errors import InvalidInput
from mcm.thresholds import DEFAULT_FALSE_ALARM_RATE, DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    from mcm import wire


@dataclass(frozen=True)
class Outcome:
    """The certificate now in force, and the images that could not be used with the reason."""

    certificate: "wire.Certificate"
    failures: list[tuple[str, str]]


def calibrate(
    paths: options.KnownPaths = None,
    detector: options.DetectorName = None,
    detector_file: options.DetectorFile = None,
    method: options.Method = None,
    false_alarm_rate: options.FalseAlarmRate = None,
    threshold: options.ManualThreshold = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.Server = None,
    jobs: options.Jobs = None,
    json_file: options.Json = None,
) -> None:
    """Set a detector's threshold from images of the classes that you know.

    Images that cannot be used are listed; the others calibrate.

    \b
    mcm calibrate known-pets/ --detector-file pets.json
    mcm calibrate known-pets/ --detector pets --server http://127.0.0.1:8000 --false-alarm-rate 0.01
    mcm calibrate --detector-file pets.json --threshold 0.35
    """
    _require_one_way(paths, threshold, method, false_alarm_rate)
    options.require_one(detector=detector, detector_file=detector_file)
    url = options.server_for(server, detector=detector, detector_file=detector_file, encoder=encoder)
    images = options.images_of(paths) if paths else None
    how = (
        DEFAULT_METHOD if method is None else method,
        DEFAULT_FALSE_ALARM_RATE if false_alarm_rate is None else false_alarm_rate,
    )
    if images is None:
        outcome = _set_threshold(detector_file, url, detector, threshold)
    elif detector_file is not None:
        outcome = _calibrate_file(detector_file, images, encoder, device, jobs, *how)
    else:
        outcome = _calibrate_on_server(str(url), str(detector), images, jobs, *how)
    _report(outcome, json_file)


def _require_one_way(
    paths: list[Path] | None, threshold: float | None, method: str | None, false_alarm_rate: float | None
) -> None:
    """Refuse, before any work, anything but images with sound options, or a threshold alone."""
    if method is not None and method not in METHODS:
        raise InvalidInput(f"there is no calibration method {method!r}; choose one of {', '.join(METHODS)}")
    if false_alarm_rate is not None and not 0 < false_alarm_rate < 1:
        raise InvalidInput(f"--false-alarm-rate must lie between 0 and 1, not {false_alarm_rate}")
    if bool(paths) == (threshold is not None):
        raise InvalidInput("give images of the classes that you know, or --threshold X, and not both")
    if threshold is not None:
        reason = "goes with images, not with --threshold"
        options.refuse(reason, method=method, false_alarm_rate=false_alarm_rate)


def _set_threshold(path: Path | None, url: str | None, name: str | None, threshold: float | None) -> Outcome:
    assert threshold is not None  # _require_one_way
    if path is None:
        from mcm.cli import remote

        with remote.connect(str(url)) as client:
            return Outcome(client.set_threshold(str(name), threshold), [])
    from mcm.cli import local

    detector, encoder_name = local.read_detector(path)
    calibration = manual(threshold, detector.definition_hash, detector.calibration.scores)
    local.write_detector(path, replace(detector, calibration=calibration), encoder_name)
    return Outcome(_certificate(calibration), [])


def _calibrate_file(
    path: Path,
    images: Iterator[Path],
    encoder: str | None,
    device: str,
    jobs: int | None,
    method: str,
    false_alarm_rate: float,
) -> Outcome:
    from mcm.cli import local, output

    detector, loaded = local.detector_and_encoder(path, encoder, device)
    scores, failures = [], []
    for row in output.with_progress(local.rows(detector, loaded, images, 1, jobs), "scoring"):
        if row.score is None:
            failures.append((row.name, str(row.error)))
        else:
            scores.append(row.score)
    try:
        calibration = calibrate_scores(
            scores, detector.definition_hash, method=method, false_alarm_rate=false_alarm_rate
        )
    except InvalidInput:
        output.list_failures(failures, len(scores) + len(failures))  # they may be why there are too few
        raise
    local.write_detector(path, replace(detector, calibration=calibration), loaded.name)
    return Outcome(_certificate(calibration), failures)


def _calibrate_on_server(
    url: str, name: str, images: Iterator[Path], jobs: int | None, method: str, false_alarm_rate: float
) -> Outcome:
    from mcm.cli import output, remote

    with remote.connect(url, jobs) as client:
        answer = client.calibrate(
            name,
            output.with_progress(remote.as_text(images), "sending"),
            method=cast("wire.Method", method),  # checked by _require_one_way
            false_alarm_rate=false_alarm_rate,
        )
    remote.say_warnings(answer.warnings, set())
    return Outcome(answer, [(problem.name or "", problem.error.detail) for problem in answer.errors])


def _certificate(calibration: Calibration) -> "wire.Certificate":
    from mcm import wire

    return wire.Certificate.model_validate(calibration.certificate)


def _report(outcome: Outcome, json_file: Path | None) -> None:
    """Show the certificate and list what could not be used; exit code 1 if there was any."""
    from mcm import wire
    from mcm.cli import facts, output

    if json_file != output.STDOUT:
        output.print_facts(facts.certificate_facts(outcome.certificate))
    if json_file is not None:
        fields = set(wire.Certificate.model_fields)  # a server's answer has more
        certificate = outcome.certificate.model_dump(mode="json", include=fields)
        errors = [{"name": name, "error": error} for name, error in outcome.failures]
        output.write_json(json_file, certificate | {"errors": errors})
    output.list_failures(outcome.failures, outcome.certificate.n + len(outcome.failures))
    if outcome.failures:
        raise typer.Exit(1)
