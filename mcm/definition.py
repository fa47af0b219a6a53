"""What a detector is made from: concepts, templates, a score and its parameters."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mcm.errors import InvalidDefinition
from mcm.names import folded_name
from mcm.negatives import NegativesChoice
from mcm.scores import (
    DEFAULT_LOCAL_WEIGHT,
    SCORES,
    checked_local_weight,
    checked_temperature,
    get_score,
)
from mcm.vocabularies import NOUN_PROMPT, default_vocabulary

DEFAULT_TEMPLATES = ("a photo of a {}",)
DEFAULT_TEMPERATURE = 1.0
NEGLABEL_TEMPLATES = (NOUN_PROMPT,)
NEGLABEL_TEMPERATURE = 0.01
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Concept:
    """An in-distribution class name. With `prompts`, these texts stand for it; else the templates do.

    Raises:
        InvalidDefinition: the prompts are one text, or no list. A Definition checks the texts.
    """

    name: str
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", _listed(self.prompts, f"the prompts of concept {self.name!r}"))


@dataclass(frozen=True)
class Definition:
    """Concepts, templates, score and its parameters, checked when built.

    `concepts` (k,), k >= 1, duplicates kept; `templates`, each with one `{}` for the name; `score`, a key
    of `mcm.SCORES`; `temperature` in [1e-6, 1e6]; `local_weight` in [0, 1e6], for `gl-mcm`: what the best
    patch counts beside the whole image (0.5 if None); None with every other score. `negatives`: what decides
    the negative words of `neglabel`; None with every other score.

    Raises:
        InvalidDefinition: says which part is wrong and what to do.
    """

    concepts: tuple[Concept, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    score: str = "mcm"
    temperature: float = DEFAULT_TEMPERATURE
    local_weight: float | None = None
    negatives: NegativesChoice | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", _listed(self.concepts, "concepts"))
        object.__setattr__(self, "templates", _listed(self.templates, "templates"))
        object.__setattr__(self, "temperature", checked_temperature(self.temperature))
        _check_concepts(self.concepts)
        _check_templates(self.templates)
        if get_score(self.score).contrasts and len(self.concepts) == 1:
            raise InvalidDefinition(constant_score_message(self.score, "one concept"))
        object.__setattr__(self, "local_weight", _local_weight(self.score, self.local_weight))
        _check_negatives(self.score, self.negatives)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The concepts' names, in order; (k,), duplicates kept."""
        return tuple(concept.name for concept in self.concepts)

    def to_json(self) -> dict[str, Any]:
        """The definition as plain JSON data; `definition_from_json` reads it back.

        A parameter is there only where the score has it, so that none changes the hash of another score.
        """
        own: dict[str, Any] = {} if self.local_weight is None else {"local_weight": self.local_weight}
        if self.negatives is not None:
            own["negatives"] = asdict(self.negatives)
        return {
            "concepts": [
                {"name": c.name, "prompts": list(c.prompts)} if c.prompts else c.name for c in self.concepts
            ],
            "templates": list(self.templates),
            "score": self.score,
            "temperature": self.temperature,
            **own,
        }

    def hash(self, fingerprint: str) -> str:
        """Definition hash under the encoder `fingerprint`: two scores compare if and only if it is equal."""
        canonical = json.dumps([self.to_json(), fingerprint], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def define(
    concepts: Iterable[str | Concept] | Mapping[str, Sequence[str]],
    *,
    templates: Sequence[str] | None = None,
    score: str = "mcm",
    temperature: float | None = None,
    local_weight: float | None = None,
    negatives: NegativesChoice | None = None,
) -> Definition:
    """A definition from class names, or a mapping from names to their own prompts.

    What is left out takes the score's defaults; for `neglabel` these are the prompts and the temperature of
    its authors, and words of ImageNet-21k as negatives.

    Raises:
        InvalidDefinition: see `Definition`; or one text was given where a list of them is due.
        MissingExtra: the default negatives need timm, and it is not installed.
    """
    if isinstance(concepts, Mapping):
        concepts = [
            Concept(name, _listed(prompts, f"the prompts of concept {name!r}"))
            for name, prompts in concepts.items()
        ]
    return Definition(
        concepts=tuple(c if isinstance(c, Concept) else Concept(c) for c in _listed(concepts, "concepts")),
        templates=default_templates(score) if templates is None else _listed(templates, "templates"),
        score=score,
        temperature=default_temperature(score) if temperature is None else temperature,
        local_weight=local_weight,
        negatives=_default_negatives(score) if negatives is None else negatives,
    )


def default_templates(score: str) -> tuple[str, ...]:
    """The templates of a definition that names none."""
    return NEGLABEL_TEMPLATES if get_score(score).negatives else DEFAULT_TEMPLATES


def default_temperature(score: str) -> float:
    """The temperature of a definition that names none."""
    return NEGLABEL_TEMPERATURE if get_score(score).negatives else DEFAULT_TEMPERATURE


def definition_from_json(data: dict[str, Any]) -> Definition:
    """The definition that `Definition.to_json` wrote."""
    negatives = data.get("negatives")
    concepts = (
        c if isinstance(c, str) else Concept(c["name"], tuple(c.get("prompts") or ()))
        for c in data["concepts"]
    )
    return define(
        concepts,
        templates=data["templates"],
        score=data["score"],
        temperature=data["temperature"],
        local_weight=data.get("local_weight"),
        negatives=None if negatives is None else NegativesChoice(**{"vocabulary_hash": None} | negatives),
    )


def duplicate_concepts(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more names with the same `folded_name`, in order of first appearance."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(folded_name(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def constant_score_message(score: str, cause: str) -> str:
    """Why `score` is refused when the concepts do not differ, and which scores work."""
    working = [s.name for s in SCORES.values() if not s.contrasts]
    return (
        f"the score {score!r} compares concepts, and with {cause} it is the same for every image; "
        f"add concepts, or use {' or '.join(working)}"
    )


def _local_weight(score: str, weight: float | None) -> float | None:
    if get_score(score).local:
        return checked_local_weight(DEFAULT_LOCAL_WEIGHT if weight is None else weight)
    if weight is not None:
        raise InvalidDefinition(
            f"local_weight goes with the score 'gl-mcm'; {score!r} has none: leave it out"
        )
    return None


def _default_negatives(score: str) -> NegativesChoice | None:
    if not get_score(score).negatives:
        return None
    vocabulary = default_vocabulary()
    return NegativesChoice(vocabulary.name, vocabulary.hash)


def _check_negatives(score: str, negatives: NegativesChoice | None) -> None:
    if not get_score(score).negatives:
        if negatives is not None:
            raise InvalidDefinition(
                f"negatives go with the score 'neglabel'; {score!r} has none: leave them out"
            )
    elif not isinstance(negatives, NegativesChoice):
        raise InvalidDefinition(
            f"the score {score!r} needs negatives: a NegativesChoice, not {negatives!r:.50}"
        )


def _listed(texts: object, what: str) -> tuple[Any, ...]:
    """A list as a tuple. One text would pass for a list of its letters."""
    if isinstance(texts, str):
        raise InvalidDefinition(f"{what} must be a list of texts, not the one text {texts!r}")
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise InvalidDefinition(f"{what} must be a list of texts, not {texts!r:.50}")
    return tuple(texts)


def _check_concepts(concepts: tuple[Concept, ...]) -> None:
    if not concepts:
        raise InvalidDefinition("concepts is empty; give at least one class name")
    for position, concept in enumerate(concepts):
        if not isinstance(concept, Concept):
            raise InvalidDefinition(
                f"concept {position} must be a Concept, not {concept!r:.50}; mcm.define takes names too"
            )
        check_text(concept.name, f"concept {position}")
        for prompt in concept.prompts:
            check_text(prompt, f"a prompt of concept {concept.name!r}")


def _check_templates(templates: tuple[str, ...]) -> None:
    if not templates:
        raise InvalidDefinition("templates is empty; give at least one text with {} in it")
    for template in templates:
        check_text(template, "a template")
        if template.count("{}") != 1:
            raise InvalidDefinition(f"the template {template!r} must contain {{}} exactly once")


def check_text(text: str, what: str) -> None:
    """Refuse what is no text, is blank, or carries control characters, line breaks or lone surrogates.

    Raises:
        InvalidDefinition: begins with `what`.
    """
    if not isinstance(text, str):
        raise InvalidDefinition(f"{what} must be text, not {text!r:.50}")
    if not text.strip():
        raise InvalidDefinition(f"{what} is blank")
    if _CONTROL.search(text):
        raise InvalidDefinition(f"{what} contains control characters: {text!r}")
