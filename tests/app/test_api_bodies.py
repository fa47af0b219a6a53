"""Request bodies of every kind, right and wrong: JSON, multipart, and what is neither."""

import base64
import gzip
import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.calls import RED, as_json, create, files
from tests.pictures import encode, plain, scene
from tests.problems import assert_is_problem, assert_problem

JSON = {"Content-Type": "application/json"}
CONCEPTS = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="concepts"\r\n\r\n' + word + b"\r\n"
    for word in (b"red", b"green")
)
IMAGE = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x.png"\r\n\r\n' + RED + b"\r\n"
END = b"--b--\r\n"


def form(http: httpx.Client, *parts: bytes, kind: str = "multipart/form-data; boundary=b") -> httpx.Response:
    return http.post("/v1/score", content=b"".join(parts), headers={"Content-Type": kind})


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def results(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["results"]


def put_threshold(http: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    create(http, "bodies")
    try:
        return http.put("/v1/detectors/bodies/threshold", content=content, headers=JSON | headers)
    finally:
        http.delete("/v1/detectors/bodies")


# ---- JSON


@pytest.mark.parametrize(
    "data", ["{}", "data:image/png;base64,{}", "data:text/html;base64,{}", "data:;base64,{}"]
)
def test_an_image_in_json_is_base64_or_a_data_uri(http: httpx.Client, data: str) -> None:
    image = {"data": data.format(base64.b64encode(RED).decode())}
    body = {"images": [image], "concepts": ["red", "green"]}
    (result,) = results(http.post("/v1/score", json=body))
    assert (result["name"], result["concept"]) == (None, "red")


@pytest.mark.parametrize(
    "data",
    ["!", "AAA", "data:image/png,AAAA", "data:image/png;base64", "data:", "ä", "http://127.0.0.1/red.png"],
)
def test_an_image_that_is_not_base64_fails_in_its_place(http: httpx.Client, data: str) -> None:
    body = as_json(RED) | {"concepts": ["red", "green"]}
    body["images"].insert(0, {"name": "bad", "data": data})
    bad, good = results(http.post("/v1/score", json=body))
    assert (bad["name"], bad["error"]["type"]) == ("bad", "/problems/broken-image")
    assert good["concept"] == "red"


def test_an_empty_image_in_json_is_no_image(http: httpx.Client) -> None:
    body = {"images": [{"data": ""}, *as_json(RED)["images"]], "concepts": ["red", "green"]}
    bad, good = results(http.post("/v1/score", json=body))
    assert (bad["error"]["status"], good["concept"]) == (415, "red")


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ([{}], "images.0.data"),
        ([{"data": None}], "images.0.data"),
        ([{"data": 7}], "images.0.data"),
        ([{"data": "AAAA", "url": "http://127.0.0.1/"}], "images.0.url"),
        ([{"data": "AAAA", "name": 7}], "images.0.name"),
        (["AAAA"], "images.0"),
        ("AAAA", "images"),
        ({"data": "AAAA"}, "images"),
    ],
)
def test_an_image_of_a_wrong_shape_is_named(http: httpx.Client, images: Any, field: str) -> None:
    response = http.post("/v1/score", json={"images": images, "concepts": ["red", "green"]})
    assert assert_problem(response, 422, "invalid-request")["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b'{"threshold": 1',
        b'{"threshold": 1}}',
        b"{'threshold': 1}",
        b'{"threshold": 01}',
        b'\xef\xbb\xbf{"threshold": 1}',
        b"\xff\xfe{\0}\0",
        b'{"threshold\xff": 1}',
        b'{"\\ud800": 1}',
        b'{"a\0b": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"threshold": 1' + b"0" * 10_000 + b"}",
        b"\0" * 1000,
        b"GIF89a",
    ],
)
def test_what_is_not_json_is_400(http: httpx.Client, content: bytes) -> None:
    assert_problem(put_threshold(http, content), 400, "unparsable-body")


@pytest.mark.parametrize("content", [b"null", b"1", b'"x"', b"[]", b"true", b"[[[[]]]]", b"1e999"])
def test_json_that_is_no_object_is_422(http: httpx.Client, content: bytes) -> None:
    assert_problem(put_threshold(http, content), 422, "invalid-request")


def test_of_duplicate_keys_the_last_one_counts(http: httpx.Client) -> None:
    response = put_threshold(http, b'{"threshold": 1, "threshold": 2}')
    assert response.json()["threshold"] == 2


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON", "application/json; charset=UTF-8",
    'application/json;charset="utf-8"', "application/merge-patch+json"])  # fmt: skip
def test_json_may_be_declared_in_several_ways(http: httpx.Client, kind: str) -> None:
    assert put_threshold(http, b'{"threshold": 1}', **{"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "text/json", "image/png", "json", "application/xml"],
)
def test_another_content_type_is_415_with_a_hint(http: httpx.Client, kind: str) -> None:
    body = urlencode({"concepts": "red"})
    response = http.post("/v1/score", content=body, headers={"Content-Type": kind})
    detail = assert_problem(response, 415, "unsupported-body")["detail"]
    assert kind in detail
    assert "multipart/form-data" in detail


def test_a_missing_content_type_is_415(http: httpx.Client) -> None:
    assert_problem(http.post("/v1/score", content=b"{}"), 415, "unsupported-body")


def test_multipart_where_no_images_are_taken_is_415(http: httpx.Client) -> None:
    response = http.post("/v1/detectors", files=files(RED), data={"name": "a"})
    detail = assert_problem(response, 415, "unsupported-body")["detail"]
    assert detail.endswith("send application/json")


@pytest.mark.parametrize(
    "charset", ["latin-1", "utf-16", "utf-7", "unicode_escape", "idna", "punycode", "undefined", "x"]
)
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_text_in_another_encoding_than_utf_8_is_415(http: httpx.Client, kind: str, charset: str) -> None:
    response = form(http, CONCEPTS, IMAGE, END, kind=f"{kind}; charset={charset}")
    assert charset in assert_problem(response, 415, "unsupported-body")["detail"]


def test_a_compressed_body_is_415(http: httpx.Client) -> None:
    content = gzip.compress(json.dumps({"threshold": 1}).encode())
    response = put_threshold(http, content, **{"Content-Encoding": "gzip"})
    assert "gzip" in assert_problem(response, 415, "unsupported-body")["detail"]


# ---- multipart


@pytest.mark.parametrize("name", ["cat.jpg", "Kätzchen 🐈.jpg", "a b;c=d.jpg", "../../etc/passwd", "x" * 300])
def test_file_names_are_kept(http: httpx.Client, name: str) -> None:
    by_form = http.post("/v1/score", files=[("images", (name, RED))], data={"concepts": ["red", "green"]})
    assert [result["name"] for result in results(by_form)] == [name]
    body = {
        "images": [{"name": name} | as_json(RED)["images"][0] | {"name": name}],
        "concepts": ["red", "green"],
    }
    assert [result["name"] for result in results(http.post("/v1/score", json=body))] == [name]


def test_the_content_type_of_a_part_does_not_matter(http: httpx.Client) -> None:
    jpeg = encode(scene(), "JPEG")
    answers = [
        http.post("/v1/score", files=[("images", ("x.png", jpeg, kind))], data={"concepts": ["red", "green"]})
        for kind in ("image/jpeg", "image/png", "text/html", "application/octet-stream", "nonsense")
    ]
    assert [results(answer) for answer in answers] == [results(answers[0])] * 5


def test_an_image_in_another_field_is_refused_and_the_field_is_named(http: httpx.Client) -> None:
    response = http.post("/v1/score", files=[("image", ("x.png", RED))], data={"concepts": ["a", "b"]})
    detail = assert_problem(response, 422, "invalid-request")["detail"]
    assert "'image'" in detail
    assert "'images'" in detail
    assert "x.png" in detail


def test_an_image_without_a_file_name_is_refused_and_the_field_is_named(http: httpx.Client) -> None:
    detail = assert_problem(form(http, CONCEPTS, part("images", RED), END), 422, "invalid-request")["detail"]
    assert "'images'" in detail
    assert "filename" in detail


def test_json_where_a_file_is_due_is_refused_and_the_field_is_named(http: httpx.Client) -> None:
    value = json.dumps(as_json(RED)["images"]).encode()
    response = form(http, CONCEPTS, part("images", value), END)
    assert "'images'" in assert_problem(response, 422, "invalid-request")["detail"]


def test_a_file_where_a_text_is_due_is_refused_and_the_field_is_named(http: httpx.Client) -> None:
    response = form(http, part("concepts", b"red", '; filename="x"'), IMAGE, END)
    assert "'concepts'" in assert_problem(response, 422, "invalid-request")["detail"]


def test_a_field_that_is_no_list_may_come_once_only(http: httpx.Client) -> None:
    response = form(http, CONCEPTS, part("top_k", b"1"), part("top_k", b"2"), IMAGE, END)
    assert "'top_k'" in assert_problem(response, 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    ("value", "field"), [(b"x", "top_k"), (b"", "top_k"), (b"1.5", "top_k"), (b"9" * 5000, "top_k")]
)
def test_a_wrong_value_in_a_form_is_named(http: httpx.Client, value: bytes, field: str) -> None:
    response = form(http, CONCEPTS, part(field, value), IMAGE, END)
    assert assert_problem(response, 422, "invalid-request")["errors"][0]["field"] == field


@pytest.mark.parametrize("value", [b"[", b'["a"', b"[1,", b"[" * 10_000, b"['a','b']", b"[NaN, nope]"])
def test_a_field_that_starts_like_an_array_and_is_none_is_named(http: httpx.Client, value: bytes) -> None:
    response = form(http, part("concepts", value), IMAGE, END)
    assert "concepts" in assert_problem(response, 422, "invalid-request")["detail"]


def test_fields_may_come_after_the_files(http: httpx.Client) -> None:
    assert results(form(http, IMAGE, CONCEPTS, END))[0]["concept"] == "red"


def test_what_is_outside_the_parts_is_ignored(http: httpx.Client) -> None:
    assert results(form(http, CONCEPTS, IMAGE, END, b"epilogue"))[0]["concept"] == "red"


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ((CONCEPTS, IMAGE, END), "multipart/form-data"),
        ((CONCEPTS, IMAGE, END), "multipart/form-data; boundary="),
        ((CONCEPTS, IMAGE, END), "multipart/form-data; boundary=c"),
        ((CONCEPTS, IMAGE, END), "multipart/form-data; boundary=" + "b" * 5000),
        ((), "multipart/form-data; boundary=b"),
        ((b"junk",), "multipart/form-data; boundary=b"),
        ((CONCEPTS, IMAGE, IMAGE), "multipart/form-data; boundary=b"),
        ((CONCEPTS, IMAGE, IMAGE[:-40]), "multipart/form-data; boundary=b"),
        ((CONCEPTS, IMAGE, b"--b"), "multipart/form-data; boundary=b"),
        ((b"--b\r\n\r\nred\r\n", END), "multipart/form-data; boundary=b"),
        ((b"--b\r\nContent-Disposition: form-data\r\n\r\nred\r\n", END), "multipart/form-data; boundary=b"),
        ((b"--b\r\nno colon here\r\n\r\nred\r\n", END), "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_not_multipart_is_400_and_no_part_is_lost_in_silence(
    http: httpx.Client, parts: tuple[bytes, ...], kind: str
) -> None:
    assert_problem(form(http, *parts, kind=kind), 400, "unparsable-body")


def test_a_text_that_is_not_utf_8_is_still_a_text(http: httpx.Client) -> None:
    response = form(http, CONCEPTS, part("concepts", b"\xff\xfe"), IMAGE, END)
    assert len(results(response)[0]["top"]) == 3


# ---- the rest of HTTP


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/detectors/",
        "/v1/score/",
        "/v1//score",
        "/V1/score",
        "/v1/detectors/a/b/c",
        "/static/../app",
        "/static/%00",
        "/docs/x",
        "/%ff",
    ],
)
def test_a_route_that_is_not_there_is_404(http: httpx.Client, path: str) -> None:
    assert_problem(http.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/score", {"POST"}),
        ("POST", "/v1/models", {"GET"}),
        ("PATCH", "/v1/detectors/a", {"GET", "PUT", "DELETE"}),
        ("OPTIONS", "/v1/embed", {"POST"}),
        ("POST", "/healthz", {"GET"}),
    ],
)
def test_another_method_is_405_with_those_that_are_allowed(
    http: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    response = http.request(method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert allowed <= set(response.headers["allow"].split(", "))


def test_a_head_request_gets_no_body(http: httpx.Client) -> None:
    response = http.head("/v1/models")
    assert response.content == b""
    assert response.status_code in (200, 405)


def test_a_body_on_get_and_delete_is_ignored(http: httpx.Client, name: str) -> None:
    create(http, name)
    assert http.request("GET", f"/v1/detectors/{name}", content=b"x" * 1000).status_code == 200
    assert http.request("DELETE", f"/v1/detectors/{name}", content=b"x" * 1000).status_code == 204


@pytest.mark.parametrize("wish", ["0", "-1", "nan", "x", "", "1s", "1e", "-inf"])
def test_a_wrong_timeout_header_is_422(http: httpx.Client, wish: str) -> None:
    response = http.get("/v1/models", headers={"X-Request-Timeout": wish})
    assert "X-Request-Timeout" in assert_problem(response, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("wish", ["1", "0.5", "1e9", "inf", " 2 ".strip()])
def test_a_timeout_header_in_seconds_is_taken(http: httpx.Client, wish: str) -> None:
    assert http.get("/v1/models", headers={"X-Request-Timeout": wish}).status_code == 200


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_well_formed_request_id_is_taken(http: httpx.Client, given: str) -> None:
    for path in ("/v1/models", "/nowhere", "/healthz"):
        assert http.get(path, headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "a/b", "a,b", "<script>", "\u00e4"])
def test_another_request_id_is_replaced(http: httpx.Client, given: str) -> None:
    response = http.get("/nowhere", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert response.headers["x-request-id"] != given
    assert_is_problem(response)


def test_every_request_has_its_own_id(http: httpx.Client) -> None:
    assert len({http.get("/healthz").headers["x-request-id"] for _ in range(20)}) == 20


def test_every_answer_carries_the_security_headers(http: httpx.Client) -> None:
    for path in ("/healthz", "/v1/models", "/docs", "/nowhere", "/openapi.json"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_order_of_images_is_kept_in_both_kinds_of_body(http: httpx.Client) -> None:
    contents = [plain((i * 10, 0, 0)) for i in range(20)]
    concepts = {"concepts": ["red", "green"]}
    by_form = http.post("/v1/score", files=files(*contents), data=concepts)
    by_json = http.post("/v1/score", json=as_json(*contents) | concepts)
    assert results(by_form) == results(by_json)
    assert [result["name"] for result in results(by_form)] == [f"{i}.png" for i in range(20)]
