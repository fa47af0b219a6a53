"""pac, thresholds per concept, adding scores, what to look at, and the FDR, over HTTP."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.calls import RED, calibrate, create, files
from tests.pictures import HTML, plain
from tests.problems import assert_problem

REDS = [plain((255 - i, i // 2, 0)) for i in range(60)]
GREENS = [plain((i, 255 - i, 0)) for i in range(60)]
BLUES = [plain((0, 0, 255 - i)) for i in range(20)]
JUMBLE = {"temperature": 0.5}


def post(http: httpx.Client, name: str, *contents: bytes, **options: Any) -> dict[str, Any]:
    """Calibrate with images."""
    response = http.post(f"/v1/detectors/{name}/calibrate", files=files(*contents), data=options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def post_scores(http: httpx.Client, name: str, scores: list[float], **options: Any) -> httpx.Response:
    definition_hash = http.get(f"/v1/detectors/{name}").json()["definition_hash"]
    body = {"scores": scores, "definition_hash": definition_hash} | options
    return http.post(f"/v1/detectors/{name}/calibrate", json=body)


def score(http: httpx.Client, name: str, *contents: bytes, **options: Any) -> dict[str, Any]:
    response = http.post(f"/v1/detectors/{name}/score", files=files(*contents), data=options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def codes(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


# ---- pac


def test_pac_keeps_its_confidence(http: httpx.Client, name: str) -> None:
    create(http, name)
    scores = [i / 1000 for i in range(100)]
    answer = post_scores(http, name, scores, method="pac").json()
    assert (answer["method"], answer["confidence"], answer["n"], answer["k"]) == ("pac", 0.95, 100, 2)
    assert answer["threshold"] == scores[1]
    assert answer["promise"].startswith("With 95 % confidence, at most 5 %")
    surer = post_scores(http, name, scores, method="pac", confidence=0.99, false_alarm_rate=0.1).json()
    assert (surer["confidence"], surer["k"]) == (0.99, 4)


def test_pac_says_how_many_images_are_missing(http: httpx.Client, name: str) -> None:
    create(http, name)
    problem = assert_problem(post_scores(http, name, [0.5] * 40, method="pac"), 422, "too-few-scores")
    assert problem["needed"] == 59
    assert "19 more" in problem["detail"]


# ---- per concept


def test_concepts_with_enough_images_have_thresholds_of_their_own(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green", "blue"], **JUMBLE)
    answer = post(http, name, *REDS, *GREENS, *BLUES[:5], per_concept="true")
    assert [(c["concept"], c["n"], c["k"]) for c in answer["concepts"]] == [("green", 60, 3), ("red", 60, 3)]
    assert answer["n"] == 125
    own = {c["concept"]: c["threshold"] for c in answer["concepts"]}
    results = score(http, name, *REDS, *GREENS, *BLUES)["results"]
    for result in results:
        assert result["threshold"] == own.get(result["concept"], answer["threshold"])
        assert result["is_ood"] == (result["score"] < result["threshold"])
    assert sum(result["is_ood"] for result in results[:60]) == 2
    assert sum(result["is_ood"] for result in results[60:120]) == 2
    assert http.get(f"/v1/detectors/{name}").json()["certificate"]["concepts"] == answer["concepts"]


def test_p_values_are_per_concept_and_outlive_the_threshold(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    post(http, name, *REDS, *GREENS, per_concept="true")
    before = [result["p_value"] for result in score(http, name, *REDS)["results"]]
    assert sorted(before) == pytest.approx([i / 61 for i in range(2, 62)])
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.5})
    assert [result["p_value"] for result in score(http, name, *REDS)["results"]] == before
    http.delete(f"/v1/detectors/{name}/threshold")
    assert [result["p_value"] for result in score(http, name, *REDS)["results"]] == before


def test_the_calibration_gives_back_scores_with_their_concepts_that_calibrate_again(
    http: httpx.Client, name: str
) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    first = post(http, name, *REDS, *GREENS, per_concept="true")
    kept = http.get(f"/v1/detectors/{name}/calibration").json()
    assert len(kept["groups"]["concepts"]) == len(kept["scores"]) == 120
    again = post_scores(http, name, kept["scores"], concepts=kept["groups"]["concepts"], per_concept=True)
    assert again.json()["concepts"] == first["concepts"]


def test_a_file_carries_the_thresholds_of_concepts(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    post(http, name, *REDS, *GREENS, per_concept="true")
    file = http.get(f"/v1/detectors/{name}/file").json()
    assert http.put(f"/v1/detectors/{name}-copy/file", json=file).status_code == 201
    mine, its = (score(http, n, *REDS[:5], *BLUES)["results"] for n in (name, f"{name}-copy"))
    assert mine == its


def test_a_plain_calibration_says_nothing_of_concepts(http: httpx.Client, name: str) -> None:
    create(http, name)
    assert "concepts" not in calibrate(http, name)
    assert "groups" not in http.get(f"/v1/detectors/{name}/calibration").json()
    (result,) = score(http, name, RED)["results"]
    assert "threshold" not in result
    assert "calibration_groups" not in http.get(f"/v1/detectors/{name}/file").json()


# ---- adding


def test_scores_are_added_and_options_that_are_left_out_stay(http: httpx.Client, name: str) -> None:
    create(http, name)
    old, new = [i / 1000 for i in range(100)], [0.5 + i / 1000 for i in range(50)]
    post_scores(http, name, old, method="pac", false_alarm_rate=0.1, confidence=0.9)
    answer = post_scores(http, name, new, append=True).json()
    assert (answer["n"], answer["method"]) == (150, "pac")
    assert (answer["false_alarm_rate"], answer["confidence"]) == (0.1, 0.9)
    assert http.get(f"/v1/detectors/{name}/calibration").json()["scores"] == sorted(old + new)
    changed = post_scores(http, name, [0.7], append=True, method="split-conformal").json()
    assert (changed["n"], changed["method"], changed["confidence"]) == (151, "split-conformal", None)


def test_adding_to_nothing_is_calibrating(http: httpx.Client, name: str) -> None:
    create(http, name)
    assert post(http, name, *REDS[:30], append="true")["n"] == 30


def test_too_few_to_add_say_how_many_are_missing_from_all(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name, 20)
    response = post_scores(http, name, [0.5] * 10, append=True, false_alarm_rate=0.01)
    problem = assert_problem(response, 422, "too-few-scores")
    assert (problem["needed"], "30 in-distribution scores" in problem["detail"]) == (99, True)
    assert len(http.get(f"/v1/detectors/{name}/calibration").json()["scores"]) == 20


def test_images_are_added_per_concept_to_a_calibration_per_concept(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    post(http, name, *REDS, *GREENS[:10], per_concept="true")
    answer = post(http, name, *GREENS[10:], append="true")
    assert [(c["concept"], c["n"]) for c in answer["concepts"]] == [("green", 60), ("red", 60)]
    response = http.post(
        f"/v1/detectors/{name}/calibrate", files=files(RED), data={"append": "true", "per_concept": "false"}
    )
    assert "with all its scores or with none" in assert_problem(response, 422, "invalid-request")["detail"]


def test_the_same_scores_added_twice_are_noticed(http: httpx.Client, name: str) -> None:
    create(http, name)
    assert codes(post(http, name, *REDS)) == []
    twice = post(http, name, *REDS, append="true")
    assert codes(twice) == ["repeated-scores"]
    assert twice["n"] == 120


# ---- what to look at


def test_copies_among_the_images_are_named(http: httpx.Client, name: str) -> None:
    create(http, name)
    answer = post(http, name, *REDS, REDS[3], b"", b"", HTML, HTML)
    assert len(answer["errors"]) == 4
    (warning,) = answer["warnings"]
    assert warning["code"] == "duplicate-images"
    assert warning["message"].startswith("1 calibration images are copies of others (3.png = 60.png)")


def test_the_images_with_the_lowest_scores_are_listed(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    answer = post(http, name, HTML, *REDS, BLUES[0])
    results = score(http, name, HTML, *REDS, BLUES[0])["results"]
    good = sorted((r["score"], r["index"], r["name"]) for r in results if r["score"] is not None)
    assert [(x["score"], x["index"], x["name"]) for x in answer["lowest"]] == good[:10]
    assert answer["lowest"][0]["name"] == "61.png"
    posted = post_scores(http, name, [0.5] * 30 + [0.1, 0.2]).json()
    assert posted["lowest"][:2] == [
        {"index": 30, "name": None, "score": 0.1},
        {"index": 31, "name": None, "score": 0.2},
    ]


def test_new_images_are_measured_against_the_calibration_before_and_never_against_themselves(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    rng = np.random.default_rng(0)
    old, same, odd = (rng.normal(mean, 1, 500).tolist() for mean in (0, 0, -9))
    assert "ood_share" not in post_scores(http, name, old).json()
    assert "ood_share" not in post_scores(http, name, old).json()
    alike = post_scores(http, name, same).json()
    assert alike["ood_share"] < 0.15
    assert codes(alike) == []
    mixed = post_scores(
        http, name, old[:350] + odd[:150]
    ).json()  # most of these are new to the scores before
    assert mixed["ood_share"] == pytest.approx(0.3, abs=0.1)
    assert codes(mixed) == ["ood-among-calibration-images"]


# ---- the false discovery rate


def test_discoveries_keep_the_fdr_over_the_images_of_a_request(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **JUMBLE)
    post(http, name, *REDS)
    answer = score(http, name, *BLUES, *REDS[:5], HTML, fdr="0.5")
    assert answer["fdr"] == {
        "q": 0.5,
        "method": "benjamini-hochberg",
        "m": 25,
        "discoveries": 20,
        "smallest_possible": 1,
    }
    assert [result.get("discovery") for result in answer["results"]] == [True] * 20 + [False] * 5 + [None]
    assert answer["warnings"] == []
    storey = score(http, name, *BLUES, *REDS[:5], fdr="0.5", fdr_method="storey")
    assert storey["fdr"]["method"] == "storey"


def test_too_few_calibration_scores_for_few_discoveries_are_warned_of(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    answer = score(http, name, *REDS[:10], fdr="0.1")
    assert answer["fdr"]["smallest_possible"] == 3  # ceil(10 / (0.1 * 41))
    assert codes(answer) == ["few-calibration-scores"]
    none = score(http, name, *REDS[:10], fdr="0.01")
    assert none["fdr"]["smallest_possible"] is None
    assert "no discovery is possible" in none["warnings"][0]["message"]


def test_every_detector_has_discoveries_of_its_own(http: httpx.Client, name: str) -> None:
    for each in (name, f"{name}-b"):
        create(http, each)
        calibrate(http, each)
    form = {"detectors": [name, f"{name}-b"], "fdr": "0.2"}
    answers = http.post("/v1/score", files=files(RED), data=form).json()["answers"]
    assert [answer["fdr"]["m"] for answer in answers] == [1, 1]


def test_the_fdr_needs_calibration_scores(http: httpx.Client, name: str) -> None:
    create(http, name)
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.5})
    url = f"/v1/detectors/{name}/score"
    problem = assert_problem(http.post(url, files=files(RED), data={"fdr": "0.1"}), 409, "not-calibrated")
    assert "calibrate with in-distribution images" in problem["detail"]
    form = {"concepts": ["red", "green"], "fdr": "0.1"}
    assert_problem(http.post("/v1/score", files=files(RED), data=form), 409, "not-calibrated")


@pytest.mark.parametrize(
    "wrong", [{"fdr": "0"}, {"fdr": "1"}, {"fdr": "x"}, {"fdr": "0.1", "fdr_method": "bh"}]
)
def test_a_wrong_fdr_is_refused(http: httpx.Client, name: str, wrong: dict[str, str]) -> None:
    create(http, name)
    calibrate(http, name)
    response = http.post(f"/v1/detectors/{name}/score", files=files(RED), data=wrong)
    assert_problem(response, 422, "invalid-request")


def test_without_fdr_nothing_is_said_of_it(http: httpx.Client, name: str) -> None:
    create(http, name)
    calibrate(http, name)
    answer = score(http, name, RED)
    assert "fdr" not in answer
    assert "discovery" not in answer["results"][0]
