"""`mcm calibrate`: images of the known classes in, a threshold with a promise out."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mcm.calibration import manual
from mcm.cli import options
from mcm.errors import InvalidInput
from mcm.thresholds import METHODS

if TYPE_CHECKING:
    from mcm import wire


@dataclass(frozen=True)
class How:
    """What was asked for; None where it was not. `append`: to the calibration in force."""

    method: str | None
    false_alarm_rate: float | None
    confidence: float | None
    per_concept: bool | None
    append: bool

    @property
    def given(self) -> dict[str, Any]:
        """The options of the threshold."""
        return {
            "method": self.method,
            "false_alarm_rate": self.false_alarm_rate,
            "confidence": self.confidence,
        }


@dataclass(frozen=True)
class Outcome:
    """The certificate now in force, and what there is to say of the images.

    `failures`: those that could not be used, with the reason. `lowest`: names and scores of those to look
    at. `ood_share`: see `mcm.review.share_against`.
    """

    certificate: "wire.Certificate"
    failures: list[tuple[str, str]] = field(default_factory=list)
    lowest: list[tuple[str, float]] = field(default_factory=list)
    ood_share: float | None = None
    warnings: list[str] = field(default_factory=list)


def calibrate(
    paths: options.KnownPaths = None,
    detector: options.DetectorName = None,
    detector_file: options.DetectorFile = None,
    method: options.Method = None,
    false_alarm_rate: options.FalseAlarmRate = None,
    confidence: options.Confidence = None,
    per_concept: options.PerConcept = None,
    append: options.Append = False,
    stored: options.Stored = False,
    threshold: options.ManualThreshold = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.Server = None,
    jobs: options.Jobs = None,
    json_file: options.Json = None,
) -> None:
    """Set a detector's threshold from images of the classes that you know.

    Images that cannot be used are listed; the others calibrate. The images with the lowest scores are
    listed too: look whether they belong.

    \b
    mcm calibrate known-pets/ --detector-file pets.json
    mcm calibrate known-pets/ --detector pets --server http://127.0.0.1:8000 --method pac
    mcm calibrate more-pets/ --detector-file pets.json --append
    mcm calibrate --detector-file pets.json --stored --false-alarm-rate 0.1
    """
    how = How(method, false_alarm_rate, confidence, per_concept, append)
    _require_one_way(paths, threshold, stored, how)
    options.require_one(detector=detector, detector_file=detector_file)
    url = options.server_for(server, detector=detector, detector_file=detector_file, encoder=encoder)
    images = options.images_of(paths, url) if paths else None
    if threshold is not None:
        outcome = _set_threshold(detector_file, url, detector, threshold)
    elif detector_file is not None:
        outcome = _calibrate_file(detector_file, images, encoder, device, jobs, how)
    else:
        outcome = _calibrate_on_server(str(url), str(detector), images, jobs, how)
    _report(outcome, json_file)


def _require_one_way(paths: list[Path] | None, threshold: float | None, stored: bool, how: How) -> None:
    """Refuse, before any work, anything but images or stored scores with sound options, or a threshold."""
    if how.method is not None and how.method not in METHODS:
        raise InvalidInput(
            f"there is no calibration method {how.method!r}; choose one of {', '.join(METHODS)}"
        )
    for name, value in (("false-alarm-rate", how.false_alarm_rate), ("confidence", how.confidence)):
        if value is not None and not 0 < value < 1:
            raise InvalidInput(f"--{name} must lie between 0 and 1, not {value}")
    if bool(paths) + (threshold is not None) + stored != 1:
        raise InvalidInput("give one of: images of the classes that you know, --stored, --threshold X")
    if threshold is not None:
        options.refuse("goes with images, not with --threshold", **how.given, per_concept=how.per_concept)
    if how.append and not paths:
        raise InvalidInput("--append adds images: give some")
    if how.confidence is not None and how.method != "pac" and not (how.append and how.method is None):
        raise InvalidInput("--confidence goes with --method pac")


def _set_threshold(path: Path | None, url: str | None, name: str | None, threshold: float) -> Outcome:
    if path is None:
        from mcm.cli import remote

        with remote.connect(str(url)) as client:
            return Outcome(client.set_threshold(str(name), threshold))
    from mcm.cli import facts, local

    detector, encoder_name = local.read_detector(path)
    before = detector.calibration
    changed = replace(
        detector, calibration=manual(threshold, detector.definition_hash, before.scores, before.groups)
    )
    local.write_detector(path, changed, encoder_name)
    return Outcome(facts.required_certificate(changed))


def _calibrate_file(
    path: Path,
    images: Iterator[Path] | None,
    encoder: str | None,
    device: str,
    jobs: int | None,
    how: How,
) -> Outcome:
    from mcm.cli import calibrate_file

    if images is None:
        return calibrate_file.again(path, how)
    return calibrate_file.with_images(path, images, encoder, device, jobs, how)


def _calibrate_on_server(
    url: str, name: str, images: Iterator[Path] | None, jobs: int | None, how: How
) -> Outcome:
    from mcm.cli import output, remote

    chosen: dict[str, Any] = how.given | {"per_concept": how.per_concept, "append": how.append or None}
    with remote.connect(url, jobs) as client:
        if images is None:
            answer = remote.calibrate_again(client, name, chosen)
        else:
            sent = output.with_progress(remote.as_text(images), "sending")
            answer = client.calibrate(name, sent, **chosen)
    return Outcome(
        answer,
        [(problem.name or "", problem.error.detail) for problem in answer.errors],
        [(entry.name or "", entry.score) for entry in answer.lowest if images is not None],
        answer.ood_share,
        [warning.message for warning in answer.warnings],
    )


def _report(outcome: Outcome, json_file: Path | None) -> None:
    """Show the certificate and what to look at; exit code 1 if there were images that could not be used."""
    from mcm.cli import facts, output

    if json_file != output.STDOUT:
        output.print_facts(facts.certificate_facts(outcome.certificate))
    if json_file is not None:
        output.write_json(json_file, _as_json(outcome))
    for warning in outcome.warnings:
        output.note(f"warning: {warning}")
    if outcome.ood_share is not None:
        output.note(f"OOD share of these images by the calibration before: {outcome.ood_share:.3f} (Storey)")
    if outcome.lowest:
        output.note("lowest scores; look whether these images belong:")
    for name, score in outcome.lowest:
        output.note(f"  {score:.6g}  {name}")
    output.list_failures(outcome.failures, outcome.certificate.n + len(outcome.failures))
    if outcome.failures:
        raise typer.Exit(1)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    from mcm import wire

    fields = set(wire.Certificate.model_fields)  # a server's answer has more
    return outcome.certificate.model_dump(mode="json", include=fields) | {
        "errors": [{"name": name, "error": error} for name, error in outcome.failures],
        "lowest": [{"name": name, "score": score} for name, score in outcome.lowest],
        "ood_share": outcome.ood_share,
        "warnings": outcome.warnings,
    }
