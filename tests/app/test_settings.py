"""Settings: read from MCM_* variables; a wrong one is one clear line and exit code 2."""

import socket
from pathlib import Path

import pytest

from app.__main__ import main
from app.settings import Settings
from tests.fakes import ColourEncoder
from tests.server import COLOURS, ended

WRONG = [
    ("port", "x"),
    ("port", "70000"),
    ("port", "-1"),
    ("max_images", "0"),
    ("max_images", "-5"),
    ("max_images", "many"),
    ("max_image_bytes", "1.5"),
    ("request_timeout", "0"),
    ("body_timeout", "-1"),
    ("request_timeout", "soon"),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("allow_anonymous", "perhaps"),
    ("decode_threads", "-1"),
    ("rate_limit", "-1"),
    ("image_formats", "JPEG,SVG"),
    ("image_formats", ","),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MCM_{name.upper()}", value)
    with pytest.raises(ValueError, match=name):
        Settings()


def test_a_wrong_setting_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCM_PORT", "x")
    monkeypatch.setenv("MCM_MAX_IMAGES", "0")
    assert main(ColourEncoder()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: wrong settings: ")
    assert "MCM_PORT" in line
    assert "MCM_MAX_IMAGES" in line


def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = ended(tmp_path, COLOURS, port=port)
    assert code == 1
    (line,) = lines
    assert f"127.0.0.1:{port}" in line


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/nowhere/mcm.db"])
def test_a_database_that_cannot_be_used_is_exit_code_1_and_the_last_line_says_why(
    tmp_path: Path, url: str
) -> None:
    code, lines = ended(tmp_path, COLOURS, database_url=url)
    assert code == 1
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in "\n".join(lines)


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCM_IMAGE_FORMATS", " jpeg, WEBP,,PNG ")
    monkeypatch.setenv("MCM_ALLOWED_HOSTS", "Example.COM,")
    settings = Settings()
    assert settings.image_formats == ("JPEG", "WebP", "PNG")
    assert settings.allowed_hosts == ("example.com",)
    assert settings.admin_keys == ()


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert (settings.host, settings.has_keys, settings.allow_anonymous) == ("127.0.0.1", False, False)
    assert settings.max_image_bytes == 20 * 2**20
    assert settings.max_request_bytes == 64 * 2**20
    assert settings.max_json_bytes == 16 * 2**20
    assert settings.max_image_pixels == 50_000_000
    assert (settings.max_images, settings.max_embeddings) == (256, 10_000)
    assert (settings.max_concepts, settings.max_prompts) == (10_000, 20_000)
    assert (settings.max_one_shot_prompts, settings.max_text_chars) == (1_000, 1_000)
    assert (settings.max_templates, settings.max_detectors) == (64, 1_000)
    assert settings.max_calibration_scores == 100_000
    assert (settings.create_timeout, settings.store_grace_s) == (900, 30)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
