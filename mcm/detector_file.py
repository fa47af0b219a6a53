"""The portable detector: one JSON file that moves between machine, git and server, and cannot lie.

Reading checks everything that can be checked without an encoder: shapes, unit rows, the definition
hash, and that the certificate is what its method gives from the scores in the file. With an encoder
at hand, `check_matrix` holds the matrix against freshly encoded prompts.
"""

import base64
import binascii
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import ValidationError

from mcm import wire
from mcm.calibration import Calibration, Certificate, calibrate, manual
from mcm.definition import Definition, check_text, definition_from_json
from mcm.detector import Detector
from mcm.embeddings import Vectors
from mcm.errors import InvalidDefinition, InvalidDetectorFile, InvalidInput
from mcm.mondrian import Groups
from mcm.negatives import Negatives

SCHEMA_VERSION = 1
MATRIX_TOLERANCE = 1e-4
_CHECKED = (
    "false_alarm_rate",
    "confidence",
    "n",
    "k",
    "threshold",
    "expected_rate",
    "rate_interval",
    "concepts",
)


def write_detector_file(detector: Detector, encoder_name: str) -> str:
    """The detector as the text of a file: sorted, indented JSON, so that two versions can be compared."""
    data = to_file(detector, encoder_name).model_dump(mode="json")
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_detector_file(text: str | bytes) -> Detector:
    """The detector that `write_detector_file` wrote, number for number.

    Raises:
        InvalidDetectorFile: malformed, or it contradicts itself; one line says where.
    """
    return from_file(parse_detector_file(text))


def parse_detector_file(text: str | bytes) -> wire.DetectorFile:
    """The file's fields, each valid by itself; `from_file` checks that they agree.

    Raises:
        InvalidDetectorFile: not JSON, another schema version, or a field that is missing or wrong.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDetectorFile(f"the detector file is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidDetectorFile("a detector file is a JSON object, as `mcm detector export` writes it")
    version = data.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InvalidDetectorFile(
            f"the detector file has schema_version {version!r:.50}; "
            f"this version of mcm reads {SCHEMA_VERSION}"
        )
    return _validated(data)


def to_file(detector: Detector, encoder_name: str) -> wire.DetectorFile:
    """The detector in the shape of the HTTP contract. `encoder_name` is for people; the fingerprint binds."""
    certificate, groups = detector.calibration.certificate, detector.calibration.groups
    return wire.DetectorFile.model_validate(
        {
            "definition": detector.definition.to_json(),
            "encoder": {"name": encoder_name, "fingerprint": detector.fingerprint},
            "dim": detector.matrix.shape[1],
            "matrix": _base64(detector.matrix),
            "negatives": None if detector.negatives is None else _negatives_in_file(detector.negatives),
            # + 0.0 makes every zero positive: sorting may swap 0.0 and -0.0, and the text must be stable
            "calibration_scores": (detector.calibration.scores + 0.0).tolist(),
            "calibration_groups": None if groups is None else wire.Groups.model_validate(groups),
            "certificate": None if certificate is None else wire.Certificate.model_validate(certificate),
        }
    )


def from_file(file: wire.DetectorFile) -> Detector:
    """The detector of a file whose parts agree.

    Raises:
        InvalidDetectorFile: they do not, or the definition is wrong; one line says where.
    """
    try:
        definition = definition_from_json(file.definition.model_dump())
    except InvalidDefinition as error:
        raise InvalidDetectorFile(f"the detector file's definition is wrong: {error}") from error
    matrix = _matrix(file.matrix, len(definition.concepts), "concepts", file.dim)
    calibration = _calibration(file, definition)
    try:
        negatives = None if file.negatives is None else _negatives(file.negatives, file.dim)
        return Detector(definition, file.encoder.fingerprint, matrix, calibration, negatives)
    except InvalidDetectorFile:
        raise
    except InvalidInput as error:
        raise InvalidDetectorFile(f"the detector file's matrix is wrong: {error}") from error


def check_matrix(detector: Detector, fresh_matrix: Vectors) -> None:
    """Hold the matrix of a file against the one that its own encoder makes of its prompts, both (k, d).

    For its negatives, see `mcm.negatives_check`.

    Raises:
        InvalidDetectorFile: they differ by more than MATRIX_TOLERANCE somewhere.
    """
    if detector.matrix.shape != fresh_matrix.shape:
        raise InvalidDetectorFile(
            f"the detector file's matrix is {_shape(detector.matrix)}, "
            f"the encoder makes {_shape(fresh_matrix)}"
        )
    difference = np.abs(detector.matrix - fresh_matrix).max(axis=1)
    worst = int(difference.argmax())
    if not difference[worst] <= MATRIX_TOLERANCE:
        raise InvalidDetectorFile(
            f"the detector file's embedding of concept {detector.definition.names[worst]!r} differs by "
            f"{difference[worst]:.2g} from what its encoder makes of the prompts; create the detector again"
        )


def _validated(data: dict[str, Any]) -> wire.DetectorFile:
    try:
        return wire.DetectorFile.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidDetectorFile(f"the detector file is wrong at {where}: {first['msg']}") from error


def _base64(matrix: Vectors) -> str:
    return base64.b64encode(matrix.astype("<f4").tobytes()).decode("ascii")


def _negatives_in_file(negatives: Negatives) -> wire.NegativesInFile:
    return wire.NegativesInFile(
        words=list(negatives.words), groups=negatives.groups, matrix=_base64(negatives.matrix)
    )


def _negatives(given: wire.NegativesInFile, dim: int) -> Negatives:
    for word in given.words:
        check_text(word, "a negative")
    matrix = _matrix(given.matrix, len(given.words), "negatives", dim)
    return Negatives(tuple(given.words), matrix, given.groups)


def _matrix(text: str, rows: int, what: str, dim: int) -> Vectors:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidDetectorFile("the detector file's matrix is not base64") from error
    if len(data) != 4 * rows * dim:
        raise InvalidDetectorFile(
            f"the detector file's matrix has {len(data)} bytes; {rows} {what} of {dim} float32 numbers have "
            f"{4 * rows * dim}"
        )
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(rows, dim)


def _calibration(file: wire.DetectorFile, definition: Definition) -> Calibration:
    given = _scores(file, definition)
    if file.certificate is None:
        return given
    expected_hash = definition.hash(file.encoder.fingerprint)
    if file.certificate.definition_hash != expected_hash:
        raise InvalidDetectorFile(
            "the detector file's certificate belongs to another definition or encoder: its definition_hash "
            f"is not {expected_hash}; calibrate the detector again"
        )
    found = _recomputed(file.certificate, given)
    assert found.certificate is not None  # every method gives one
    return replace(found, certificate=_agreed(file.certificate, found.certificate))


def _scores(file: wire.DetectorFile, definition: Definition) -> Calibration:
    """The scores with their concepts, which must be the definition's."""
    groups = file.calibration_groups
    if groups is not None and not set(groups.concepts) <= set(definition.names):
        raise InvalidDetectorFile("the detector file's calibration has concepts that its definition lacks")
    kept = None if groups is None else Groups(tuple(groups.concepts), groups.minimum)
    try:
        return Calibration(np.asarray(file.calibration_scores, dtype=np.float64), groups=kept)
    except InvalidInput as error:
        raise InvalidDetectorFile(f"the detector file's calibration is wrong: {error}") from error


def _agreed(claimed: wire.Certificate, found: Certificate) -> Certificate:
    """The certificate that the scores give, if the file claims nothing else. Its words are always ours."""
    for name in _CHECKED:
        claim, truth = getattr(claimed, name), getattr(wire.Certificate.model_validate(found), name)
        if not _equal(claim, truth):
            raise InvalidDetectorFile(
                f"the detector file's certificate claims {name} {claim!r:.60}, but the method "
                f"{found.method!r} gives {truth!r:.60} from its {found.n} scores"
            )
    return replace(found, threshold=claimed.threshold, created_at=_utc(claimed.created_at))


def _recomputed(claimed: wire.Certificate, given: Calibration) -> Calibration:
    try:
        if claimed.method == "manual":
            return manual(claimed.threshold, claimed.definition_hash, given.scores, given.groups)
        return calibrate(
            given.scores,
            claimed.definition_hash,
            method=claimed.method,
            false_alarm_rate=math.nan if claimed.false_alarm_rate is None else claimed.false_alarm_rate,
            confidence=claimed.confidence,
            concepts=None if given.groups is None else given.groups.concepts,
        )
    except InvalidInput as error:
        raise InvalidDetectorFile(f"the detector file's certificate cannot be true: {error}") from error


def _equal(claimed: Any, given: Any) -> bool:
    """Equal up to what another version of numpy or scipy may change in the last digits."""
    if isinstance(claimed, wire.Answer) and isinstance(given, wire.Answer):
        claimed, given = tuple(dict(claimed).values()), tuple(dict(given).values())
    if isinstance(claimed, tuple | list) and isinstance(given, tuple | list):
        return len(claimed) == len(given) and all(map(_equal, claimed, given))
    if isinstance(claimed, float) and isinstance(given, float):
        return math.isclose(claimed, given, rel_tol=1e-9)
    return bool(claimed == given)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidDetectorFile(
            f"the detector file's certificate has an impossible date {moment}"
        ) from error


def _shape(matrix: Vectors) -> str:
    return " x ".join(map(str, matrix.shape))
