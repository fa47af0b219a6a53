"""Every call of the contract, built by a pure function."""

import json
from collections.abc import Sequence

from pydantic import BaseModel

from mcm import wire
from mcm.client._calls import (
    Call,
    Concepts,
    checked,
    detector_path,
    json_body,
    listed,
    nothing,
    set_values,
    upload,
    write,
)
from mcm.client._images import Item

PAGE_SIZE = 100


# ---- the encoder and its detectors


def models() -> Call[list[wire.Model]]:
    """The encoders that run."""
    return Call("GET", "/v1/models", lambda content: wire.Models.model_validate_json(content).models)


def ready() -> Call[None]:
    """Whether the server takes work."""
    return Call("GET", "/readyz", nothing)


def check_concepts(concepts: Concepts, templates: Sequence[str] | None) -> Call[wire.ConceptsChecked]:
    """What is odd about concepts."""
    body = checked(wire.ConceptsToCheck, concepts=listed(concepts), templates=templates)
    return Call(
        "POST",
        "/v1/concepts/check",
        wire.ConceptsChecked.model_validate_json,
        content=json_body(body),
        encodes=True,
    )


def create_detector(name: str, concepts: Concepts, **definition: object) -> Call[wire.Detector]:
    """A new detector."""
    body = checked(wire.NewDetector, name=name, concepts=listed(concepts), **definition)
    return Call(
        "POST",
        "/v1/detectors",
        wire.Detector.model_validate_json,
        content=json_body(body),
        repeatable=False,
        encodes=True,
    )


def put_detector(
    name: str, concepts: Concepts, *, if_match: int | None, **definition: object
) -> Call[wire.Detector]:
    """A detector with this definition, new or replaced."""
    body = checked(wire.ReplacedDetector, concepts=listed(concepts), **definition)
    return write(
        "PUT", detector_path(name), wire.Detector.model_validate_json, json_body(body), if_match, encodes=True
    )


def detectors(cursor: str | None) -> Call[wire.DetectorPage]:
    """A page of the detectors."""
    params = {"limit": str(PAGE_SIZE)} | ({} if cursor is None else {"cursor": cursor})
    return Call("GET", "/v1/detectors", wire.DetectorPage.model_validate_json, params=params)


def detector(name: str) -> Call[wire.Detector]:
    """One detector."""
    return Call("GET", detector_path(name), wire.Detector.model_validate_json)


def delete_detector(name: str, if_match: int | None) -> Call[None]:
    """No such detector any more."""
    return write("DELETE", detector_path(name), nothing, None, if_match)


def export_detector(name: str) -> Call[wire.DetectorFile]:
    """The portable detector."""
    return Call("GET", detector_path(name, "/file"), wire.DetectorFile.model_validate_json)


def import_detector(name: str, file: wire.DetectorFile) -> Call[wire.Detector]:
    """A detector made of a portable one."""
    content = json_body(file, exclude_unset=False)  # a file says all, its version too
    return write(
        "PUT", detector_path(name, "/file"), wire.Detector.model_validate_json, content, None, encodes=True
    )


# ---- images, embeddings, texts


def score_options(top_k: int, require_verdict: bool | None, explain: bool = False) -> wire.ScoreOptions:
    """Options of scoring.

    Raises:
        InvalidArgument: out of range.
    """
    return checked(wire.ScoreOptions, top_k=top_k, require_verdict=require_verdict, explain=explain or None)


def score(name: str, options: BaseModel, items: Sequence[Item]) -> Call[wire.ScoreAnswer]:
    """Images judged by a detector."""
    return upload(detector_path(name, "/score"), wire.ScoreAnswer.model_validate_json, options, items)


def score_once(options: BaseModel, items: Sequence[Item]) -> Call[wire.ScoreAnswer]:
    """Images scored against concepts."""
    return upload("/v1/score", wire.ScoreAnswer.model_validate_json, options, items, encodes=True)


def score_with(options: BaseModel, items: Sequence[Item]) -> Call[wire.ScoreAnswers]:
    """Images judged by several detectors."""
    return upload("/v1/score", wire.ScoreAnswers.model_validate_json, options, items)


def embed(items: Sequence[Item]) -> Call[wire.Embedded]:
    """Embeddings of images."""
    return upload("/v1/embed", wire.Embedded.model_validate_json, wire.Images(), items)


def embed_texts(items: Sequence[Item]) -> Call[wire.Embedded]:
    """Embeddings of texts, each item one JSON string."""
    content = b'{"texts":[' + b",".join(item.data for item in items) + b"]}"
    return Call("POST", "/v1/embed", wire.Embedded.model_validate_json, content=content)


def score_embeddings(
    name: str, fingerprint: str, options: BaseModel, items: Sequence[Item]
) -> Call[wire.ScoreAnswer]:
    """Embeddings judged by a detector, each item one JSON array."""
    head = json.dumps(set_values(options) | {"fingerprint": fingerprint}).encode()
    content = head[:-1] + b',"embeddings":[' + b",".join(item.data for item in items) + b"]}"
    return Call("POST", detector_path(name, "/score"), wire.ScoreAnswer.model_validate_json, content=content)


# ---- thresholds


def calibrate(name: str, body: wire.CalibrateRequest) -> Call[wire.CertificateAnswer]:
    """A threshold from scores."""
    return Call(
        "POST",
        detector_path(name, "/calibrate"),
        wire.CertificateAnswer.model_validate_json,
        content=json_body(body),
        repeatable=False,
    )


def calibration(name: str) -> Call[wire.Calibration]:
    """The calibration in force."""
    return Call("GET", detector_path(name, "/calibration"), wire.Calibration.model_validate_json)


def drift(name: str) -> Call[wire.Drift]:
    """How the images since the calibration compare with it."""
    return Call("GET", detector_path(name, "/drift"), wire.Drift.model_validate_json)


def delete_calibration(name: str) -> Call[None]:
    """Neither scores nor threshold any more."""
    return write("DELETE", detector_path(name, "/calibration"), nothing, None, None)


def set_threshold(name: str, threshold: float, if_match: int | None) -> Call[wire.CertificateAnswer]:
    """A threshold set by hand."""
    content = json_body(checked(wire.ThresholdRequest, threshold=threshold))
    path = detector_path(name, "/threshold")
    return write("PUT", path, wire.CertificateAnswer.model_validate_json, content, if_match)


def delete_threshold(name: str) -> Call[None]:
    """No threshold any more; the calibration scores stay."""
    return write("DELETE", detector_path(name, "/threshold"), nothing, None, None)
