"""Calibrations and thresholds over HTTP, as API.md has them."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.calls import RED, as_json, calibrate, create, files
from tests.pictures import HTML, plain
from tests.problems import assert_problem, assert_problem_body

CERTIFICATE = {
    "threshold",
    "method",
    "false_alarm_rate",
    "confidence",
    "n",
    "k",
    "expected_rate",
    "rate_interval",
    "promise",
    "created_at",
    "definition_hash",
}
REDS = [plain((155 + i, i % 7, 0)) for i in range(40)]


def post(http: httpx.Client, name: str, **body: Any) -> httpx.Response:
    return http.post(f"/v1/detectors/{name}/calibrate", json=body)


def scores_of(http: httpx.Client, name: str, *contents: bytes) -> list[float]:
    answer = http.post(f"/v1/detectors/{name}/score", files=files(*contents)).json()
    return [result["score"] for result in answer["results"]]


def test_calibrating_with_images_sets_the_threshold_that_their_scores_give(
    http: httpx.Client, name: str
) -> None:
    detector = create(http, name)
    expected = sorted(scores_of(http, name, *REDS))
    response = http.post(f"/v1/detectors/{name}/calibrate", files=files(*REDS))
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == CERTIFICATE | {"detector", "revision", "warnings", "errors", "lowest"}
    assert (answer["detector"], answer["errors"], answer["warnings"]) == (name, [], [])
    assert answer["revision"] > detector["revision"]
    assert response.headers["etag"] == f'"{answer["revision"]}"'
    assert (answer["method"], answer["false_alarm_rate"], answer["confidence"]) == (
        "split-conformal",
        0.05,
        None,
    )
    assert (answer["n"], answer["k"]) == (40, 2)
    assert answer["threshold"] == expected[1]
    assert answer["expected_rate"] == 2 / 41
    low, high = answer["rate_interval"]
    assert 0 < low < 2 / 41 < high < 1
    assert "5 %" in answer["promise"]
    assert datetime.fromisoformat(answer["created_at"]).utcoffset() is not None
    assert answer["definition_hash"] == detector["definition_hash"]


def test_the_detector_shows_the_certificate_in_force(http: httpx.Client, name: str) -> None:
    create(http, name)
    answer = calibrate(http, name)
    detector = http.get(f"/v1/detectors/{name}").json()
    assert detector["certificate"] == {field: answer[field] for field in CERTIFICATE}
    assert detector["revision"] == answer["revision"]
    assert detector["warnings"] == []


def test_the_calibration_gives_back_its_scores_in_ascending_order(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    scores = [0.9, 0.1, 0.30000000000000004, 1e-300, -5, 0.5] * 10
    answer = post(http, name, scores=scores, definition_hash=detector["definition_hash"]).json()
    response = http.get(f"/v1/detectors/{name}/calibration")
    assert response.json() == {
        "detector": name,
        "revision": answer["revision"],
        "definition_hash": detector["definition_hash"],
        "scores": sorted(scores),
        "certificate": {field: answer[field] for field in CERTIFICATE},
    }
    assert response.headers["etag"] == f'"{answer["revision"]}"'


def test_a_detector_without_calibration_has_an_empty_one(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    calibration = http.get(f"/v1/detectors/{name}/calibration").json()
    assert calibration["scores"] == []
    assert calibration["certificate"] is None
    assert calibration["revision"] == detector["revision"]


def test_scores_posted_back_give_the_certificate_that_the_images_gave(http: httpx.Client, name: str) -> None:
    create(http, name)
    by_images = http.post(f"/v1/detectors/{name}/calibrate", files=files(*REDS)).json()
    scored = http.post(f"/v1/detectors/{name}/score", files=files(*REDS)).json()
    by_scores = post(
        http,
        name,
        scores=[result["score"] for result in scored["results"]],
        definition_hash=scored["definition_hash"],
    ).json()
    for changing in ("created_at", "revision", "lowest", "warnings"):
        del by_images[changing], by_scores[changing]
    assert by_scores == by_images


def test_bad_images_are_listed_and_n_counts_the_good_ones(http: httpx.Client, name: str) -> None:
    create(http, name)
    contents = [*REDS[:5], HTML, *REDS[5:], b""]
    response = http.post(f"/v1/detectors/{name}/calibrate", files=files(*contents))
    assert response.status_code == 200
    answer = response.json()
    assert answer["n"] == 40
    assert [(e["index"], e["name"]) for e in answer["errors"]] == [(5, "5.png"), (41, "41.png")]
    for entry in answer["errors"]:
        assert entry.keys() == {"index", "name", "error"}
        assert_problem_body(entry["error"])
        assert entry["error"]["instance"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("count", "rate", "needed"), [(1, 0.05, 19), (18, 0.05, 19), (5, 0.01, 99), (1, 0.29, 3)]
)
def test_too_few_for_the_promise_is_422_with_the_number_needed(
    http: httpx.Client, name: str, count: int, rate: float, needed: int
) -> None:
    detector = create(http, name)
    response = post(
        http,
        name,
        scores=[0.5] * count,
        definition_hash=detector["definition_hash"],
        false_alarm_rate=rate,
    )
    problem = assert_problem(response, 422, "too-few-scores")
    assert problem["needed"] == needed
    assert str(needed) in problem["detail"]
    assert http.get(f"/v1/detectors/{name}").json() == detector


def test_exactly_enough_is_enough(http: httpx.Client, name: str) -> None:
    assert create(http, name)
    assert calibrate(http, name, 19)["k"] == 1


def test_the_paper_method_promises_nothing_and_says_so(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    hash_ = detector["definition_hash"]
    answer = post(http, name, scores=[0.1, 0.2, 0.3], definition_hash=hash_, method="paper").json()
    assert answer["method"] == "paper"
    assert answer["threshold"] == pytest.approx(0.11)
    assert (answer["k"], answer["expected_rate"], answer["rate_interval"]) == (None, None, None)
    assert answer["promise"].startswith("None")


def test_options_may_come_in_a_form(http: httpx.Client, name: str) -> None:
    create(http, name)
    form = {"method": "split-conformal", "false_alarm_rate": "0.1", "confidence": "0.9"}
    answer = http.post(f"/v1/detectors/{name}/calibrate", files=files(*REDS), data=form).json()
    assert (answer["false_alarm_rate"], answer["k"]) == (0.1, 4)


def test_scores_without_the_hash_that_made_them_are_422(http: httpx.Client, name: str) -> None:
    create(http, name)
    problem = assert_problem(post(http, name, scores=[0.5] * 40), 422, "invalid-request")
    assert "definition_hash" in problem["detail"]


def test_scores_made_under_another_definition_are_409(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    old = detector["definition_hash"]
    http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "white"]})
    problem = assert_problem(
        post(http, name, scores=[0.5] * 40, definition_hash=old), 409, "definition-mismatch"
    )
    assert old in problem["detail"]
    assert http.get(f"/v1/detectors/{name}").json()["certificate"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": []},
        {"scores": ["0.5"] * 40},
        {"scores": [True] * 40},
        {"scores": [None] * 40},
        {"scores": [[0.5]] * 40},
        {"scores": 0.5},
        {"definition_hash": 1},
        {"method": "manual"},
        {"method": ""},
        {"false_alarm_rate": 0},
        {"false_alarm_rate": 1},
        {"false_alarm_rate": -0.1},
        {"false_alarm_rate": "0.05"},
        {"confidence": 1},
        {"confidence": 0},
        {"append": 1},
        {"per_concept": True},
        {"concepts": ["red"]},
        {"concepts": ["purple"] * 40},
        {"concepts": ["red"] * 40, "per_concept": True, "method": "paper"},
        {"require_verdict": True},
        as_json(RED),
    ],
)
def test_a_wrong_calibration_is_refused_and_changes_nothing(
    http: httpx.Client, name: str, wrong: dict[str, Any]
) -> None:
    create(http, name)
    calibrate(http, name)
    before = http.get(f"/v1/detectors/{name}/calibration").json()
    body = {"scores": [0.5] * 40, "definition_hash": before["definition_hash"]} | wrong
    assert_problem(post(http, name, **body), 422, "invalid-request")
    assert http.get(f"/v1/detectors/{name}/calibration").json() == before


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_scores_that_are_not_finite_are_refused(http: httpx.Client, name: str, score: str) -> None:
    detector = create(http, name)
    content = (
        f'{{"scores": [{score}, {"0.5, " * 40} 0.5], "definition_hash": "{detector["definition_hash"]}"}}'
    )
    response = http.post(
        f"/v1/detectors/{name}/calibrate", content=content, headers={"Content-Type": "application/json"}
    )
    assert_problem(response, 422, "invalid-request")


def test_calibrating_again_replaces_the_calibration(http: httpx.Client, name: str) -> None:
    create(http, name)
    first = calibrate(http, name)
    second = calibrate(http, name, 60)
    assert second["n"] == 60
    assert second["revision"] > first["revision"]
    assert len(http.get(f"/v1/detectors/{name}/calibration").json()["scores"]) == 60


# ---- thresholds by hand


def test_a_threshold_by_hand_has_a_certificate_that_promises_nothing(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    response = http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.25})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == CERTIFICATE | {"detector", "revision", "warnings", "errors"}
    assert (answer["threshold"], answer["method"], answer["n"]) == (0.25, "manual", 0)
    promises = ("false_alarm_rate", "confidence", "k", "expected_rate", "rate_interval", "promise")
    assert {answer[field] for field in promises} == {None}
    assert answer["revision"] > detector["revision"]
    assert response.headers["etag"] == f'"{answer["revision"]}"'
    assert answer["definition_hash"] == detector["definition_hash"]


def test_a_threshold_by_hand_keeps_the_scores_and_so_the_p_values(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)

    def p_value() -> Any:
        answer = http.post(f"/v1/detectors/{name}/score", files=files(RED)).json()
        return answer["results"][0]["p_value"]

    before = p_value()
    answer = http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 7}).json()
    assert answer["n"] == 40
    assert p_value() == before is not None


def test_deleting_the_threshold_leaves_scores_and_p_values(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    response = http.delete(f"/v1/detectors/{name}/threshold")
    assert (response.status_code, response.content) == (204, b"")
    calibration = http.get(f"/v1/detectors/{name}/calibration").json()
    assert len(calibration["scores"]) == 40
    assert calibration["certificate"] is None
    result = http.post(f"/v1/detectors/{name}/score", files=files(RED)).json()["results"][0]
    assert result["is_ood"] is None
    assert result["p_value"] is not None


def test_deleting_the_calibration_removes_both(http: httpx.Client, name: str) -> None:
    create(http, name)
    before = calibrate(http, name)
    response = http.delete(f"/v1/detectors/{name}/calibration")
    assert (response.status_code, response.content) == (204, b"")
    calibration = http.get(f"/v1/detectors/{name}/calibration").json()
    assert (calibration["scores"], calibration["certificate"]) == ([], None)
    assert calibration["revision"] > before["revision"]
    result = http.post(f"/v1/detectors/{name}/score", files=files(RED)).json()["results"][0]
    assert (result["is_ood"], result["p_value"]) == (None, None)


@pytest.mark.parametrize("what", ["threshold", "calibration"])
def test_deleting_what_is_not_there_is_204_and_changes_nothing(
    http: httpx.Client, name: str, what: str
) -> None:
    before = create(http, name)
    assert http.delete(f"/v1/detectors/{name}/{what}").status_code == 204
    assert http.get(f"/v1/detectors/{name}").json() == before


@pytest.mark.parametrize("content", ["{}", "[]", "0.5", "null", '{"threshold": null}', '{"threshold": "1"}',
    '{"threshold": true}', '{"threshold": NaN}', '{"threshold": 1e999}', '{"threshold": [1]}',
    '{"threshold": 1, "confidence": 0.9}'])  # fmt: skip
def test_a_wrong_threshold_is_refused(http: httpx.Client, name: str, content: str) -> None:
    before = create(http, name)
    headers = {"Content-Type": "application/json"}
    response = http.put(f"/v1/detectors/{name}/threshold", content=content, headers=headers)
    assert_problem(response, 422, "invalid-request")
    assert http.get(f"/v1/detectors/{name}").json() == before


def test_a_threshold_can_change_without_a_new_detector_and_scores_stay(http: httpx.Client, name: str) -> None:
    create(http, name)
    before = scores_of(http, name, *REDS)
    for threshold in (0.0, 1.0, -1e9):
        http.put(f"/v1/detectors/{name}/threshold", json={"threshold": threshold})
        answer = http.post(f"/v1/detectors/{name}/score", files=files(*REDS)).json()
        assert [result["score"] for result in answer["results"]] == before
        assert [result["is_ood"] for result in answer["results"]] == [s < threshold for s in before]
