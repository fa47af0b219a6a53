"""Words that may become negatives of `neglabel`: where they come from, and the prompts that they stand in."""

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from mcm.errors import InvalidInput, MissingExtra
from mcm.names import folded_name

IMAGENET = "imagenet-21k"
WORDNET = "wordnet"
NOUN_PROMPT = "the nice {}"
ADJECTIVE_PROMPT = "This is a {} photo"
_WORDNET_FILES = {"noun": "index.noun", "adjective": "index.adj"}
_TIMM_LEMMAS = Path("data", "_info", "imagenet_synset_to_lemma.txt")  # a synset, a tab, its lemmas


@dataclass(frozen=True)
class Vocabulary:
    """Candidate words, nouns and adjectives apart, each word once: equal but for case, space and Unicode
    form is the same word. The prompts are those of the NegLabel authors (Jiang et al., ICLR 2024).

    `repeated` counts the words that the source had more than once.
    """

    name: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...] = ()
    repeated: int = 0

    def __post_init__(self) -> None:
        if not self.nouns and not self.adjectives:
            raise InvalidInput(f"the vocabulary {self.name!r} has no words")

    @property
    def words(self) -> tuple[str, ...]:
        """All words (n,), nouns first."""
        return self.nouns + self.adjectives

    @property
    def prompts(self) -> tuple[str, ...]:
        """The text for each word, (n,): `the nice {}` for nouns, `This is a {} photo` for adjectives."""
        nouns = (NOUN_PROMPT.replace("{}", word) for word in self.nouns)
        return (*nouns, *(ADJECTIVE_PROMPT.replace("{}", word) for word in self.adjectives))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the words and their parts of speech, in their order; not of the name."""
        parts = ("\n".join(self.nouns), "\n".join(self.adjectives))
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def vocabulary(name: str, nouns: Iterable[str], adjectives: Iterable[str] = ()) -> Vocabulary:
    """A vocabulary from words as they come: spaces are trimmed, repeated words dropped and counted.

    Raises:
        InvalidInput: no word is left.
    """
    given = [list(nouns), list(adjectives)]
    kept = [_distinct(words) for words in given]
    dropped = sum(map(len, given)) - sum(map(len, kept))
    return Vocabulary(name, kept[0], kept[1], dropped)


def load_vocabulary(spec: str) -> Vocabulary:
    """The vocabulary that `spec` names: `imagenet-21k`, a WordNet folder, or a text file.

    Raises:
        InvalidInput: there is nothing of this name, or it is not what it should be.
        MissingExtra: `imagenet-21k` without timm.
    """
    path = Path(spec)
    if spec == IMAGENET:
        return default_vocabulary()
    if path.is_dir():
        return wordnet_vocabulary(path)
    if path.is_file():
        return text_vocabulary(path)
    raise InvalidInput(
        f"there is no vocabulary {spec!r}: give {IMAGENET}, a WordNet folder (with index.noun and "
        "index.adj), or a text file with one word a line"
    )


@cache
def default_vocabulary() -> Vocabulary:
    """The vocabulary of a `neglabel` definition that names none, `imagenet-21k`; read once.

    Raises:
        MissingExtra: timm is not installed.
    """
    return imagenet_vocabulary()


def imagenet_vocabulary() -> Vocabulary:
    """The lemmas of the ImageNet-21k synsets, 36,947 nouns, which timm carries: nothing is downloaded.

    Raises:
        MissingExtra: timm is not installed.
    """
    timm = importlib.util.find_spec("timm")
    if timm is None or timm.origin is None:
        raise MissingExtra("clip", f"the vocabulary {IMAGENET}")
    lines = _lines(Path(timm.origin).parent / _TIMM_LEMMAS)  # read here, since importing timm takes seconds
    return vocabulary(IMAGENET, (word for line in lines for word in line.partition("\t")[2].split(", ")))


def wordnet_vocabulary(folder: Path) -> Vocabulary:
    """The nouns and adjectives of a WordNet 3.x `dict` folder (as in Debian's wordnet-base).

    Raises:
        InvalidInput: a file is missing or not WordNet's.
    """
    nouns, adjectives = (list(_index_words(folder / file)) for file in _WORDNET_FILES.values())
    return vocabulary(WORDNET, nouns, adjectives)


def text_vocabulary(path: Path) -> Vocabulary:
    """One word a line, a noun unless a tab and `adjective` follow it; `#` starts a comment line.

    The vocabulary's name is the file's, without its ending.

    Raises:
        InvalidInput: not a UTF-8 file, an unknown part of speech, or no words.
    """
    words: dict[str, list[str]] = {kind: [] for kind in _WORDNET_FILES}
    for number, line in enumerate(_lines(path), start=1):
        word, _, kind = line.partition("\t")
        if word.strip() and not word.startswith("#"):
            kind = kind.strip() or "noun"
            if kind not in words:
                raise InvalidInput(f"{path}, line {number}: {kind!r:.50} must be one of {', '.join(words)}")
            words[kind].append(word)
    return vocabulary(path.stem, words["noun"], words["adjective"])


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for word in words:
        trimmed = " ".join(word.split())
        if trimmed:
            first.setdefault(folded_name(trimmed), trimmed)
    return tuple(first.values())


def _index_words(path: Path) -> Iterator[str]:
    """The lemmas of a WordNet index file: the first field, `_` for a space; the licence is indented."""
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("  ") or not line:
            continue
        fields = line.split()
        if len(fields) < 4 or fields[1] not in ("n", "a"):
            raise InvalidInput(f"{path}, line {number}: this is not an index file of WordNet 3")
        yield fields[0].replace("_", " ")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not a UTF-8 text file") from error
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error
