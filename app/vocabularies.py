"""The vocabularies that clients may name: the server's own, never a path that a client gives."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from app.settings import Settings
from mcm import wire
from mcm.errors import InvalidDefinition
from mcm.negatives import NegativesChoice
from mcm.vocabularies import IMAGENET, WORDNET, Vocabulary, default_vocabulary, wordnet_vocabulary


class Vocabularies:
    """Vocabularies by name, each read when it is first used: its methods are to be called in a thread."""

    def __init__(self, loaders: dict[str, Callable[[], Vocabulary]]) -> None:
        self._loaders = {name: cache(load) for name, load in loaders.items()}

    @property
    def names(self) -> Iterable[str]:
        """What clients may name."""
        return self._loaders.keys()

    def choose(self, wanted: wire.Negatives) -> NegativesChoice:
        """The choice that a request asks for.

        Raises:
            InvalidDefinition: there is no such vocabulary, or its words are others.
        """
        found = self._named(wanted.vocabulary, wanted.vocabulary_hash)
        return NegativesChoice(found.name, found.hash, wanted.groups, wanted.seed, wanted.drop_near)

    def of(self, choice: NegativesChoice) -> Vocabulary:
        """The vocabulary of a definition's negatives. Raises as `choose`."""
        return self._named(choice.vocabulary, choice.vocabulary_hash)

    def _named(self, name: str, wanted_hash: str | None) -> Vocabulary:
        if name not in self._loaders:
            known = " or ".join(self._loaders) or "none at all: install timm, or set MCM_WORDNET_DIR"
            raise InvalidDefinition(f"this server has no vocabulary {name!r:.50}; it has {known}")
        found = self._loaders[name]()
        if wanted_hash not in (None, found.hash):
            raise InvalidDefinition(
                f"the vocabulary {name!r} of this server has other words (hash {found.hash:.12}) than are "
                f"asked for ({wanted_hash:.12})"
            )
        return found


def vocabularies_of(settings: Settings) -> Vocabularies:
    """The ImageNet-21k lemmas where timm is installed, and WordNet where the settings name its folder.

    Raises:
        InvalidInput: the folder is not WordNet's.
    """
    loaders: dict[str, Callable[[], Vocabulary]] = {}
    if find_spec("timm") is not None:
        loaders[IMAGENET] = default_vocabulary
    if settings.wordnet_dir:
        # Read at once, so that what is wrong with it is told at the start.
        wordnet = wordnet_vocabulary(Path(settings.wordnet_dir))
        loaders[WORDNET] = lambda: wordnet
    return Vocabularies(loaders)
