"""Detectors and certificates in words."""

from collections.abc import Sequence
from typing import Any

from mcm import wire
from mcm.cli.output import note
from mcm.definition import Definition
from mcm.detector import Detector
from mcm.mining import MiningReport, Neighbour

SHOWN_CONCEPTS = 20

Facts = list[tuple[str, object]]


def definition_facts(definition: wire.DefinitionAnswer) -> Facts:
    """What a detector is made from."""
    names = [concept if isinstance(concept, str) else concept.name for concept in definition.concepts]
    return [
        ("concepts", f"{len(names)}: {_some(names)}"),
        ("templates", " | ".join(definition.templates)),
        ("score", definition.score),
        ("temperature", definition.temperature),
        ("local weight", definition.local_weight),
        ("negatives", None if definition.negatives is None else _negatives(definition.negatives)),
    ]


def _negatives(choice: wire.Negatives) -> str:
    words = f"{choice.vocabulary} ({choice.vocabulary_hash or '':.12})"
    near = ", without those near a concept" if choice.drop_near else ""
    return f"{words}, at most {choice.groups} groups, seed {choice.seed}{near}"


def say_mining(mining: wire.Mining | MiningReport) -> None:
    """Tell on stderr how negatives were found, and name those that somebody should look at."""
    note(
        f"negatives: {mining.negatives} words in {mining.groups} groups, of the {mining.candidates} "
        f"candidates of {mining.vocabulary}; {mining.left_over} left over"
    )
    if mining.duplicates:
        note(f"  dropped, since they are concepts: {_some(mining.duplicates)}")
    if mining.near:
        note(f"  dropped, since they are near a concept: {_neighbours(mining.near)}")
    note(f"  closest to a concept; are they what you want to reject? {_neighbours(mining.closest)}")


def _neighbours(found: Sequence[wire.Neighbour] | Sequence[Neighbour]) -> str:
    return _some([f"{one.word} ({one.concept} {one.cosine:.2f})" for one in found])


def certificate_facts(certificate: wire.Certificate | None) -> Facts:
    """The threshold and what it promises."""
    if certificate is None:
        return [("threshold", "none: calibrate with ID images (mcm calibrate), or set one (--threshold)")]
    return [
        ("threshold", certificate.threshold),
        ("method", certificate.method),
        ("false alarm rate", certificate.false_alarm_rate),
        ("confidence", certificate.confidence),
        ("calibration images", certificate.n),
        ("promise", certificate.promise or "none: the threshold was set by hand"),
        ("calibrated", certificate.created_at.isoformat(timespec="seconds")),
        *_concept_facts(certificate.concepts),
    ]


def _concept_facts(concepts: Sequence[wire.ConceptThreshold]) -> Facts:
    """The thresholds of concepts, the shared one last."""
    own = [entry for entry in concepts if entry.concept is not None]
    shown = [*own[:SHOWN_CONCEPTS], *(entry for entry in concepts if entry.concept is None)]
    told: Facts = [
        (f"threshold of {entry.concept or 'other concepts'}", f"{entry.threshold} (n {entry.n}, k {entry.k})")
        for entry in shown
    ]
    more = len(own) - SHOWN_CONCEPTS
    return [*told, ("thresholds not shown", more if more > 0 else None)]


def encoder_facts(name: str, fingerprint: str, definition_hash: str) -> Facts:
    """Under what the scores compare."""
    return [("encoder", name), ("fingerprint", fingerprint), ("definition hash", definition_hash)]


def stored_facts(detector: wire.Detector) -> Facts:
    """A detector of a server."""
    model = detector.model
    return [
        ("detector", detector.name),
        ("revision", detector.revision),
        *definition_facts(detector.definition),
        *encoder_facts(model.name, model.fingerprint, detector.definition_hash),
        *certificate_facts(detector.certificate),
    ]


def file_facts(path: object, detector: Detector, encoder_name: str) -> Facts:
    """A detector of a file."""
    return [
        ("detector file", path),
        *definition_facts(definition_answer(detector.definition)),
        *encoder_facts(encoder_name, detector.fingerprint, detector.definition_hash),
        *certificate_facts(certificate_of(detector)),
    ]


def file_json(detector: Detector, encoder_name: str) -> dict[str, Any]:
    """A detector of a file under the names that a server's answer has."""
    certificate = certificate_of(detector)
    return {
        "definition": definition_answer(detector.definition).model_dump(mode="json"),
        "definition_hash": detector.definition_hash,
        "model": {"name": encoder_name, "fingerprint": detector.fingerprint},
        "certificate": None if certificate is None else certificate.model_dump(mode="json"),
    }


def definition_answer(definition: Definition) -> wire.DefinitionAnswer:
    """A definition in the shape of the HTTP contract."""
    return wire.DefinitionAnswer.model_validate(definition.to_json())


def certificate_of(detector: Detector) -> wire.Certificate | None:
    """A detector's certificate in the shape of the HTTP contract."""
    certificate = detector.calibration.certificate
    return None if certificate is None else wire.Certificate.model_validate(certificate)


def required_certificate(detector: Detector) -> wire.Certificate:
    """The certificate of a detector that has just got one."""
    return wire.Certificate.model_validate(detector.calibration.certificate)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_CONCEPTS
    return ", ".join(names[:SHOWN_CONCEPTS]) + (f" and {more} more" if more > 0 else "")
