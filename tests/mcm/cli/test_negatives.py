"""neglabel on the command line: vocabularies, what is told of the mining, files, servers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcm.detector_file import read_detector_file
from mcm.vocabularies import load_vocabulary
from tests.mcm.cli.conftest import Run
from tests.server import running

WORDS = "".join(f"word {i}\n" for i in range(40)) + "Red\nquick\tadjective\n"
CREATE = ("detector", "create", "--concepts", "red,green", "--score", "neglabel")
NEGLABEL = ("--vocabulary", "words.txt", "--groups", 3, "--seed", 5)


@pytest.fixture(autouse=True)
def words(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    Path("words.txt").write_text(WORDS)


@pytest.fixture(scope="module")
def wordnet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that knows a small WordNet."""
    folder = tmp_path_factory.mktemp("wordnet")
    (folder / "index.noun").write_text("".join(f"noun_{i} n 1 0 1 0 00001740\n" for i in range(50)))
    (folder / "index.adj").write_text("good a 1 0 1 0 00001740\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        with running(folder, wordnet_dir=folder) as server:
            yield server.url


def test_a_file_is_made_and_the_mining_told(run: Run) -> None:
    ended = run(*CREATE, "--detector-file", "d.json", *NEGLABEL)
    assert ended.code == 0, ended.err
    detector = read_detector_file(Path("d.json").read_bytes())
    choice = detector.definition.negatives
    assert choice is not None
    assert (choice.vocabulary, choice.vocabulary_hash) == ("words", load_vocabulary("words.txt").hash)
    assert (choice.groups, choice.seed, choice.drop_near) == (3, 5, False)
    assert "negatives: 6 words in 3 groups, of the 41 candidates of words; 0 left over" in ended.err
    assert "dropped, since they are concepts: Red" in ended.err
    assert "closest to a concept; are they what you want to reject? word" in ended.err
    shown = run("detector", "show", "--detector-file", "d.json").out
    assert f"negatives\twords ({choice.vocabulary_hash:.12}), at most 3 groups, seed 5\n" in shown


def test_a_file_scores_as_its_concepts_do_and_names_the_negative(run: Run, photos: Path) -> None:
    run(*CREATE, "--detector-file", "d.json", *NEGLABEL)
    by_file = run("score", photos, "--detector-file", "d.json", "--json", "-")
    by_concepts = run(
        "score", photos, "--concepts", "red,green", "--score", "neglabel", *NEGLABEL, "--json", "-"
    )
    assert by_file.code == by_concepts.code == 0, by_concepts.err
    rows = json.loads(by_file.out)["results"]
    assert rows == json.loads(by_concepts.out)["results"]
    assert {row["score_name"] for row in rows} == {"neglabel"}
    assert all(row["negative"].startswith("word") for row in rows)


def test_rows_of_other_scores_name_no_negative(run: Run, photos: Path) -> None:
    rows = json.loads(run("score", photos, "--concepts", "red,green", "--json", "-").out)["results"]
    assert {row["negative"] for row in rows} == {None}


def test_a_server_makes_it_of_its_own_vocabulary(run: Run, wordnet_server: str, photos: Path) -> None:
    at = ("--server", wordnet_server)
    ended = run(*CREATE, "pets", "--vocabulary", "wordnet", "--groups", 2, "--drop-near", *at)
    assert ended.code == 0, ended.err
    assert "negatives: 6 words in 2 groups, of the 51 candidates of wordnet; 1 left over" in ended.err
    assert "wordnet (" in run("detector", "show", "pets", *at).out
    rows = json.loads(run("score", photos, "--detector", "pets", *at, "--json", "-").out)["results"]
    assert all(row["negative"].startswith("noun ") for row in rows)


def test_a_server_is_asked_for_a_detector_before_it_scores(run: Run, server: str, photos: Path) -> None:
    ended = run("score", photos, "--concepts", "red", "--score", "neglabel", "--server", server)
    assert ended.code == 2
    assert "mcm detector create NAME --score neglabel" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--vocabulary", "words.txt"), "--vocabulary goes with --score neglabel"),
        (("--groups", "3"), "--groups goes with --score neglabel"),
        (("--seed", "0"), "--seed goes with --score neglabel"),
        (("--drop-near",), "--drop-near goes with --score neglabel"),
        (("--score", "neglabel", "--vocabulary", "klingon"), "there is no vocabulary 'klingon'"),
        (("--score", "neglabel", "--vocabulary", "words.txt", "--groups", "0"), "groups of the negatives"),
        (("--score", "neglabel", "--vocabulary", "words.txt", "--seed", "-1"), "seed of the negatives"),
        (("--score", "neglabel", "--vocabulary", "photos"), "cannot read photos/index.noun"),
        (("--score", "neglabel", "--vocabulary", "few.txt"), "no negative is kept"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    run: Run, photos: Path, arguments: tuple[str, ...], told: str
) -> None:
    Path("few.txt").write_text("one\ntwo\n")
    ended = run("score", photos, "--concepts", "red,green", *arguments)
    assert ended.code == 2
    assert told in ended.err
