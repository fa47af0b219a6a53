"""What data sets are scored with: detectors, and the encoder where there are images or concepts to embed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from mcm.calibration import UNCALIBRATED
from mcm.cli.negatives import negatives_of
from mcm.cli.options import encoder_spec, refuse
from mcm.definition import Concept, Definition, define
from mcm.errors import InvalidInput
from mcm.scores import get_score

if TYPE_CHECKING:
    from mcm.detector import Detector
    from mcm.encoders import Encoder
    from mcm.evaluation import DataSet

PAPER_ENCODER = "ViT-B-16/openai"


@dataclass(frozen=True)
class Wanted:
    """The scores to compare; what is None takes each score's own default."""

    templates: Sequence[str] | None
    scores: Sequence[str] | None
    temperatures: Sequence[float] | None
    local_weight: float | None
    vocabulary: str | None
    paper: bool


@dataclass(frozen=True, eq=False)
class Subject:
    """Detectors of one encoder, maybe none; the encoder where something is to be embedded."""

    detectors: Sequence["Detector"]
    encoder: "Encoder | None"


def find(
    sets: Sequence["DataSet"],
    concepts: Sequence[Concept] | None,
    detector_file: Path | None,
    wanted: Wanted,
    encoder: str | None,
    device: str,
) -> Subject:
    """What these options say that the sets are scored with; nothing, where they are tables of scores.

    Raises:
        InvalidInput: the options contradict each other, or a definition is wrong.
        McmError: a detector file or an encoder that cannot be used.
    """
    if detector_file is not None:
        if concepts is not None:
            raise InvalidInput("a detector has its own concepts: leave out the concepts or --detector-file")
        refuse(
            "goes with concepts; a detector has its own",
            template=wanted.templates or None,
            vocabulary=wanted.vocabulary,
        )
        return _of_file(sets, detector_file, wanted, encoder, device)
    if concepts is not None:
        return _of_concepts(sets, concepts, wanted, encoder, device)
    refuse(
        "goes with concepts or a detector",
        template=wanted.templates or None,
        score=wanted.scores,
        temperature=wanted.temperatures,
        local_weight=wanted.local_weight,
        vocabulary=wanted.vocabulary,
    )
    return Subject([], None)


def _of_concepts(
    sets: Sequence["DataSet"], concepts: Sequence[Concept], wanted: Wanted, encoder: str | None, device: str
) -> Subject:
    from mcm.cli import local

    definitions = list(_definitions(concepts, wanted))  # all are checked before the encoder is loaded
    named = PAPER_ENCODER if wanted.paper else _encoder_of_tables(sets)
    loaded = local.load(encoder_spec(encoder, named), device, bilinear=wanted.paper)
    return Subject(list(_detectors(definitions, loaded, wanted.vocabulary)), loaded)


def _of_file(
    sets: Sequence["DataSet"], path: Path, wanted: Wanted, encoder: str | None, device: str
) -> Subject:
    """The file's detector, also with other scores and temperatures; no encoder where embeddings are given."""
    from mcm.cli import local

    if any(data_set.path.is_dir() for data_set in sets):
        detector, loaded = local.detector_and_encoder(path, encoder, device, bilinear=wanted.paper)
    else:
        detector, loaded = local.read_detector(path)[0], None
    own = detector.definition
    pairs = product(wanted.scores or [own.score], wanted.temperatures or [own.temperature])
    return Subject([_variant(detector, *pair, wanted.local_weight) for pair in pairs], loaded)


def _variant(detector: "Detector", name: str, temperature: float, local_weight: float | None) -> "Detector":
    """The same concepts under another score; negatives are mined, so they stay with their detector."""
    score, own = get_score(name), detector.definition
    if score.negatives != (own.negatives is not None):
        raise InvalidInput(
            f"a detector of {own.score!r} cannot be given the score {name!r}, whose prompts are others: "
            "give the concepts instead of the detector"
        )
    weight = (own.local_weight if local_weight is None else local_weight) if score.local else None
    definition = replace(own, score=name, temperature=temperature, local_weight=weight)
    return replace(detector, definition=definition, calibration=UNCALIBRATED)


def _definitions(concepts: Sequence[Concept], wanted: Wanted) -> Iterator[Definition]:
    """A definition for each score and temperature; `max-logit`, which knows no temperature, once."""
    from mcm.evaluation.paper import TEMPLATE

    for name in wanted.scores or ["mcm"]:
        score = get_score(name)
        templates = [TEMPLATE] if wanted.paper and not score.negatives else None
        words = wanted.vocabulary if score.negatives else None
        given: Sequence[float | None] = wanted.temperatures or [None]
        for temperature in [None] if name == "max-logit" else given:
            yield define(
                concepts,
                templates=wanted.templates or templates,
                score=name,
                temperature=temperature,
                local_weight=wanted.local_weight if score.local else None,
                negatives=negatives_of(name, words, None, None, False, on_server=False),
            )


def _detectors(
    definitions: Sequence[Definition], encoder: "Encoder", vocabulary: str | None
) -> Iterator["Detector"]:
    """A detector for each definition; prompts that several share are encoded once."""
    from mcm.cli import local
    from mcm.prompts import check_encoder

    for definition in definitions:
        check_encoder(definition, encoder)
    made: dict[object, Detector] = {}
    for definition in definitions:
        key = (definition.templates, get_score(definition.score).contrasts, definition.negatives)
        if key not in made:
            made[key] = local.new_detector(definition, encoder, vocabulary)
        yield replace(made[key], definition=definition)


def _encoder_of_tables(sets: Sequence["DataSet"]) -> str | None:
    """The encoder that the first table of embeddings names."""
    from mcm.evaluation.tables import open_table

    for data_set in sets:
        if not data_set.path.is_dir() and (name := open_table(data_set.path).encoder_name()):
            return name
    return None
