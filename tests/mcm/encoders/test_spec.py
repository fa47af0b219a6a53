"""SPECs: what is understood, and what the errors say."""

import subprocess
import sys

import pytest

from mcm.encoders import Encoder, describe_encoder, load_encoder
from mcm.encoders.spec import ClipSpec, parse_spec
from mcm.errors import EncoderLoadError


@pytest.mark.parametrize(
    ("spec", "architecture", "weights"),
    [
        ("ViT-B-16/openai", "ViT-B-16", "openai"),
        ("ViT-B-16/random:7", "ViT-B-16", "random:7"),
        ("ViT-B-16/file:/a/b c/w.pt", "ViT-B-16", "file:/a/b c/w.pt"),
        ("local-dir:/a/b", "local-dir:/a/b", ""),
        ("local-dir:../a", "local-dir:../a", ""),
        ("hf-hub:org/model", "hf-hub:org/model", ""),
    ],
)
def test_a_spec_has_an_architecture_and_weights(spec: str, architecture: str, weights: str) -> None:
    assert parse_spec(spec) == ClipSpec(spec, architecture, weights)


MALFORMED = [
    "",
    "/",
    "ViT-B-16",
    "ViT-B-16/",
    "/openai",
    "local-dir:",
    "hf-hub:",
    "ViT-B-16/file:",
    "Builtin",
]


@pytest.mark.parametrize("spec", [*MALFORMED, "ViT-B-16/random:", "clip"])
def test_a_malformed_spec_is_told_every_form(spec: str) -> None:
    message = refusal(spec)
    assert "NAME/TAG" in message
    assert "builtin" in message


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("vit-b16/openai", "did you mean ViT-B-16"),
        ("nothing-like-it/openai", "list_models"),
        ("ViT-B-16/opnai", "did you mean openai"),
        ("ViT-B-16/laion2b", "openai, laion400m_e31"),
        ("ViT-S-32-alt/openai", "it has none"),
        ("ViT-B-16/random:x", "whole number"),
        ("ViT-B-16/random:-1", "whole number"),
        ("ViT-B-16/random:9223372036854775808", "whole number"),
        ("ViT-B-16/file:/no/such.pt", "there is no weights file /no/such.pt"),
        ("local-dir:/no/such/folder", "open_clip_config.json"),
    ],
)
def test_an_unknown_name_is_told_what_exists(spec: str, hint: str) -> None:
    assert hint in refusal(spec)


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "", "cuda:99"])
@pytest.mark.parametrize("spec", ["builtin", "ViT-B-32-quickgelu/random:0"])
def test_a_device_that_is_not_there_is_refused(spec: str, device: str) -> None:
    assert "use auto" in refusal(spec, device)


def refusal(spec: str, device: str = "cpu") -> str:
    """The message of the error, which is one line."""
    with pytest.raises(EncoderLoadError) as caught:
        load_encoder(spec, device=device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    program = (
        "from mcm.encoders import load_encoder\n"
        "from mcm.errors import EncoderLoadError\n"
        "for spec in ('hf-hub:no/such', 'ViT-B-16/openai'):\n"
        "    try: load_encoder(spec, device='cpu')\n"
        "    except EncoderLoadError as error: print(error)\n"
    )
    lines = run(program, HF_HUB_OFFLINE="1", HF_HOME="/nonexistent").splitlines()
    assert lines[0].startswith("cannot download hf-hub:no/such: ")
    assert lines[1].startswith("cannot download the weights ViT-B-16/openai")
    assert "ViT-B-16/file:PATH" in lines[1]


@pytest.mark.parametrize(
    ("missing", "spec", "extra"),
    [
        ("torch", "ViT-B-16/random:0", "clip"),
        ("open_clip", "ViT-B-16/random:0", "clip"),
        ("sentence_transformers", "builtin", "builtin"),
        ("timm", "builtin", "builtin"),
    ],
)
def test_a_package_that_is_not_installed_is_named_by_its_extra(missing: str, spec: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from mcm.encoders import load_encoder\n"
        "from mcm.errors import MissingExtra\n"
        f"try: load_encoder({spec!r})\n"
        "except MissingExtra as error: print(error.extra, error)\n"
    )
    output = run(program)
    assert output.startswith(extra)
    assert f"pip install 'mcm-ood[{extra}]'" in output


def test_importing_the_encoders_loads_no_torch() -> None:
    assert run("import sys, mcm.encoders; print('torch' in sys.modules)").strip() == "False"


def test_loading_writes_nothing_and_sets_up_no_logging() -> None:
    program = (
        "import logging\n"
        "from mcm.encoders import load_encoder\n"
        "load_encoder('ViT-S-32-alt/random:0', device='cpu')\n"
        "load_encoder('builtin', device='cpu').encode_texts(['a photo of a cat'])\n"
        "print(logging.getLogger().handlers)"
    )
    assert run(program).strip() == "[]"


def run(program: str, **environment: str) -> str:
    """What a fresh interpreter prints; it must end well and write nothing to stderr."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_one_line_describes_an_encoder(b32: Encoder, tiny_clip: Encoder) -> None:
    line = describe_encoder(b32)
    assert "ViT-B-32-quickgelu/random:0 (QuickGELU, 224 px, dim 512, float32 on cpu, fingerprint " in line
    assert line.endswith(": untrained weights, for tests and benchmarks only")
    assert describe_encoder(tiny_clip).endswith(")")
