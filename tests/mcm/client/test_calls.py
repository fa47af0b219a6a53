"""What each method sends, and what it gives back."""

import json

import httpx
import pytest

from mcm import __version__, wire
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import BAD, MODEL, NOW, FakeService, certificate, detector, summary


def test_every_request_carries_the_key_and_says_who_asks(connect: Connect) -> None:
    service = FakeService()
    connect(service, api_key="secret").detector("pets")
    headers = service.asked[0].headers
    assert headers["Authorization"] == "Bearer secret"
    assert headers["User-Agent"] == f"mcm-ood/{__version__}"


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_none_is_sent(connect: Connect, key: str | None) -> None:
    service = FakeService()
    connect(service, api_key=key).detector("pets")
    assert "Authorization" not in service.asked[0].headers


def test_a_service_below_a_path_is_reached(connect: Connect) -> None:
    service = FakeService()
    connect(service, base_url="https://host/ood/").detector("pets")
    assert service.roads == ["GET /ood/v1/detectors/pets"]


def test_models(connect: Connect) -> None:
    model = MODEL | {
        "dim": 2,
        "device": "cpu",
        "dtype": "float32",
        "activation": "none",
        "image_size": 8,
        "max_text_tokens": 77,
        "note": "",
    }
    service = FakeService(httpx.Response(200, json={"models": [model | {"from_the_future": 1}]}))
    assert connect(service).models() == [wire.Model.model_validate(model)]


def test_create_sends_only_what_was_given(connect: Connect) -> None:
    service = FakeService(httpx.Response(201, json=detector()))
    made = connect(service).create_detector("pets", ["cat", wire.ConceptSpec(name="dog", prompts=["a dog"])])
    assert made.revision == 7
    assert service.asked[0].json == {
        "name": "pets",
        "concepts": ["cat", {"name": "dog", "prompts": ["a dog"]}],
    }


def test_concepts_may_be_a_mapping_to_prompts(connect: Connect) -> None:
    service = FakeService()
    connect(service).put_detector(
        "pets", {"cat": ["a cat"], "dog": []}, templates=["the {}"], score="energy", temperature=0.5
    )
    assert service.roads == ["PUT /v1/detectors/pets"]
    assert service.asked[0].json == {
        "concepts": [{"name": "cat", "prompts": ["a cat"]}, {"name": "dog", "prompts": []}],
        "templates": ["the {}"],
        "score": "energy",
        "temperature": 0.5,
    }


def test_if_match_is_sent_as_an_entity_tag(connect: Connect) -> None:
    service = FakeService(
        httpx.Response(200, json=detector()),
        httpx.Response(204),
        httpx.Response(200, json=certificate([0.5], "hash-1")),
    )
    client = connect(service)
    client.put_detector("pets", ["cat", "dog"], if_match=7)
    client.delete_detector("pets", if_match=8)
    client.set_threshold("pets", 0.5, if_match=9)
    assert [asked.headers["If-Match"] for asked in service.asked] == ['"7"', '"8"', '"9"']


def test_detectors_are_fetched_page_by_page(connect: Connect) -> None:
    pages = [(["a", "b"], "next/1"), (["c"], "next 2"), ([], None)]
    service = FakeService(
        *[
            httpx.Response(200, json={"detectors": [summary(n) for n in names], "next_cursor": cursor})
            for names, cursor in pages
        ]
    )
    assert [d.name for d in connect(service).detectors()] == ["a", "b", "c"]
    assert [asked.params.get("cursor") for asked in service.asked] == [None, "next/1", "next 2"]


def test_a_detector_file_goes_out_and_in_unchanged(connect: Connect) -> None:
    file = wire.DetectorFile(
        definition=wire.Definition(concepts=["cat", "dog"]),
        encoder=wire.ModelRef(name="fake", fingerprint="fake-1"),
        dim=1,
        matrix="AACAPw==",
        calibration_scores=[0.1, 0.30000000000000004],
    )
    service = FakeService(httpx.Response(200, content=file.model_dump_json()))
    client = connect(service)
    assert client.export_detector("pets") == file
    client.import_detector("pets2", file)
    assert service.roads == ["GET /v1/detectors/pets/file", "PUT /v1/detectors/pets2/file"]
    assert service.asked[1].json == file.model_dump(mode="json")


def test_small_calls_go_where_the_contract_says(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    client.delete_detector("pets")
    client.delete_calibration("pets")
    client.delete_threshold("pets")
    assert service.roads == [
        "DELETE /v1/detectors/pets",
        "DELETE /v1/detectors/pets/calibration",
        "DELETE /v1/detectors/pets/threshold",
    ]


def test_drift_is_asked_for_and_read(connect: Connect) -> None:
    told = {
        "detector": "pets", "revision": 7, "definition_hash": "h", "calibration_images": 100, "images": 3,
        "since": NOW, "updated_at": NOW, "log10_wealth": -0.1, "log10_alarm_wealth": 2.0, "alarm": False,
        "alarm_at": None, "alarm_after": None, "false_alarm_probability": 0.01, "summary": "No drift.",
        "recent": {"images": 3, "rejected_share": 0.0, "rejected_band": [0.0, 0.3], "ood_share": None},
    }  # fmt: skip
    service = FakeService(httpx.Response(200, json=told))
    found = connect(service).drift("pets")
    assert (found.images, found.recent.rejected_band) == (3, (0.0, 0.3))
    assert service.roads == ["GET /v1/detectors/pets/drift"]


def test_check_concepts_and_calibration_and_threshold_are_read(connect: Connect) -> None:
    checked = {"duplicates": [["cat", "Cat"]], "near_synonyms": [], "cut_prompts": [], "warnings": []}
    kept = {"detector": "pets", "revision": 1, "definition_hash": "h", "scores": [0.5], "certificate": None}
    service = FakeService(
        httpx.Response(200, json=checked),
        httpx.Response(200, json=kept),
        httpx.Response(200, json=certificate([0.5], "h")),
    )
    client = connect(service)
    assert client.check_concepts(["cat", "Cat"]).duplicates == [["cat", "Cat"]]
    assert client.calibration("pets").scores == [0.5]
    assert client.set_threshold("pets", 0.5).threshold == 0.5
    assert service.asked[2].json == {"threshold": 0.5}


def test_work_that_encodes_prompts_may_take_long_and_the_rest_may_not(connect: Connect) -> None:
    timeouts: list[object] = []

    def slow(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"])
        return httpx.Response(200, json=detector())

    client = connect(slow, timeout=3.0)
    client.detector("pets")
    client.create_detector("pets", ["cat", "dog"])
    assert timeouts == [
        {"connect": 3.0, "read": 3.0, "write": 3.0, "pool": 3.0},
        {"connect": 3.0, "read": 900.0, "write": 3.0, "pool": 3.0},
    ]


@pytest.mark.parametrize(
    ("of_client", "of_call", "sent"),
    [(False, None, "false"), (True, None, "true"), (True, False, "false"), (False, True, "true")],
)
def test_require_verdict_is_the_clients_unless_the_call_says(
    connect: Connect, of_client: bool, of_call: bool | None, sent: str
) -> None:
    service = FakeService()
    client = connect(service, require_verdict=of_client)
    list(client.score("pets", [b"x"], top_k=5, require_verdict=of_call))
    list(client.score_with(["pets"], [b"x"], require_verdict=of_call))
    list(client.score_embeddings("pets", [[1.0]], "fake-1", require_verdict=of_call))
    assert service.asked[0].fields == {"top_k": "5", "require_verdict": sent}
    assert service.asked[1].fields["require_verdict"] == sent
    assert json.dumps(service.asked[2].json["require_verdict"]) == sent


def test_a_one_shot_score_sends_its_definition_and_asks_for_no_verdict(connect: Connect) -> None:
    service = FakeService()
    results = connect(service, require_verdict=True).score_once(
        [b"abc"], concepts=["cat", '["dog"]'], templates=["[{}]"], score="energy", temperature=0.01, top_k=1
    )
    assert [r.score for r in results] == [3]
    assert service.roads == ["POST /v1/score"]
    assert service.asked[0].fields == {
        "concepts": '["cat", "[\\"dog\\"]"]',
        "templates": '["[{}]"]',
        "score": "energy",
        "temperature": "0.01",
        "top_k": "1",
    }


def test_the_local_weight_goes_with_a_definition(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    client.create_detector("pets", ["cat", "dog"], score="gl-mcm", local_weight=0)
    client.put_detector("pets", ["cat", "dog"], score="gl-mcm", local_weight=1)
    list(client.score_once([b"abc"], concepts=["cat", "dog"], score="gl-mcm", local_weight=2))
    assert [service.asked[i].json["local_weight"] for i in (0, 1)] == [0.0, 1.0]
    assert service.asked[2].fields["local_weight"] == "2.0"


def test_negatives_go_with_a_definition(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    chosen = wire.Negatives(vocabulary="wordnet", groups=50)
    client.create_detector("pets", ["cat"], score="neglabel", negatives=chosen)
    client.put_detector("pets", ["cat"], score="neglabel", negatives=chosen)
    list(client.score_once([b"abc"], concepts=["cat"], score="neglabel", negatives=chosen))
    sent = {"vocabulary": "wordnet", "groups": 50}
    assert [service.asked[i].json["negatives"] for i in (0, 1)] == [sent, sent]
    assert json.loads(service.asked[2].fields["negatives"]) == sent


@pytest.mark.parametrize("explain", [True, False])
def test_maps_are_asked_for_by_explain(connect: Connect, explain: bool) -> None:
    service = FakeService()
    client = connect(service)
    list(client.score("pets", [b"abc"], explain=explain))
    list(client.score_answers("pets", [b"abc"], explain=explain))
    list(client.score_with(["pets"], [b"abc"], explain=explain))
    list(client.score_once([b"abc"], concepts=["cat", "dog"], explain=explain))
    assert [asked.fields.get("explain") for asked in service.asked] == ["true" if explain else None] * 4


def test_a_one_shot_score_takes_concepts_by_name_only_so_that_they_cannot_pass_for_images(
    connect: Connect,
) -> None:
    service = FakeService()
    with pytest.raises(TypeError, match="positional"):
        connect(service).score_once(["cat", "dog"], ["a.jpg", "b.jpg"])
    assert service.asked == []


def test_many_detectors_answer_row_by_row(connect: Connect) -> None:
    service = FakeService()
    rows = list(connect(service).score_with(["a", "b"], [("x.jpg", b"abc"), b"de"]))
    assert [[(r.index, r.name, r.score) for r in row] for row in rows] == [
        [(0, "x.jpg", 3)] * 2,
        [(1, None, 2)] * 2,
    ]
    assert service.asked[0].fields["detectors"] == '["a", "b"]'


def test_many_detectors_say_the_same_of_images_that_are_all_bad(connect: Connect) -> None:
    rows = list(connect(FakeService()).score_with(["a", "b"], [b"bad", b"bad"]))
    assert [[(r.index, r.error and r.error.status) for r in row] for row in rows] == [
        [(0, 415)] * 2,
        [(1, 415)] * 2,
    ]


def test_images_and_texts_are_embedded(connect: Connect) -> None:
    service = FakeService()
    client = connect(service)
    assert [(r.index, r.name, r.embedding) for r in client.embed([("a", b"xyz")])] == [(0, "a", [1.0, 3.0])]
    texts = ["é", 'say "hi"'] + [str(i) for i in range(100)]
    embedded = client.embed_texts(t for t in texts)
    assert [r.index for r in embedded] == list(range(102))
    assert [r.embedding for r in embedded] == [[1.0, float(len(t))] for t in texts]
    assert client.embed_texts([]) == []


def test_embeddings_are_scored_in_bounded_requests(connect: Connect) -> None:
    service = FakeService()
    rows = [[0.25, float(i)] for i in range(10_001)]
    results = list(connect(service).score_embeddings("pets", iter(rows), "fake-1", top_k=0))
    assert [r.score for r in results] == [sum(row) for row in rows]
    assert [r.index for r in results] == list(range(10_001))
    sizes = sorted(len(asked.json["embeddings"]) for asked in service.asked)
    assert sizes == [1, 10_000]
    assert all(asked.json["fingerprint"] == "fake-1" for asked in service.asked)


def test_wide_embeddings_are_scored_in_requests_of_bounded_bytes(connect: Connect) -> None:
    sizes: list[int] = []
    service = FakeService()

    def measured(request: httpx.Request) -> httpx.Response:
        sizes.append(len(request.content))
        return service(request)

    rows = [[1 / 3] * 100_000 for _ in range(9)]
    assert len(list(connect(measured).score_embeddings("pets", rows, "fake-1"))) == 9
    assert len(sizes) == 3
    assert max(sizes) < 9 * 2**20


def test_numpy_rows_are_scored(connect: Connect) -> None:
    numpy = pytest.importorskip("numpy")
    results = connect(FakeService()).score_embeddings("pets", numpy.ones((2, 3), numpy.float32), "fake-1")
    assert [r.score for r in results] == [3.0, 3.0]


def test_the_fake_service_has_a_bad_image() -> None:
    wire.Problem.model_validate(BAD)
