"""Candidate words: from timm, from a WordNet folder, from a text file."""

from pathlib import Path

import pytest

from mcm.errors import InvalidInput
from mcm.vocabularies import Vocabulary, imagenet_vocabulary, load_vocabulary, vocabulary

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by\n"


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """A folder in the format of WordNet 3.x."""
    nouns = "entity n 1 1 ~ 1 1 00001740\ncafé n 1 1 @ 1 0 03151\nice_cream n 1 2 @ ~ 1 1 07614500\n"
    (tmp_path / "index.noun").write_text(LICENCE + nouns, encoding="utf-8")
    (tmp_path / "index.adj").write_text(LICENCE + "very_good a 1 1 \\ 1 0 01123\n", encoding="utf-8")
    return tmp_path


def test_timm_carries_the_lemmas_of_imagenet_21k() -> None:
    words = imagenet_vocabulary()
    assert (words.name, len(words.nouns), words.adjectives) == ("imagenet-21k", 36_947, ())
    assert {"tench", "Tinca tinca", "hammerhead shark", "person"} <= set(words.nouns)
    assert words.repeated == 3_797


def test_a_wordnet_folder_gives_nouns_and_adjectives_without_its_licence(wordnet: Path) -> None:
    words = load_vocabulary(str(wordnet))
    assert words == Vocabulary("wordnet", ("entity", "café", "ice cream"), ("very good",))


def test_a_text_file_gives_a_word_a_line_with_its_part_of_speech(tmp_path: Path) -> None:
    file = tmp_path / "fruit.txt"
    file.write_text("# fruit\napple\n\n ripe \tadjective\nsour cherry\tnoun\n", encoding="utf-8-sig")
    assert load_vocabulary(str(file)) == Vocabulary("fruit", ("apple", "sour cherry"), ("ripe",))


def test_words_stand_in_the_authors_prompts() -> None:
    assert vocabulary("v", ["a {} cat"], ["red"]).prompts == ("the nice a {} cat", "This is a red photo")


def test_a_word_that_comes_again_is_dropped_and_counted() -> None:
    words = vocabulary("v", ["Cat", " cat", "CAT ", "ice  cream", "ice cream"], ["cat"])
    assert (words.nouns, words.adjectives, words.repeated) == (("Cat", "ice cream"), ("cat",), 3)


def test_the_hash_is_of_the_words_and_their_parts_of_speech() -> None:
    one = vocabulary("one", ["a", "b"], ["c"])
    assert vocabulary("other", ["a", "b"], ["c"]).hash == one.hash
    others = [
        (["a"], ["b", "c"]),
        (["b", "a"], ["c"]),
        (["a", "b", "c"], []),
        (["a b"], ["c"]),
        (["A", "b"], ["c"]),
    ]
    hashes = {vocabulary("one", *words).hash for words in others}
    assert len(hashes | {one.hash}) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no words"),
        ("# nothing\n \n", "no words"),
        ("run\tverb\n", "line 1: 'verb' must be one of noun, adjective"),
    ],
)
def test_a_text_file_without_usable_words_is_refused_with_the_place(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "words.txt").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        load_vocabulary(str(tmp_path / "words.txt"))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InvalidInput, match="not a UTF-8 text file"):
        load_vocabulary(str(tmp_path / "words.txt"))


def test_a_folder_that_is_not_wordnets_is_refused(tmp_path: Path, wordnet: Path) -> None:
    (wordnet / "index.adj").write_text("red\ngreen\n")
    with pytest.raises(InvalidInput, match=r"index\.adj, line 1: this is not an index file of WordNet"):
        load_vocabulary(str(wordnet))
    (wordnet / "index.adj").unlink()
    with pytest.raises(InvalidInput, match=r"cannot read .*index\.adj"):
        load_vocabulary(str(wordnet))


def test_an_unknown_vocabulary_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidInput, match="there is no vocabulary 'klingon': give imagenet-21k, a WordNet"):
        load_vocabulary("klingon")
