"""Detectors over HTTP, as API.md has it: create, replace, read, list, delete."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.calls import calibrate, create
from tests.problems import assert_problem

DETECTOR = {
    "name",
    "definition",
    "definition_hash",
    "revision",
    "model",
    "certificate",
    "created_at",
    "updated_at",
    "warnings",
}


def test_creating_answers_201_with_the_whole_detector(http: httpx.Client, name: str) -> None:
    response = http.post("/v1/detectors", json={"name": name, "concepts": ["red", "green"]})
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/detectors/{name}"
    detector = response.json()
    assert response.headers["etag"] == f'"{detector["revision"]}"'
    assert detector.keys() == DETECTOR
    assert detector["name"] == name
    assert detector["definition"] == {
        "concepts": ["red", "green"],
        "templates": ["a photo of a {}"],
        "score": "mcm",
        "temperature": 1.0,
    }
    assert detector["model"] == {"name": "colours", "fingerprint": "colours-1"}
    assert detector["certificate"] is None
    assert detector["warnings"] == []


def test_times_are_rfc_3339_in_utc(http: httpx.Client, name: str) -> None:
    detector = create(http, name)
    for field in ("created_at", "updated_at"):
        assert detector[field].endswith("Z")
        moment = datetime.fromisoformat(detector[field])
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


def test_reading_gives_what_creating_gave(http: httpx.Client, name: str) -> None:
    created = create(http, name)
    response = http.get(f"/v1/detectors/{name}")
    assert response.status_code == 200
    assert response.json() == created
    assert response.headers["etag"] == f'"{created["revision"]}"'


def test_every_part_of_a_definition_comes_back(http: httpx.Client, name: str) -> None:
    definition = {
        "concepts": ["red", {"name": "sea", "prompts": ["a blue sea", "blue water"]}, "Émile  Zola 🦉"],
        "templates": ["a photo of a {}", "{} on a table"],
        "score": "energy",
        "temperature": 0.01,
    }
    assert http.post("/v1/detectors", json={"name": name, **definition}).json()["definition"] == definition


@pytest.mark.parametrize("score", ["mcm", "max-logit", "energy", "entropy", "variance", "gl-mcm"])
def test_each_score_can_be_chosen(http: httpx.Client, name: str, score: str) -> None:
    assert create(http, name, score=score)["definition"]["score"] == score


def test_a_taken_name_is_a_conflict_and_changes_nothing(http: httpx.Client, name: str) -> None:
    before = create(http, name)
    again = http.post("/v1/detectors", json={"name": name, "concepts": ["white", "black"]})
    assert_problem(again, 409, "name-taken")
    assert http.get(f"/v1/detectors/{name}").json() == before


@pytest.mark.parametrize(
    "bad",
    ["", "A", "-a", ".a", "_a", "a" * 65, "a b", "a/b", "ä", "a\n", "a\0", 7, None, ["a"]],
)
def test_a_name_outside_the_pattern_is_refused(http: httpx.Client, bad: Any) -> None:
    response = http.post("/v1/detectors", json={"name": bad, "concepts": ["red", "green"]})
    problem = assert_problem(response, 422, "invalid-request")
    assert problem["errors"][0]["field"] == "name"


@pytest.mark.parametrize("good", ["a", "0", "a.b-c_d", "a" * 64, "score", "calibration"])
def test_a_name_inside_the_pattern_is_taken(http: httpx.Client, good: str) -> None:
    create(http, good)
    assert http.get(f"/v1/detectors/{good}").json()["name"] == good
    assert http.delete(f"/v1/detectors/{good}").status_code == 204


def test_a_percent_encoded_name_is_the_same_name(http: httpx.Client, name: str) -> None:
    created = create(http, name)
    encoded = "".join(f"%{ord(letter):02x}" for letter in name)
    assert http.get(f"/v1/detectors/{encoded}").json() == created


@pytest.mark.parametrize("bad", ["A", "%00", "a%0a", "%ff", "a" * 65, "ä", "%F0%9F%A6%89", "a b", "a%3Fb"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_path_with_a_wrong_name_is_refused(http: httpx.Client, method: str, bad: str) -> None:
    path = "/v1/detectors/" + quote(bad, safe="%")
    body = {"concepts": ["red", "green"]} if method == "PUT" else None
    assert_problem(http.request(method, path, json=body), 422, "invalid-request")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "concepts"),
        ({"concepts": []}, "concepts"),
        ({"concepts": "red"}, "concepts"),
        ({"concepts": {"red": 1}}, "concepts"),
        ({"concepts": [1, 2]}, "concepts.0"),
        ({"concepts": [None, "a"]}, "concepts.0"),
        ({"concepts": [{"prompts": ["a"]}, "b"]}, "concepts.0"),
        ({"concepts": ["a", "b"], "templates": []}, "templates"),
        ({"concepts": ["a", "b"], "templates": "a {}"}, "templates"),
        ({"concepts": ["a", "b"], "score": "GL-MCM"}, "score"),
        ({"concepts": ["a", "b"], "score": "MCM"}, "score"),
        ({"concepts": ["a", "b"], "temperature": 0}, "temperature"),
        ({"concepts": ["a", "b"], "temperature": -1}, "temperature"),
        ({"concepts": ["a", "b"], "temperature": True}, "temperature"),
        ({"concepts": ["a", "b"], "temperature": "1"}, "temperature"),
        ({"concepts": ["a", "b"], "concept": "c"}, "concept"),
        ({"concepts": ["a", "b"], "score": "gl-mcm", "local_weight": -1}, "local_weight"),
        ({"concepts": ["a"], "score": "neglabel", "negatives": {"vocabulary": 3}}, "negatives.vocabulary"),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, name: str, body: dict[str, Any], field: str) -> None:
    response = http.put(f"/v1/detectors/{name}", json=body)
    problem = assert_problem(response, 422, "invalid-request")
    assert any(error["field"].startswith(field) for error in problem["errors"]), problem
    assert field.split(".")[0] in problem["detail"]
    assert_problem(http.get(f"/v1/detectors/{name}"), 404, "detector-not-found")


@pytest.mark.parametrize(
    "body",
    [
        {"concepts": ["a", " "]},
        {"concepts": ["a\0", "b"]},
        {"concepts": ["a\u202e\n", "b"]},
        {"concepts": [{"name": "a", "prompts": [""]}, "b"]},
        {"concepts": ["a", "b"], "templates": ["no place"]},
        {"concepts": ["a", "b"], "templates": ["{} and {}"]},
        {"concepts": ["a", "b"], "templates": ["{} \u0007"]},
    ],
)
def test_texts_that_make_no_prompt_are_refused(http: httpx.Client, name: str, body: dict[str, Any]) -> None:
    assert_problem(http.put(f"/v1/detectors/{name}", json=body), 422, "invalid-definition")
    assert_problem(http.get(f"/v1/detectors/{name}"), 404, "detector-not-found")


@pytest.mark.parametrize("score", ["mcm", "entropy", "variance", "gl-mcm"])
@pytest.mark.parametrize("concepts", [["red"], ["red", "red"], ["red", {"name": "x", "prompts": ["red"]}]])
def test_concepts_that_a_score_cannot_tell_apart_are_refused_with_scores_that_work(
    http: httpx.Client, name: str, score: str, concepts: list[Any]
) -> None:
    body = {"concepts": concepts, "score": score}
    problem = assert_problem(http.put(f"/v1/detectors/{name}", json=body), 422, "invalid-definition")
    assert "max-logit" in problem["detail"]
    assert "energy" in problem["detail"]


@pytest.mark.parametrize("score", ["max-logit", "energy"])
def test_one_concept_is_fine_for_scores_that_do_not_compare(
    http: httpx.Client, name: str, score: str
) -> None:
    assert http.put(f"/v1/detectors/{name}", json={"concepts": ["red"], "score": score}).status_code == 201


@pytest.mark.parametrize("same", [["cat", "cat"], ["cat", "CAT"], ["ice cream", " ice  cream"]])
def test_duplicate_concepts_are_kept_with_a_warning(http: httpx.Client, name: str, same: list[str]) -> None:
    concepts = [*same, "dog"]
    detector = create(http, name, concepts)
    assert detector["definition"]["concepts"] == concepts
    assert [warning["code"] for warning in detector["warnings"]] == ["duplicate-concepts"]
    assert same[0] in detector["warnings"][0]["message"]
    assert http.get(f"/v1/detectors/{name}").json()["warnings"] == detector["warnings"]


def test_a_prompt_that_the_encoder_cuts_is_a_warning_that_names_the_concept(
    http: httpx.Client, name: str
) -> None:
    detector = create(http, name, ["red", "owl " * 200])
    assert [warning["code"] for warning in detector["warnings"]] == ["prompt-truncated"]
    assert "owl owl" in detector["warnings"][0]["message"]


# ---- PUT


def test_put_creates_with_201_and_location(http: httpx.Client, name: str) -> None:
    response = http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "green"]})
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/detectors/{name}"
    assert response.headers["etag"] == f'"{response.json()["revision"]}"'
    assert response.json().keys() == DETECTOR


@pytest.mark.parametrize(
    "same",
    [
        {"concepts": ["red", "green", "blue"]},
        {"concepts": ["red", {"name": "green"}, {"name": "blue", "prompts": []}]},
        {"concepts": ["red", "green", "blue"], "templates": ["a photo of a {}"], "score": "mcm"},
        {"concepts": ["red", "green", "blue"], "temperature": 1},
    ],
)
def test_putting_the_same_definition_changes_nothing(
    http: httpx.Client, name: str, same: dict[str, Any]
) -> None:
    create(http, name)
    calibrate(http, name)
    before = http.get(f"/v1/detectors/{name}").json()
    response = http.put(f"/v1/detectors/{name}", json=same)
    assert response.status_code == 200
    assert "location" not in response.headers
    assert response.json() == before
    assert before["certificate"] is not None


def test_putting_another_definition_drops_the_calibration_and_says_so(http: httpx.Client, name: str) -> None:
    before = create(http, name)
    calibrate(http, name)
    response = http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "white"]})
    assert response.status_code == 200
    after = response.json()
    assert after["revision"] > before["revision"]
    assert after["definition_hash"] != before["definition_hash"]
    assert after["certificate"] is None
    assert [warning["code"] for warning in after["warnings"]] == ["calibration-dropped"]
    calibration = http.get(f"/v1/detectors/{name}/calibration").json()
    assert (calibration["scores"], calibration["certificate"]) == ([], None)


def test_putting_the_first_definition_back_does_not_bring_the_calibration_back(
    http: httpx.Client, name: str
) -> None:
    first = create(http, name)
    calibrate(http, name)
    http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "white"]})
    back = http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "green", "blue"]}).json()
    assert back["definition_hash"] == first["definition_hash"]
    assert back["certificate"] is None
    assert back["warnings"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"templates": ["a drawing of a {}"]},
        {"score": "energy"},
        {"temperature": 0.5},
        {"concepts": ["green", "red", "blue"]},
        {"concepts": ["red", "green", {"name": "blue", "prompts": ["a blue thing"]}]},
    ],
)
def test_any_change_of_the_definition_changes_its_hash_and_revision(
    http: httpx.Client, name: str, change: dict[str, Any]
) -> None:
    before = create(http, name)
    after = http.put(f"/v1/detectors/{name}", json={"concepts": ["red", "green", "blue"], **change}).json()
    assert after["definition_hash"] != before["definition_hash"]
    assert after["revision"] > before["revision"]


def test_the_body_of_a_put_may_name_the_detector_of_its_path_only(http: httpx.Client, name: str) -> None:
    path, body = f"/v1/detectors/{name}", {"concepts": ["red", "green"]}
    assert http.put(path, json={"name": name, **body}).status_code == 201
    problem = assert_problem(http.put(path, json={"name": "other", **body}), 422, "invalid-request")
    assert "other" in problem["detail"]


# ---- DELETE, and what is not there


def test_deleting_answers_204_and_then_there_is_nothing(http: httpx.Client, name: str) -> None:
    create(http, name)
    response = http.delete(f"/v1/detectors/{name}")
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(http.get(f"/v1/detectors/{name}"), 404, "detector-not-found")
    assert_problem(http.delete(f"/v1/detectors/{name}"), 404, "detector-not-found")


def test_a_revision_never_repeats_after_deleting(http: httpx.Client, name: str) -> None:
    seen = []
    for _ in range(3):
        seen.append(create(http, name)["revision"])
        seen.append(calibrate(http, name)["revision"])
        http.delete(f"/v1/detectors/{name}")
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/file", None),
        ("GET", "/calibration", None),
        ("DELETE", "/calibration", None),
        ("DELETE", "/threshold", None),
        ("PUT", "/threshold", {"threshold": 1}),
        ("POST", "/calibrate", {"scores": [0.5] * 50, "definition_hash": "x"}),
        ("POST", "/score", {"embeddings": [[1.0] * 16], "fingerprint": "colours-1"}),
    ],
)
def test_a_detector_that_is_not_there_is_404_on_every_route(
    http: httpx.Client, method: str, path: str, body: Any
) -> None:
    response = http.request(method, f"/v1/detectors/nobody{path}", json=body)
    assert "nobody" in assert_problem(response, 404, "detector-not-found")["detail"]


# ---- If-Match


def writes(name: str, definition_hash: str) -> dict[str, tuple[str, str, Any]]:
    path = f"/v1/detectors/{name}"
    scores = {"scores": [0.5] * 40, "definition_hash": definition_hash}
    return {
        "put": ("PUT", path, {"concepts": ["white", "black"]}),
        "delete": ("DELETE", path, None),
        "calibrate": ("POST", f"{path}/calibrate", scores),
        "threshold": ("PUT", f"{path}/threshold", {"threshold": 0.4}),
        "delete threshold": ("DELETE", f"{path}/threshold", None),
        "delete calibration": ("DELETE", f"{path}/calibration", None),
    }


WRITES = list(writes("", ""))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("tag", ['"{old}"', 'W/"{now}"', '"{now}0"', "no-tag", "", '"' + "9" * 5000 + '"'])
def test_a_write_against_another_revision_changes_nothing(
    http: httpx.Client, name: str, write: str, tag: str
) -> None:
    old = create(http, name)
    calibrate(http, name)
    before = http.get(f"/v1/detectors/{name}").json()
    method, path, body = writes(name, old["definition_hash"])[write]
    header = tag.format(old=old["revision"], now=before["revision"])
    response = http.request(method, path, json=body, headers={"If-Match": header})
    assert_problem(response, 412, "revision-mismatch")
    assert http.get(f"/v1/detectors/{name}").json() == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("tag", ['"{}"', "*", '"0", "{}"', 'W/"1", "{}"'])
def test_a_write_against_the_present_revision_is_done(
    http: httpx.Client, name: str, write: str, tag: str
) -> None:
    created = create(http, name)
    revision = calibrate(http, name)["revision"]
    method, path, body = writes(name, created["definition_hash"])[write]
    response = http.request(method, path, json=body, headers={"If-Match": tag.format(revision)})
    assert response.status_code in (200, 204), response.text


@pytest.mark.parametrize("tag", ["*", '"1"'])
def test_if_match_on_what_is_not_there_is_412_and_creates_nothing(
    http: httpx.Client, name: str, tag: str
) -> None:
    body = {"concepts": ["red", "green"]}
    response = http.put(f"/v1/detectors/{name}", json=body, headers={"If-Match": tag})
    assert_problem(response, 412, "revision-mismatch")
    assert_problem(http.get(f"/v1/detectors/{name}"), 404, "detector-not-found")


# ---- lists


def test_pages_hold_every_detector_once_in_the_order_of_names(http: httpx.Client) -> None:
    names = [f"page-{i:02}" for i in range(7)]
    created = {name: create(http, name) for name in reversed(names)}
    found, cursor, pages = [], "page", 0
    while cursor is not None:
        page = http.get("/v1/detectors", params={"limit": 3, "cursor": cursor}).json()
        assert page.keys() == {"detectors", "next_cursor"}
        assert len(page["detectors"]) <= 3
        found += [d for d in page["detectors"] if d["name"] in names]
        cursor, pages = page["next_cursor"], pages + 1
    assert pages > 2
    assert [d["name"] for d in found] == names
    for summary in found:
        detector = created[summary["name"]]
        assert summary == {
            "name": detector["name"],
            "revision": detector["revision"],
            "score": "mcm",
            "concepts": 3,
            "definition_hash": detector["definition_hash"],
            "created_at": detector["created_at"],
            "updated_at": detector["updated_at"],
        }


def test_a_page_needs_no_parameters(http: httpx.Client, name: str) -> None:
    create(http, name)
    page = http.get("/v1/detectors").json()
    assert page["next_cursor"] is None or len(page["detectors"]) == 100


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=x", "limit=1e9", "limit=" + "9" * 5000, "cursor=%00", "cursor=Ä"]
)
def test_a_wrong_page_is_refused(http: httpx.Client, query: str) -> None:
    assert_problem(http.get(f"/v1/detectors?{query}"), 422, "invalid-request")


# ---- concepts/check


def test_checking_concepts_tells_of_duplicates_synonyms_and_cut_prompts(http: httpx.Client) -> None:
    concepts = ["cat", "Cat", "red", "red wine", "owl " * 200]
    checked = http.post("/v1/concepts/check", json={"concepts": concepts})
    assert checked.status_code == 200
    body = checked.json()
    assert body.keys() == {"duplicates", "near_synonyms", "cut_prompts", "warnings"}
    assert body["duplicates"] == [["cat", "Cat"]]
    (pair,) = body["near_synonyms"]
    assert (pair["first"], pair["second"]) == ("red", "red wine")
    assert 0.999 < pair["cosine"] <= 1
    (cut,) = body["cut_prompts"]
    assert cut["concept"] == concepts[4]
    assert cut["prompt"] == f"a photo of a {concepts[4]}"
    assert {warning["code"] for warning in body["warnings"]} == {"duplicate-concepts", "prompt-truncated"}


def test_checking_concepts_uses_the_templates_given(http: httpx.Client) -> None:
    body = {"concepts": ["owl"], "templates": ["{} " + "word " * 30]}
    (cut,) = http.post("/v1/concepts/check", json=body).json()["cut_prompts"]
    assert cut["prompt"].startswith("owl word word")


def test_checking_concepts_writes_nothing(http: httpx.Client) -> None:
    before = http.get("/v1/detectors", params={"limit": 1000}).json()
    assert http.post("/v1/concepts/check", json={"concepts": ["unheard", "unseen"]}).status_code == 200
    assert http.get("/v1/detectors", params={"limit": 1000}).json() == before


@pytest.mark.parametrize("body", [{}, {"concepts": []}, {"concepts": ["a"], "score": "mcm"}, [], "red", 1])
def test_a_wrong_check_is_refused(http: httpx.Client, body: Any) -> None:
    assert_problem(http.post("/v1/concepts/check", json=body), 422, "invalid-request")
