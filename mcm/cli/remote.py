"""Detectors and scores of a server, through the SDK."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mcm import wire
from mcm.calibration import Calibration
from mcm.cli.output import note
from mcm.cli.rows import Row, failed, judged
from mcm.client import Client, DefinitionChanged, core_calibration
from mcm.definition import Concept, Definition
from mcm.errors import ClientError, InvalidInput
from mcm.negatives import NegativesChoice


def connect(url: str, jobs: int | None = None) -> Client:
    """A client of the server, with the key of MCM_API_KEY."""
    key = os.environ.get("MCM_API_KEY") or None
    return Client(url, api_key=key) if jobs is None else Client(url, api_key=key, max_in_flight=jobs)


def definition_arguments(definition: Definition) -> dict[str, Any]:
    """A definition as the SDK's arguments."""
    return {
        "concepts": [_concept(concept) for concept in definition.concepts],
        "templates": list(definition.templates),
        "score": definition.score,
        "temperature": definition.temperature,
        "local_weight": definition.local_weight,
        "negatives": None if definition.negatives is None else _negatives(definition.negatives),
    }


def running_model(client: Client) -> wire.Model:
    """The encoder that the server runs.

    Raises:
        ClientError: it runs none.
    """
    models = client.models()
    if not models:
        raise ClientError("the server runs no encoder; see its log")
    return models[0]


def calibrate_again(client: Client, name: str, chosen: dict[str, Any]) -> wire.CertificateAnswer:
    """Calibrate with the scores that the server has, by other options.

    Raises:
        InvalidInput: it has none, or per concept is asked for and their concepts are not known.
    """
    kept = client.calibration(name)
    if not kept.scores:
        raise InvalidInput(f"detector {name!r} has no calibration scores: calibrate it with images")
    if chosen["per_concept"] and kept.groups is None:
        raise InvalidInput("the stored scores have no concepts: calibrate per concept with the images")
    per_concept = kept.groups is not None and chosen["per_concept"] is not False
    return client.calibrate(
        name,
        scores=kept.scores,
        definition_hash=kept.definition_hash,
        concepts=kept.groups.concepts if kept.groups is not None and per_concept else None,
        **chosen | {"per_concept": per_concept},
    )


def calibration(url: str, name: str) -> tuple[Calibration, int]:
    """The calibration scores of a detector, to compare with, and its revision."""
    with connect(url) as client:
        found = client.calibration(name)
    return core_calibration(found), found.revision


def rows_of_detector(
    url: str,
    name: str,
    images: Iterable[Path],
    top_k: int,
    jobs: int | None,
    *,
    revision: int | None = None,
) -> Iterator[Row]:
    """A row for each image, judged by a detector of the server.

    Raises:
        DefinitionChanged: it is not, or not any more, at `revision`, if one is given.
    """
    said: set[str] = set()
    with connect(url, jobs) as client:
        for answer in client.score_answers(name, as_text(images), top_k=top_k):
            if revision not in (None, answer.revision):
                raise DefinitionChanged(
                    f"detector {name!r} changed while the images were scored; score them again"
                )
            say_warnings(answer.warnings, said)
            blank = Row(
                name="",
                score_name=answer.score_name,
                definition_hash=answer.definition_hash,
                encoder=answer.model.name,
                fingerprint=answer.model.fingerprint,
                threshold=answer.threshold,
            )
            yield from (_row(blank, result) for result in answer.results)


def rows_of_concepts(
    url: str, definition: Definition, images: Iterable[Path], top_k: int, jobs: int | None
) -> Iterator[Row]:
    """A row for each image, scored by the server against the definition's concepts."""
    with connect(url, jobs) as client:
        arguments = definition_arguments(definition)
        checked = client.check_concepts(arguments["concepts"], templates=arguments["templates"])
        say_warnings(checked.warnings, set())
        model = running_model(client)
        blank = Row(
            name="",
            score_name=definition.score,
            definition_hash=definition.hash(model.fingerprint),
            encoder=model.name,
            fingerprint=model.fingerprint,
        )
        for result in client.score_once(as_text(images), **arguments, top_k=top_k):
            yield _row(blank, result)


def _row(blank: Row, result: wire.Result) -> Row:
    if result.error is not None:
        return failed(blank, result.name or "", result.error.detail)
    return judged(blank, result.name or "", result)


def say_warnings(warnings: Iterable[wire.Notice], said: set[str]) -> None:
    """Print the warnings that were not said before."""
    for warning in warnings:
        if warning.message not in said:
            said.add(warning.message)
            note(f"warning: {warning.message}")


def as_text(images: Iterable[Path]) -> Iterator[str]:
    """The images as the SDK takes them."""
    return (str(path) for path in images)


def _negatives(choice: NegativesChoice) -> wire.Negatives:
    """What to ask of the server, whose vocabulary it is."""
    return wire.Negatives(
        vocabulary=choice.vocabulary, groups=choice.groups, seed=choice.seed, drop_near=choice.drop_near
    )


def _concept(concept: Concept) -> str | wire.ConceptSpec:
    if not concept.prompts:
        return concept.name
    return wire.ConceptSpec(name=concept.name, prompts=list(concept.prompts))
