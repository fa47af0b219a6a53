import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm import Concept
from mcm.cli import options
from mcm.errors import InvalidInput


def test_concepts_stand_between_commas() -> None:
    assert options.split_concepts("cat, hot dog ,bird") == [
        Concept("cat"),
        Concept("hot dog"),
        Concept("bird"),
    ]


def test_a_concepts_file_has_a_name_a_line_and_comment_lines(tmp_path: Path) -> None:
    path = tmp_path / "pets.txt"
    path.write_text("\ufeff# pets\ncat\n\n  hot dog  \n#bird\nC# book\n", encoding="utf-8")
    assert options.read_concepts(path) == [Concept("cat"), Concept("hot dog"), Concept("C# book")]


def test_a_concepts_file_may_be_a_json_list_with_prompts(tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(["cat", {"name": "dog", "prompts": ["a dog", "a puppy"]}, {"name": "bird"}]))
    assert options.read_concepts(path) == [
        Concept("cat"),
        Concept("dog", ("a dog", "a puppy")),
        Concept("bird"),
    ]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\xff\xfe\xfa", "not a UTF-8 text file"),
        (b"[1]", "item 0: must be a name"),
        (b'["a", {"nam": "b"}]', "item 1: must be a name"),
        (b'[{"name": "b", "prompts": "text"}]', "item 0"),
        (b'[{"name": "b", "prompts": [1]}]', "item 0"),
        (b"[", "not one"),
        (b"[" * 100_000, "not one"),
    ],
)
def test_a_wrong_concepts_file_is_refused_with_the_place(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "concepts"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="concepts") as refusal:
        options.read_concepts(path)
    assert part in str(refusal.value)


@given(content=st.binary(max_size=80) | st.text(max_size=40).map(lambda text: f"[{text}]".encode()))
def test_any_concepts_file_gives_concepts_or_a_refusal(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "concepts"
        path.write_bytes(content)
        try:
            concepts = options.read_concepts(path)
        except InvalidInput:
            return
    assert all(isinstance(concept, Concept) for concept in concepts)


def test_the_encoder_is_the_option_s_then_the_environment_s_then_the_file_s_then_the_builtin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MCM_ENCODER", raising=False)
    assert options.encoder_spec(None) == "builtin"
    assert options.encoder_spec(None, "ViT-B-16/openai") == "ViT-B-16/openai"
    monkeypatch.setenv("MCM_ENCODER", "ViT-L-14/openai")
    assert options.encoder_spec(None, "ViT-B-16/openai") == "ViT-L-14/openai"
    assert options.encoder_spec("RN50/openai", "ViT-B-16/openai") == "RN50/openai"


def test_a_detector_file_is_used_here_even_when_a_server_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCM_SERVER", "http://somewhere")
    assert options.server_for(None) == "http://somewhere"
    assert options.server_for(None, detector_file=Path("pets.json")) is None
