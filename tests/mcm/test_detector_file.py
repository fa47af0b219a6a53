import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mcm import Concept, Detector, build_detector, calibrate, define, manual, unit_rows
from mcm.detector_file import (
    check_matrix,
    from_file,
    parse_detector_file,
    read_detector_file,
    to_file,
    write_detector_file,
)
from mcm.errors import InvalidDetectorFile
from tests.fakes import ColourEncoder, PatchColourEncoder

GOOD_SCORES = np.linspace(0.3, 0.5, 40)


@cache
def detector(method: str | None = "split-conformal") -> Detector:
    plain = build_detector(
        define(["red", Concept("sea", ("blue water", "green water"))], temperature=0.5), ColourEncoder()
    )
    if method is None:
        return plain
    if method == "manual":
        return replace(plain, calibration=manual(0.4, plain.definition_hash, GOOD_SCORES))
    return replace(plain, calibration=calibrate(GOOD_SCORES, plain.definition_hash, method=method))


def same(a: Detector, b: Detector) -> bool:
    return (
        a.definition == b.definition
        and a.fingerprint == b.fingerprint
        and a.matrix.dtype == b.matrix.dtype
        and np.array_equal(a.matrix, b.matrix)
        and np.array_equal(a.calibration.scores, b.calibration.scores)
        and a.calibration.certificate == b.calibration.certificate
    )


def test_a_local_weight_is_in_the_file_of_a_score_that_has_one() -> None:
    local = build_detector(define(["red", "sea"], score="gl-mcm", local_weight=0.25), PatchColourEncoder())
    calibrated = replace(local, calibration=calibrate(GOOD_SCORES, local.definition_hash))
    text = write_detector_file(calibrated, "colours")
    assert json.loads(text)["definition"]["local_weight"] == 0.25
    assert same(read_detector_file(text), calibrated)
    assert "local_weight" not in json.loads(write_detector_file(detector(), "colours"))["definition"]


def changed(**fields: Any) -> str:
    data = json.loads(write_detector_file(detector(), "colours"))
    return json.dumps({**data, **fields})


def with_certificate(made_by: str = "split-conformal", /, **fields: Any) -> str:
    data = json.loads(write_detector_file(detector(made_by), "colours"))
    data["certificate"].update(fields)
    return json.dumps(data)


def base64_matrix(matrix: Any) -> str:
    return base64.b64encode(np.asarray(matrix, dtype="<f4").tobytes()).decode()


@pytest.mark.parametrize("method", [None, "split-conformal", "paper", "manual"])
def test_a_detector_survives_the_file_number_for_number(method: str | None) -> None:
    text = write_detector_file(detector(method), "colours")
    assert same(read_detector_file(text), detector(method))
    assert same(read_detector_file(text.encode()), detector(method))


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8).filter(str.strip)
scores = st.lists(st.floats(-1e300, 1e300), min_size=20, max_size=60)


@settings(deadline=None, max_examples=60)
@given(
    concepts=st.lists(names, min_size=2, max_size=4),
    rows=arrays(np.float32, (4, 5), elements=st.floats(0.125, 1, width=32)),
    calibration_scores=scores,
    rate=st.floats(0.05, 0.9),
    temperature=st.floats(1e-6, 1e6),
)
def test_any_detector_survives_the_file(
    concepts: list[str], rows: Any, calibration_scores: list[float], rate: float, temperature: float
) -> None:
    definition = define(concepts, templates=["{} photo", "a {}"], score="energy", temperature=temperature)
    plain = Detector(definition, "fingerprint", unit_rows(rows[: len(concepts)]))
    found = calibrate(calibration_scores, plain.definition_hash, false_alarm_rate=rate)
    original = replace(plain, calibration=found)
    text = write_detector_file(original, "some encoder")
    assert same(original, read_detector_file(text))
    assert write_detector_file(read_detector_file(text), "some encoder") == text


@settings(deadline=None)
@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_what_is_no_detector_file_is_refused_in_one_line(content: str | bytes) -> None:
    with pytest.raises(InvalidDetectorFile) as refusal:
        read_detector_file(content)
    assert len(str(refusal.value).splitlines()) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
certificate_fields = sorted(json.loads(write_detector_file(detector(), "colours"))["certificate"])
file_fields = sorted(json.loads(write_detector_file(detector(), "colours")))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_change_of_any_field_is_read_or_refused_but_never_another_error(data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        text = with_certificate(**{data.draw(st.sampled_from(certificate_fields)): data.draw(json_values)})
    else:
        text = changed(**{data.draw(st.sampled_from(file_fields)): data.draw(json_values)})
    try:
        read_detector_file(text)
    except InvalidDetectorFile as refusal:
        assert len(str(refusal).splitlines()) == 1  # noqa: PT017


def test_the_file_is_stable_sorted_and_readable_for_people() -> None:
    text = write_detector_file(detector(), "colours")
    data = json.loads(text)
    assert list(data) == sorted(data)
    assert text == write_detector_file(read_detector_file(text), "colours")
    assert text.endswith("}\n")
    assert '      "red",\n' in text
    assert data["encoder"] == {"fingerprint": "colours-1", "name": "colours"}


def test_names_are_written_as_they_read() -> None:
    sea = build_detector(define(["Öl", "海"]), ColourEncoder())
    text = write_detector_file(sea, "colours")
    assert '"海"' in text
    assert read_detector_file(text).definition.names == ("Öl", "海")


def test_the_matrix_is_little_endian_float32_in_base64() -> None:
    original = detector()
    data = json.loads(write_detector_file(original, "colours"))
    stored = np.frombuffer(base64.b64decode(data["matrix"]), dtype="<f4").reshape(-1, data["dim"])
    np.testing.assert_array_equal(stored, original.matrix)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "schema_version None; this version of mcm reads 1"),
        (changed(schema_version=2), "schema_version 2; this version of mcm reads 1"),
        (changed(schema_version=True), "schema_version True"),
        (changed(surprise=1), "wrong at surprise"),
        (changed(dim=0), "wrong at dim"),
        (changed(definition={"concepts": []}), "wrong at definition.concepts"),
        (changed(definition={"concepts": ["a\x00", "b"]}), "control characters"),
        (changed(definition={"concepts": ["a"]}), "one concept"),
        (changed(definition={"concepts": ["a", "b"], "templates": ["none"]}), "must contain {}"),
        (changed(calibration_scores=[float("nan")]), "wrong at calibration_scores.0"),
        (changed(matrix="%%%"), "not base64"),
        (changed(matrix="é"), "not base64"),
        (changed(matrix="AAAA"), "has 3 bytes; 2 concepts of 16 float32 numbers have 128"),
        (changed(dim=15), "2 concepts of 15 float32 numbers have 120"),
        (changed(matrix=base64_matrix([[2.0] + [0] * 15] * 2)), "must have length 1"),
        (changed(matrix=base64_matrix([[1] + [0] * 15, [0] * 16])), "must have length 1"),
        (changed(matrix=base64_matrix([[np.nan] * 16] * 2)), "must have length 1"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(text: str | bytes, part: str) -> None:
    with pytest.raises(InvalidDetectorFile, match=r".") as refusal:
        read_detector_file(text)
    assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (with_certificate(definition_hash="0" * 64), "belongs to another definition or encoder"),
        (changed(encoder={"name": "colours", "fingerprint": "colours-2"}), "another definition or encoder"),
        (with_certificate(n=39), "claims n 39"),
        (changed(calibration_scores=[]), "cannot be true"),
        (changed(calibration_scores=GOOD_SCORES[1:].tolist()), "claims n 40"),
        (with_certificate(threshold=0.2), "claims threshold 0.2"),
        (with_certificate(threshold=float("inf")), "claims threshold inf"),
        (with_certificate(false_alarm_rate=0.04), "claims"),
        (with_certificate(false_alarm_rate=None), "cannot be true"),
        (with_certificate(n=10**400), "claims n 1000"),
        (with_certificate(false_alarm_rate=5e-324), "cannot be true"),
        (with_certificate(k=3), "claims k 3"),
        (with_certificate(k=None), "claims k None"),
        (with_certificate(expected_rate=0.001), "claims expected_rate"),
        (with_certificate(rate_interval=[0.0, 0.001]), "claims rate_interval"),
        (with_certificate(confidence=0.99), "claims confidence"),
        (with_certificate(method="magic"), "no calibration method 'magic'"),
        (with_certificate(method="manual"), "claims false_alarm_rate"),
        (with_certificate("paper", threshold=0.3), "claims threshold 0.3"),
        (with_certificate("manual", n=0), "claims n 0"),
        (with_certificate("manual", threshold=float("nan")), "must be a finite number"),
        (with_certificate("manual", expected_rate=0.01), "claims expected_rate"),
        (with_certificate(created_at="0001-01-01T00:00:00+14:00"), "impossible date"),
    ],
)
def test_a_certificate_that_its_scores_do_not_give_is_refused(text: str, part: str) -> None:
    with pytest.raises(InvalidDetectorFile) as refusal:
        read_detector_file(text)
    assert part in str(refusal.value)


def test_a_forged_promise_is_replaced_by_what_the_method_promises() -> None:
    forged = read_detector_file(with_certificate(promise="Never wrong."))
    original = detector().calibration.certificate
    assert forged.calibration.certificate is not None
    assert original is not None
    assert forged.calibration.certificate.promise == original.promise


def test_a_time_without_a_zone_is_taken_as_utc() -> None:
    found = read_detector_file(with_certificate(created_at="2026-01-02T03:04:05")).calibration.certificate
    assert found is not None
    assert found.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_scores_in_any_order_give_the_same_calibration() -> None:
    shuffled = read_detector_file(changed(calibration_scores=GOOD_SCORES[::-1].tolist()))
    np.testing.assert_array_equal(shuffled.calibration.scores, GOOD_SCORES)


def test_scores_without_a_threshold_go_on_giving_p_values() -> None:
    found = read_detector_file(changed(certificate=None))
    assert found.threshold is None
    assert found.calibration.p_values([0.0]) == [1 / 41]


def test_the_parts_are_the_http_contract_s() -> None:
    original = detector()
    file = parse_detector_file(write_detector_file(original, "colours"))
    assert file == to_file(original, "colours")
    assert file.encoder.name == "colours"
    assert same(from_file(file), original)


def test_a_matrix_as_the_encoder_makes_it_passes() -> None:
    original = detector()
    check_matrix(original, original.matrix + np.float32(5e-5))


def test_a_forged_matrix_is_refused_and_the_concept_named() -> None:
    original = detector()
    forged = replace(original, matrix=original.matrix[::-1].copy())
    with pytest.raises(InvalidDetectorFile, match="embedding of concept 'red'"):
        check_matrix(forged, original.matrix)


def test_a_matrix_with_a_small_lie_in_one_place_is_refused() -> None:
    original = detector()
    lie = original.matrix.copy()
    lie[1, 3] += 2e-4
    with pytest.raises(InvalidDetectorFile, match=r"concept 'sea' differs by 0\.0002"):
        check_matrix(replace(original, matrix=lie), original.matrix)


def test_a_matrix_of_another_shape_is_refused() -> None:
    original = detector()
    with pytest.raises(InvalidDetectorFile, match="2 x 16, the encoder makes 2 x 8"):
        check_matrix(original, original.matrix[:, :8])


def by_concept() -> Detector:
    plain = detector(None)
    concepts = ["red", "sea"] * 20
    calibration = calibrate(GOOD_SCORES, plain.definition_hash, concepts=concepts)
    return replace(plain, calibration=calibration)


def test_thresholds_and_scores_by_concept_survive_the_file() -> None:
    before = by_concept()
    after = read_detector_file(write_detector_file(before, "colours"))
    assert same(before, after)
    assert after.calibration.groups == before.calibration.groups
    assert after.calibration.by_concept


def test_a_file_without_concepts_of_scores_is_as_it_was_before_there_were_any() -> None:
    data = json.loads(write_detector_file(detector(), "colours"))
    assert "calibration_groups" not in data
    assert "concepts" not in data["certificate"]


def forged(change: Callable[[dict[str, Any]], object]) -> str:
    data: dict[str, Any] = json.loads(write_detector_file(by_concept(), "colours"))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda data: data["certificate"]["concepts"][0].update(threshold=0.1), "claims concepts"),
        (lambda data: data["certificate"]["concepts"].pop(), "claims concepts"),
        (lambda data: data["calibration_groups"].update(concepts=["red"] * 40), "claims concepts"),
        (lambda data: data["calibration_groups"].update(concepts=["red"] * 39), "as many concepts"),
        (lambda data: data["calibration_groups"]["concepts"].__setitem__(0, "sky"), "definition lacks"),
        (lambda data: data["calibration_groups"].update(minimum=0), "calibration_groups.minimum"),
        (lambda data: data.pop("calibration_groups"), "claims concepts"),
    ],
)
def test_forged_thresholds_of_concepts_are_refused(
    change: Callable[[dict[str, Any]], object], part: str
) -> None:
    with pytest.raises(InvalidDetectorFile, match=part):
        read_detector_file(forged(change))


def test_how_many_scores_make_a_pool_is_the_methods_to_say() -> None:
    read = read_detector_file(forged(lambda data: data["calibration_groups"].update(minimum=30)))
    assert read.calibration.groups == by_concept().calibration.groups
