"""Scoring over HTTP, as API.md has it: with a detector, in one shot, with many detectors; embeddings."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from mcm.detector_file import read_detector_file
from tests.calls import RED, as_json, calibrate, create, files
from tests.pictures import HTML, encode, noise, plain, scene, truncated
from tests.problems import assert_problem, assert_problem_body

GREEN, BLUE = plain("lime"), plain("blue")
ANSWER = {
    "detector",
    "revision",
    "definition_hash",
    "model",
    "score_name",
    "threshold",
    "warnings",
    "results",
}
RESULT = {"index", "name", "score", "lift", "p_value", "is_ood", "concept", "top", "error"}
ONE = {"embeddings": [[1.0] * 16], "fingerprint": "colours-1"}


def score(http: httpx.Client, name: str, *contents: bytes, **options: Any) -> Any:
    response = http.post(f"/v1/detectors/{name}/score", files=files(*contents), data=options)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_score_answer_has_every_field(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    answer = score(http, name, RED)
    assert answer.keys() == ANSWER
    assert answer["detector"] == name
    assert answer["revision"] == detector["revision"]
    assert answer["definition_hash"] == detector["definition_hash"]
    assert answer["model"] == {"name": "colours", "fingerprint": "colours-1"}
    assert answer["score_name"] == "mcm"
    assert answer["threshold"] is None
    assert answer["warnings"] == []
    (result,) = answer["results"]
    assert result.keys() == RESULT
    assert (result["index"], result["name"], result["concept"]) == (0, "0.png", "red")
    assert result["lift"] == 3 * result["score"]
    assert (result["p_value"], result["is_ood"], result["error"]) == (None, None, None)


def test_top_holds_the_best_concepts_with_similarity_and_probability(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green", "blue", "white", "black"])
    (result,) = score(http, name, RED)["results"]
    assert len(result["top"]) == 3
    assert [match.keys() for match in result["top"]] == [{"concept", "similarity", "probability"}] * 3
    assert result["top"][0]["concept"] == "red"
    assert result["top"][0]["probability"] == result["score"]
    similarities = [match["similarity"] for match in result["top"]]
    assert similarities == sorted(similarities, reverse=True)


@pytest.mark.parametrize(("top_k", "found"), [(0, 0), (1, 1), (2, 2), (3, 3), (100, 3)])
def test_top_k_may_be_none_or_more_than_there_are(
    http: httpx.Client, name: str, top_k: int, found: int
) -> None:
    create(http, name)
    assert len(score(http, name, RED, top_k=top_k)["results"][0]["top"]) == found


@pytest.mark.parametrize("name_of_score", ["max-logit", "energy", "entropy", "variance"])
def test_only_mcm_has_a_lift(http: httpx.Client, name: str, name_of_score: str) -> None:
    create(http, name, score=name_of_score)
    answer = score(http, name, RED)
    assert answer["score_name"] == name_of_score
    assert answer["results"][0]["lift"] is None


def test_json_and_multipart_give_the_same_answer(http: httpx.Client, name: str) -> None:
    create(http, name)
    contents = (RED, HTML, encode(scene(), "JPEG"))
    multipart = score(http, name, *contents, top_k=2)
    as_body = http.post(f"/v1/detectors/{name}/score", json=as_json(*contents) | {"top_k": 2}).json()
    for answer in (multipart, as_body):
        del answer["results"][1]["error"]["instance"]
    assert as_body == multipart


def test_scores_in_json_are_the_float64_that_a_local_judge_gives(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "owl", "green", "kiwi"], temperature=0.07)
    calibrate(http, name)
    contents = [encode(scene((16 + i, 16)).rotate(i * 9), "PNG") for i in range(20)]
    embedded = http.post("/v1/embed", files=files(*contents)).json()
    embeddings = np.array([result["embedding"] for result in embedded["results"]], dtype=np.float32)
    detector = read_detector_file(http.get(f"/v1/detectors/{name}/file").text)
    verdicts = detector.judge(embeddings)
    fingerprint = embedded["model"]["fingerprint"]
    posted = {"embeddings": embeddings.tolist(), "fingerprint": fingerprint}
    of_embeddings = http.post(f"/v1/detectors/{name}/score", json=posted).json()
    for answer in (score(http, name, *contents), of_embeddings):
        assert [r["score"] for r in answer["results"]] == [v.score for v in verdicts]
        assert [r["lift"] for r in answer["results"]] == [v.lift for v in verdicts]
        assert [r["p_value"] for r in answer["results"]] == [v.p_value for v in verdicts]
        assert [r["is_ood"] for r in answer["results"]] == [v.is_ood for v in verdicts]
        assert [r["top"][1]["probability"] for r in answer["results"]] == [
            v.top[1].probability for v in verdicts
        ]
    assert len({v.score for v in verdicts}) > 1


def test_an_image_gets_the_same_score_alone_and_among_others(http: httpx.Client, name: str) -> None:
    create(http, name)
    contents = [plain((i * 9, 200 - i * 7, i * 3)) for i in range(25)]
    together = [result["score"] for result in score(http, name, *contents)["results"]]
    assert together == [score(http, name, content)["results"][0]["score"] for content in contents]


# ---- with a threshold


def test_a_threshold_gives_verdicts_and_calibration_gives_p_values(http: httpx.Client, name: str) -> None:
    create(http, name)
    certificate = calibrate(http, name)
    answer = score(http, name, RED, plain("gray"))
    assert answer["threshold"] == certificate["threshold"]
    assert answer["revision"] == certificate["revision"]
    for result in answer["results"]:
        assert result["is_ood"] is (result["score"] < certificate["threshold"])
        assert 0 < result["p_value"] <= 1


def test_a_score_equal_to_the_threshold_is_not_ood(http: httpx.Client, name: str) -> None:
    create(http, name)
    value = score(http, name, RED)["results"][0]["score"]
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": value})
    assert score(http, name, RED)["results"][0]["is_ood"] is False
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": float(np.nextafter(value, 1))})
    assert score(http, name, RED)["results"][0]["is_ood"] is True


@pytest.mark.parametrize("body", [{"require_verdict": True, **ONE}, {"require_verdict": True}])
def test_a_verdict_that_is_required_and_cannot_be_given_is_409(
    http: httpx.Client, name: str, body: dict[str, Any]
) -> None:
    create(http, name)
    body = body if "embeddings" in body else as_json(RED) | body
    assert_problem(http.post(f"/v1/detectors/{name}/score", json=body), 409, "not-calibrated")
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.5})
    answer = http.post(f"/v1/detectors/{name}/score", json=body)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["is_ood"] in (True, False)


@pytest.mark.parametrize("value", ["true", "1"])
def test_a_verdict_can_be_required_in_a_form(http: httpx.Client, name: str, value: str) -> None:
    create(http, name)
    response = http.post(f"/v1/detectors/{name}/score", files=files(RED), data={"require_verdict": value})
    assert_problem(response, 409, "not-calibrated")


def test_one_shot_cannot_give_a_required_verdict(http: httpx.Client) -> None:
    body = as_json(RED) | {"concepts": ["red", "green"], "require_verdict": True}
    assert_problem(http.post("/v1/score", json=body), 409, "not-calibrated")


def test_a_required_verdict_must_be_given_by_every_detector(http: httpx.Client, name: str) -> None:
    create(http, name)
    create(http, f"{name}-2")
    http.put(f"/v1/detectors/{name}/threshold", json={"threshold": 0.5})
    body = as_json(RED) | {"detectors": [name, f"{name}-2"], "require_verdict": True}
    assert_problem(http.post("/v1/score", json=body), 409, "not-calibrated")


# ---- bad images


def test_a_bad_image_fails_alone_in_its_own_place(http: httpx.Client, name: str) -> None:
    create(http, name)
    response = http.post(f"/v1/detectors/{name}/score", files=files(RED, GREEN, HTML, BLUE))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3]
    assert [result["concept"] for result in results] == ["red", "green", None, "blue"]
    bad = results[2]
    assert bad.keys() == RESULT
    assert bad["name"] == "2.png"
    assert_problem_body(bad["error"])
    assert (bad["error"]["status"], bad["error"]["type"]) == (415, "/problems/unsupported-image")
    assert bad["error"]["instance"] == response.headers["x-request-id"]
    assert {bad[field] for field in ("score", "lift", "p_value", "is_ood", "concept")} == {None}
    assert bad["top"] is None


def test_a_poisoned_batch_fails_for_the_guilty_image_only(http: httpx.Client, name: str) -> None:
    create(http, name)
    results = score(http, name, RED, plain((255, 0, 255)), BLUE)["results"]
    assert [result["concept"] for result in results] == ["red", None, "blue"]
    assert results[1]["error"]["type"] == "/problems/encoder-failed"


@pytest.mark.parametrize("route", ["score", "one shot", "detectors", "embed", "calibrate"])
def test_when_every_image_is_bad_the_answer_is_the_first_ones_problem_with_results(
    http: httpx.Client, name: str, route: str
) -> None:
    create(http, name)
    path, options = {
        "score": (f"/v1/detectors/{name}/score", {}),
        "one shot": ("/v1/score", {"concepts": ["red", "green"]}),
        "detectors": ("/v1/score", {"detectors": [name, name]}),
        "embed": ("/v1/embed", {}),
        "calibrate": (f"/v1/detectors/{name}/calibrate", {}),
    }[route]
    response = http.post(path, json=as_json(truncated(encode(noise(), "JPEG")), HTML) | options)
    problem = assert_problem(response, 422, "broken-image")
    first, second = problem["results"]
    assert (first["index"], second["index"]) == (0, 1)
    assert (first["name"], second["name"]) == ("0.png", "1.png")
    assert_problem_body(first["error"])
    assert first["error"]["detail"] == problem["detail"]
    assert second["error"]["status"] == 415


# ---- one shot


def test_one_shot_scores_against_concepts_and_stores_nothing(http: httpx.Client) -> None:
    before = http.get("/v1/detectors", params={"limit": 1000}).json()
    body = as_json(RED, BLUE) | {
        "concepts": ["red", {"name": "sea", "prompts": ["blue water"]}],
        "templates": ["my {} thing"],
        "score": "energy",
        "temperature": 0.5,
        "top_k": 1,
    }
    answer = http.post("/v1/score", json=body).json()
    assert answer.keys() == ANSWER
    assert (answer["detector"], answer["revision"], answer["threshold"]) == (None, None, None)
    assert answer["score_name"] == "energy"
    assert [result["concept"] for result in answer["results"]] == ["red", "sea"]
    assert [len(result["top"]) for result in answer["results"]] == [1, 1]
    assert http.get("/v1/detectors", params={"limit": 1000}).json() == before


def test_one_shot_has_the_definition_hash_of_the_same_detector(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    answer = http.post("/v1/score", json=as_json(RED) | {"concepts": ["red", "green", "blue"]}).json()
    assert answer["definition_hash"] == detector["definition_hash"]
    assert answer["results"][0]["score"] == score(http, name, RED)["results"][0]["score"]


@pytest.mark.parametrize(
    "form",
    [
        {"concepts": ["red", "green"]},
        {"concepts": '["red", "green"]'},
        {"concepts": '["red", {"name": "green", "prompts": []}]'},
        {"concepts": ["red", "green"], "templates": "a photo of a {}"},
        {"concepts": ["red", "green"], "templates": '["a photo of a {}"]', "temperature": "1"},
    ],
)
def test_concepts_in_a_form_are_repeated_fields_or_one_json_array(
    http: httpx.Client, form: dict[str, Any]
) -> None:
    expected = http.post("/v1/score", json=as_json(RED) | {"concepts": ["red", "green"]}).json()
    answer = http.post("/v1/score", files=files(RED), data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json() == expected


def test_one_shot_warns_of_duplicates_and_cut_prompts(http: httpx.Client) -> None:
    body = as_json(RED) | {"concepts": ["red", "Red", "green", "owl " * 200]}
    warnings = http.post("/v1/score", json=body).json()["warnings"]
    assert [warning["code"] for warning in warnings] == ["duplicate-concepts", "prompt-truncated"]


def test_many_detectors_answer_in_order_with_one_encoding(http: httpx.Client, name: str) -> None:
    create(http, name)
    create(http, f"{name}-2", ["white", "black"], score="energy")
    wanted = [f"{name}-2", name, f"{name}-2"]
    response = http.post("/v1/score", files=files(RED, HTML), data={"detectors": wanted})
    assert response.status_code == 200
    assert response.json().keys() == {"answers"}
    answers = response.json()["answers"]
    assert [answer["detector"] for answer in answers] == wanted
    for answer in answers:
        assert answer.keys() == ANSWER
        alone = score(http, answer["detector"], RED, HTML)
        alone["results"][1]["error"]["instance"] = answer["results"][1]["error"]["instance"]
        assert answer == alone


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"concepts": ["red", "green"], "detectors": ["a"]},
        {"concepts": []},
        {"detectors": []},
        {"detectors": ["Not A Name"]},
        {"detectors": ["a"] * 65},
        {"detectors": ["a"], "templates": ["{}"]},
        {"detectors": ["a"], "score": "mcm"},
        {"detectors": ["a"], "temperature": 1.0},
        {"concepts": ["red", "green"], "name": "a"},
        {"concepts": ["red", "green"], "embeddings": [[1.0] * 16], "fingerprint": "colours-1"},
    ],
)
def test_one_shot_takes_concepts_or_detectors_and_never_both(
    http: httpx.Client, wrong: dict[str, Any]
) -> None:
    assert_problem(http.post("/v1/score", json=as_json(RED) | wrong), 422, "invalid-request")


def test_an_unknown_detector_among_many_is_404(http: httpx.Client, name: str) -> None:
    create(http, name)
    response = http.post("/v1/score", json=as_json(RED) | {"detectors": [name, "nobody"]})
    assert "nobody" in assert_problem(response, 404, "detector-not-found")["detail"]


@pytest.mark.parametrize("option", ["fdrs", "negatives", "append", "threshold"])
@pytest.mark.parametrize("route", ["/v1/score", "/v1/detectors/{}/score"])
def test_an_option_that_is_not_there_is_refused_by_name(
    http: httpx.Client, name: str, route: str, option: str
) -> None:
    create(http, name)
    concepts = {"concepts": ["red", "green"]} if route == "/v1/score" else {}
    path = route.format(name)
    for response in (
        http.post(path, json=as_json(RED) | concepts | {option: 1}),
        http.post(path, files=files(RED), data=concepts | {option: "1"}),
    ):
        problem = assert_problem(response, 422, "invalid-request")
        assert [error["field"] for error in problem["errors"]] == [option]


@pytest.mark.parametrize("top_k", [-1, 101, 1.5, "3", True, None, [3], 10**400])
def test_a_wrong_top_k_is_refused(http: httpx.Client, name: str, top_k: Any) -> None:
    create(http, name)
    content = json.dumps(ONE | {"top_k": top_k})
    response = http.post(
        f"/v1/detectors/{name}/score", content=content, headers={"Content-Type": "application/json"}
    )
    assert assert_problem(response, 422, "invalid-request")["errors"][0]["field"] == "top_k"


@pytest.mark.parametrize(
    "path", ["/v1/score", "/v1/detectors/{}/score", "/v1/embed", "/v1/detectors/{}/calibrate"]
)
def test_nothing_to_work_on_is_refused(http: httpx.Client, name: str, path: str) -> None:
    create(http, name)
    options = {"concepts": ["red", "green"]} if path == "/v1/score" else {}
    problem = assert_problem(http.post(path.format(name), json=options), 422, "invalid-request")
    assert "images" in problem["detail"]
    problem = assert_problem(
        http.post(path.format(name), json=options | {"images": []}), 422, "invalid-request"
    )
    assert problem["errors"][0]["field"] == "images"


# ---- embeddings


def test_embeddings_are_normalised(http: httpx.Client, name: str) -> None:
    create(http, name)
    vector = np.linspace(-1, 2, 16)
    answers = [
        http.post(
            f"/v1/detectors/{name}/score",
            json={"embeddings": [(vector * factor).tolist()], "fingerprint": "colours-1"},
        ).json()["results"][0]
        for factor in (1.0, 7.5, 1e-30, 1e30)
    ]
    assert answers[0]["name"] is None
    scores = [answer["score"] for answer in answers]
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-7)


def test_embeddings_may_come_in_a_form(http: httpx.Client, name: str) -> None:
    create(http, name)
    form = {"embeddings": json.dumps(ONE["embeddings"]), "fingerprint": "colours-1"}
    fields = [(key, (None, value)) for key, value in form.items()]
    answer = http.post(f"/v1/detectors/{name}/score", files=fields)
    assert answer.json() == http.post(f"/v1/detectors/{name}/score", json=ONE).json()


def test_embeddings_of_another_encoder_are_409(http: httpx.Client, name: str) -> None:
    create(http, name)
    response = http.post(f"/v1/detectors/{name}/score", json=ONE | {"fingerprint": "other"})
    assert "other" in assert_problem(response, 409, "encoder-mismatch")["detail"]


@pytest.mark.parametrize(
    "embeddings",
    [
        "[[1, 2, 3]]",
        "[[]]",
        f"[{[1.0] * 16}, {[1.0] * 15}]",
        f"[{[0] * 16}]",
        f"[{[1.0] * 16}, {[0.0] * 16}]",
        f"[[NaN, {'1, ' * 14} 1]]",
        f"[[Infinity, {'1, ' * 14} 1]]",
        f"[[1e999, {'1, ' * 14} 1]]",
        f"[[-1e999, {'1, ' * 14} 1]]",
    ],
)
def test_embeddings_that_are_no_unit_vectors_in_the_making_are_422(
    http: httpx.Client, name: str, embeddings: str
) -> None:
    create(http, name)
    body = f'{{"fingerprint": "colours-1", "embeddings": {embeddings}}}'
    headers = {"Content-Type": "application/json"}
    response = http.post(f"/v1/detectors/{name}/score", content=body, headers=headers)
    assert_problem(response, 422, "invalid-embeddings")


@pytest.mark.parametrize(
    "body",
    [
        {"embeddings": [[1.0] * 16]},
        {"fingerprint": "colours-1"},
        {"embeddings": [], "fingerprint": "colours-1"},
        {"embeddings": [1.0] * 16, "fingerprint": "colours-1"},
        {"embeddings": [["1"] * 16], "fingerprint": "colours-1"},
        {"embeddings": [[True] * 16], "fingerprint": "colours-1"},
        {"embeddings": [[None] * 16], "fingerprint": "colours-1"},
        {"embeddings": [[[1.0]] * 16], "fingerprint": "colours-1"},
        ONE | as_json(RED),
    ],
)
def test_embeddings_of_a_wrong_shape_are_refused(http: httpx.Client, name: str, body: dict[str, Any]) -> None:
    create(http, name)
    assert_problem(http.post(f"/v1/detectors/{name}/score", json=body), 422, "invalid-request")


def test_an_answer_that_would_list_too_many_concepts_is_refused_before_the_work(
    http: httpx.Client, name: str
) -> None:
    create(http, name)
    model = http.get("/v1/models").json()["models"][0]
    body = {"embeddings": [[1.0] * model["dim"]] * 3000, "fingerprint": model["fingerprint"]}
    answer = http.post(f"/v1/detectors/{name}/score", json=body | {"top_k": 100})
    assert_problem(answer, 422, "invalid-request")
    assert http.post(f"/v1/detectors/{name}/score", json=body | {"top_k": 50}).status_code == 200
