"""neglabel over HTTP: the server's vocabularies, how negatives were found, files, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mcm import build_detector, define
from mcm.definition import definition_from_json
from mcm.detector_file import read_detector_file
from mcm.images import load_image
from mcm.mining import CHUNK
from mcm.vocabularies import wordnet_vocabulary
from tests.calls import RED, connected, create, files
from tests.fakes import ColourEncoder
from tests.pictures import plain
from tests.problems import assert_problem
from tests.server import ended, running

CHOICE = {"vocabulary": "wordnet", "groups": 4, "seed": 7}
NEGLABEL: dict[str, Any] = {"score": "neglabel", "negatives": CHOICE}
NOUNS = [*(f"noun_{i}" for i in range(60)), "Red"]
ADJECTIVES = [f"adjective_{i}" for i in range(30)]


def write_wordnet(folder: Path, nouns: list[str], adjectives: list[str]) -> None:
    (folder / "index.noun").write_text("".join(f"{noun} n 1 0 1 0 00001740\n" for noun in nouns))
    (folder / "index.adj").write_text("".join(f"{word} a 1 0 1 0 00001740\n" for word in adjectives))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small WordNet, a cache and a place for databases."""
    folder = tmp_path_factory.mktemp("negatives")
    write_wordnet(folder, NOUNS, ADJECTIVES)
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running(folder, wordnet_dir=folder) as server:
        yield server.url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with connected(url) as http:
        yield http


def scored(http: httpx.Client, name: str, *images: bytes) -> list[Any]:
    response = http.post(f"/v1/detectors/{name}/score", files=files(*images))
    assert response.status_code == 200, response.text
    return list(response.json()["results"])


def test_a_detector_is_made_with_what_is_left_out_and_tells_how_its_negatives_were_found(
    http: httpx.Client, name: str, folder: Path
) -> None:
    made = create(http, name, ["red", "green"], **NEGLABEL)
    words = wordnet_vocabulary(folder)
    assert made["definition"] == {
        "concepts": ["red", "green"],
        "templates": ["the nice {}"],
        "score": "neglabel",
        "temperature": 0.01,
        "negatives": {
            "vocabulary": "wordnet",
            "vocabulary_hash": words.hash,
            "groups": 4,
            "seed": 7,
            "drop_near": False,
        },
    }
    mining = made["mining"]
    assert (mining["vocabulary"], mining["candidates"], mining["duplicates"]) == ("wordnet", 90, ["Red"])
    assert (mining["negatives"], mining["groups"], mining["left_over"]) == (12, 4, 1)
    assert {"word", "concept", "cosine"} == set(mining["closest"][0])
    assert "mining" not in http.get(f"/v1/detectors/{name}").json()


def test_the_answer_is_the_cores_and_names_the_negative_that_pulled_most(
    http: httpx.Client, name: str, folder: Path
) -> None:
    made = create(http, name, ["red"], **NEGLABEL)  # one concept is enough
    encoder = ColourEncoder()
    definition = definition_from_json(made["definition"])
    core = build_detector(definition, encoder, vocabulary=wordnet_vocabulary(folder))
    images = [RED, plain("blue"), plain("gray")]
    pixels = [encoder.prepare(load_image(image)) for image in images]
    verdicts = core.judge(encoder.encode_images(np.stack(pixels)))
    results = scored(http, name, *images)
    assert [result["score"] for result in results] == pytest.approx([v.score for v in verdicts], abs=1e-6)
    assert [result["negative"] for result in results] == [v.negative for v in verdicts]
    assert all(result["lift"] is None for result in results)


def test_other_scores_say_nothing_of_negatives(http: httpx.Client, name: str) -> None:
    create(http, name)
    assert "negative" not in scored(http, name, RED)[0]


def test_one_shot_takes_negatives_as_a_json_field_and_in_a_json_body(http: httpx.Client) -> None:
    data = {"concepts": ["red"], "score": "neglabel", "negatives": json.dumps(CHOICE)}
    answer = http.post("/v1/score", files=files(RED), data=data)
    assert answer.status_code == 200, answer.text
    assert answer.json()["score_name"] == "neglabel"
    assert answer.json()["results"][0]["negative"]


def test_a_detector_outlives_its_vocabulary_and_moves_as_a_file_with_its_scores(
    http: httpx.Client, name: str, folder: Path, tmp_path: Path
) -> None:
    create(http, name, ["red", "green"], **NEGLABEL)
    scores = [0.2 + i / 100 for i in range(40)]
    definition_hash = http.get(f"/v1/detectors/{name}").json()["definition_hash"]
    body = {"scores": scores, "definition_hash": definition_hash}
    assert http.post(f"/v1/detectors/{name}/calibrate", json=body).status_code == 200
    before = scored(http, name, RED, plain("gray"))
    file = http.get(f"/v1/detectors/{name}/file")
    local = read_detector_file(file.content)
    assert local.negatives is not None
    assert local.definition_hash == definition_hash
    imported = http.put(f"/v1/detectors/{name}-copy/file", json=file.json())
    assert imported.status_code == 201, imported.text
    assert imported.json()["definition_hash"] == definition_hash
    assert imported.json()["certificate"] is not None
    assert scored(http, f"{name}-copy", RED, plain("gray")) == before
    with running(folder) as bare, connected(bare.url) as http:  # the same store, without the vocabulary
        assert scored(http, name, RED, plain("gray")) == before
        assert_problem(
            http.put(f"/v1/detectors/{name}-more/file", json=file.json()), 422, "invalid-definition"
        )


def forge(file: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return file | {"negatives": file["negatives"] | changes}


def test_a_forged_file_is_refused(http: httpx.Client, name: str) -> None:
    create(http, name, ["red", "green"], **NEGLABEL)
    file = http.get(f"/v1/detectors/{name}/file").json()
    words = file["negatives"]["words"]
    kept = set(words)
    other = next(word for word in (noun.replace("_", " ") for noun in NOUNS) if word not in kept)
    for forged, told in [
        (forge(file, words=[other, *words[1:]]), "is not one that its definition gives"),
        (forge(file, words=[words[1], words[0], *words[2:]]), "negative"),
        (forge(file, words=words[:-1]), "bytes"),
        (forge(file, groups=3), "its definition gives 12 in 4"),
        (forge(file, groups=5), "do not fill 5 groups evenly"),
        (forge(file, matrix=file["matrix"]), "bytes"),
        (forge(file, words=["a\nb", *words[1:]]), "control characters"),
        ({key: value for key, value in file.items() if key != "negatives"}, "needs the embeddings"),
    ]:
        answer = http.put(f"/v1/detectors/{name}-forged/file", json=forged)
        assert told in assert_problem(answer, 422, "invalid-detector-file")["detail"], told


def test_a_file_whose_negatives_have_embeddings_of_other_texts_is_refused(
    http: httpx.Client, name: str
) -> None:
    create(http, name, ["red", "green"], **NEGLABEL)
    file = http.get(f"/v1/detectors/{name}/file").json()
    create(http, f"{name}-2", ["red", "green"], **NEGLABEL | {"negatives": {**CHOICE, "seed": 8}})
    other = http.get(f"/v1/detectors/{name}-2/file").json()
    answer = http.put(f"/v1/detectors/{name}/file", json=forge(file, matrix=other["negatives"]["matrix"]))
    assert "embedding of the negative" in assert_problem(answer, 422, "invalid-detector-file")["detail"]


@pytest.mark.parametrize(
    ("negatives", "code", "told"),
    [
        ({"vocabulary": "/etc/passwd"}, "invalid-definition", "has no vocabulary '/etc/passwd'; it has"),
        ({"vocabulary": "klingon"}, "invalid-definition", "imagenet-21k or wordnet"),
        (CHOICE | {"vocabulary_hash": "0" * 64}, "invalid-definition", "has other words"),
        (CHOICE | {"groups": 0}, "invalid-request", "groups"),
        (CHOICE | {"groups": 10_001}, "invalid-request", "groups"),
        (CHOICE | {"seed": -1}, "invalid-request", "seed"),
        (CHOICE | {"seed": 2**32}, "invalid-request", "seed"),
        (CHOICE | {"size": 3}, "invalid-request", "size"),
        ({"vocabulary": ""}, "invalid-request", "vocabulary"),
        ("{", "invalid-request", "negatives"),
        ("[]", "invalid-request", "negatives"),
        (3, "invalid-request", "negatives"),
    ],
)
def test_negatives_that_are_not_there_or_mean_nothing_are_refused(
    http: httpx.Client, name: str, negatives: Any, code: str, told: str
) -> None:
    body = {"name": name, "concepts": ["red"], "score": "neglabel", "negatives": negatives}
    assert told in assert_problem(http.post("/v1/detectors", json=body), 422, code)["detail"]


def test_negatives_go_with_neglabel_only(http: httpx.Client, name: str) -> None:
    body = {"name": name, "concepts": ["red", "green"], "negatives": {"vocabulary": "wordnet"}}
    told = assert_problem(http.post("/v1/detectors", json=body), 422, "invalid-definition")["detail"]
    assert "negatives go with the score 'neglabel'" in told


def test_negatives_and_detectors_exclude_each_other(http: httpx.Client, name: str) -> None:
    data = {"detectors": [name], "negatives": "{}"}
    told = assert_problem(http.post("/v1/score", files=files(RED), data=data), 422, "invalid-request")[
        "detail"
    ]
    assert "go with concepts, not with detectors" in told


def test_a_vocabulary_that_is_not_encoded_in_time_goes_on_at_the_next_try(tmp_path: Path) -> None:
    write_wordnet(tmp_path, [f"word_{i}" for i in range(CHUNK)], ["HOLD"])  # the last word is a chunk alone
    settings: dict[str, Any] = {"wordnet_dir": tmp_path, "test_fingerprint": "slow", "create_timeout": 2}
    body = {"name": "slow", "concepts": ["red"], **NEGLABEL}
    gate, texts = tmp_path / "gate", tmp_path / "texts"
    os.mkfifo(gate)
    with running(tmp_path, test_gate=gate, **settings) as server, httpx.Client(trust_env=False) as http:
        answer = http.post(f"{server.url}/v1/detectors", json=body, timeout=60)
        assert_problem(answer, 504, "deadline-exceeded")
    with running(tmp_path, test_gate=os.devnull, test_texts=texts, **settings) as server:
        mining = httpx.post(f"{server.url}/v1/detectors", json=body, trust_env=False).json()["mining"]
    assert mining["candidates"] == CHUNK + 1
    assert [text for text in texts.read_text().splitlines() if "word" in text or "HOLD" in text] == [
        "This is a HOLD photo"
    ]


def test_a_wordnet_folder_that_is_none_ends_the_server_with_one_line(tmp_path: Path) -> None:
    code, lines = ended(tmp_path, wordnet_dir=tmp_path)
    assert code != 0
    assert any("index.noun" in line for line in lines)


def test_defaults_are_those_of_the_library(http: httpx.Client, name: str) -> None:
    made = create(http, name, ["red"], score="neglabel")
    assert definition_from_json(made["definition"]) == define(["red"], score="neglabel")
