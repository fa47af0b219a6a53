"""Keys: how they are given, compared and kept out of everything that is written down."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.__main__ import main
from app.keys import find_key, read_keys
from app.settings import Settings
from tests.calls import RED, as_json, connected
from tests.fakes import ColourEncoder
from tests.problems import assert_problem
from tests.server import running

READER = "reader-of-this-test-0123456789"
ADMIN = "admin-of-this-test-0123456789"
FILED = "key-in-a-file-0123456789"


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def accepts(setting: str, key: str) -> bool:
    return find_key(key.encode(), read_keys(setting)) is not None


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str) -> str:
    """What the service says instead of starting with this setting."""
    monkeypatch.setenv("MCM_API_KEYS", setting)
    assert main(ColourEncoder()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---- reading and comparing


def test_a_key_may_be_given_plain_or_as_its_digest() -> None:
    setting = f" {READER} , sha256:{sha256(ADMIN)},SHA256:{sha256(FILED).upper()},"
    assert all(accepts(setting, key) for key in (READER, ADMIN, FILED))
    assert not accepts(setting, f"sha256:{sha256(ADMIN)}")
    assert not accepts(setting, sha256(ADMIN))


def test_a_file_has_a_key_or_digest_a_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# who: the nightly job\n\n{FILED}\r\n  sha256:{sha256(ADMIN)}  \n#{READER}\n")
    setting = f"@{file},another-key-of-16-characters"
    assert all(accepts(setting, key) for key in (FILED, ADMIN, "another-key-of-16-characters"))
    assert not any(accepts(setting, key) for key in (READER, f"#{READER}", "# who: the nightly job", ""))


@given(key=st.text(), others=st.lists(st.text(alphabet=st.characters(exclude_characters=","), min_size=1)))
def test_only_the_very_key_is_accepted(key: str, others: list[str]) -> None:
    plain = [
        other.strip() for other in others if other.strip() and not other.strip().startswith(("@", "sha"))
    ]
    assert accepts(",".join(plain), key) == (key in plain and key != "")


def test_no_key_is_never_a_key_whatever_digest_is_set() -> None:
    assert not accepts(f"sha256:{sha256('')}", "")


def test_keys_are_not_kept() -> None:
    keys = read_keys(f"{READER},sha256:{sha256(ADMIN)}")
    assert not any(secret in repr(keys) for secret in (READER, sha256(READER), sha256(ADMIN), "digest=b"))


def test_short_plain_keys_are_told_from_long_ones_and_digests() -> None:
    keys = read_keys(f"{'k' * 15},{'k' * 16},sha256:{sha256('k')}")
    assert [key.short for key in keys] == [True, False, False]


# ---- wrong settings end the start


@pytest.mark.parametrize(
    "setting",
    ["sha256:", f"sha256:{sha256(READER)[:-1]}", f"sha256:{sha256(READER)}0", "sha256:not-hexadecimal-digits",
     f"{ADMIN},sha256:{READER}"],
)  # fmt: skip
def test_a_malformed_digest_is_one_line_that_repeats_no_key(
    setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(monkeypatch, capsys, setting)
    assert line.startswith("error: wrong settings: MCM_API_KEYS: ")
    assert "64 hexadecimal digits" in line
    assert not any(secret in line for secret in (READER, ADMIN, sha256(READER)[:-1], "not-hexadecimal"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "holds no key"),
        (b"# only a comment\n \n", "holds no key"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"a-key-that-is-fine-0123456789\nsha256:12\n", "line 2 of the key file"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_one_line(
    content: bytes | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    line = refusal(monkeypatch, capsys, f"@{file}")
    assert words in line
    assert str(file) in line
    assert "a-key-that-is-fine" not in line


def test_an_empty_key_file_does_not_open_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").touch()
    monkeypatch.setenv("MCM_HOST", "0.0.0.0")
    assert "holds no key" in refusal(monkeypatch, capsys, f"@{tmp_path / 'keys'}")


def test_other_wrong_settings_repeat_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCM_API_KEYS", READER)
    monkeypatch.setenv("MCM_PORT", READER)
    with pytest.raises(ValueError, match="port") as caught:
        Settings()
    assert READER not in str(caught.value)


# ---- the running service


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_digests_and_files_open_the_service_and_no_log_holds_a_key(tmp_path: Path, log_format: str) -> None:
    (tmp_path / "keys").write_text(f"{FILED}\n")
    settings: dict[str, Any] = {
        "api_keys": f"sha256:{sha256(READER)},@{tmp_path / 'keys'}",
        "admin_keys": f"sha256:{sha256(ADMIN)}, short-1",
        "log_level": "debug",
        "log_format": log_format,
    }
    wrong = "wrong-key-0123456789"
    with (
        running(tmp_path, **settings) as server,
        connected(server.url, Authorization=f"Bearer {ADMIN}") as http,
    ):
        for key in (READER, FILED, ADMIN, "short-1"):
            assert http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
            assert http.get(
                f"/v1/models?api_key={key}", headers={"Authorization": "", "X-API-Key": key}
            ).status_code == 200  # fmt: skip
        for key in (wrong, sha256(READER), f"sha256:{sha256(READER)}"):
            assert_problem(
                http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}), 401, "unauthorized"
            )
        body = as_json(RED) | {"concepts": [1]}
        assert_problem(http.post("/v1/score", json=body), 422, "invalid-request")
    log = "\n".join(server.lines)
    secrets = (READER, FILED, ADMIN, "short-1", wrong, sha256(READER), sha256(FILED), sha256(ADMIN))
    assert not any(secret in log for secret in secrets)
    assert "fewer than 16 characters" in log


def test_long_keys_are_not_warned_of(tmp_path: Path) -> None:
    with running(tmp_path, api_keys=READER) as server:
        pass
    assert "characters" not in "\n".join(server.lines)
