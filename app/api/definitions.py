"""Definitions from requests: limits are checked before any work."""

from collections.abc import Iterable

import anyio.to_thread

from app.errors import InvalidRequest, TooLarge
from app.service import Service
from app.settings import Settings
from mcm import wire
from mcm.definition import Concept, Definition, define
from mcm.errors import InvalidDefinition
from mcm.negatives import NegativesChoice
from mcm.scores import get_score


async def definition_of(
    request: wire.Definition | wire.ConceptsToCheck | wire.OneShotRequest,
    service: Service,
    *,
    max_prompts: int,
) -> Definition:
    """The definition that a request asks for.

    Raises:
        InvalidDefinition: over a limit, or wrong in itself; or it names a vocabulary that is not here.
    """
    settings = service.settings
    concepts = [concept_of(item) for item in request.concepts or ()]
    templates = request.templates
    _at_most(settings.max_concepts, len(concepts), "concepts")
    _at_most(settings.max_templates, len(templates or ()), "templates")
    _at_most(max_prompts, sum(len(c.prompts) or len(templates or "1") for c in concepts), "prompts")
    check_lengths((c.name for c in concepts), settings, "concept")
    check_lengths((p for c in concepts for p in c.prompts), settings, "prompt")
    check_lengths(templates or (), settings, "template")
    if isinstance(request, wire.ConceptsToCheck):  # a single concept can be looked at as well
        return define(concepts, templates=templates, score="max-logit")
    negatives = await _negatives(request, service)
    try:
        return define(
            concepts,
            templates=templates,
            score=request.score or "mcm",
            temperature=request.temperature,
            local_weight=request.local_weight,
            negatives=negatives,
        )
    except InvalidDefinition as error:
        if len(concepts) == 1 and "," in concepts[0].name:
            hint = f"{concepts[0].name!r} is one concept here: repeat the field, or send a JSON list"
            raise InvalidDefinition(f"{error}; {hint}") from error
        raise


async def _negatives(
    request: wire.Definition | wire.OneShotRequest, service: Service
) -> NegativesChoice | None:
    """The choice of negatives, of the default vocabulary if the score needs some and none is named."""
    wanted = request.negatives
    if wanted is None and request.score is not None and get_score(request.score).negatives:
        wanted = wire.Negatives()
    if wanted is None:
        return None
    return await anyio.to_thread.run_sync(service.catalog.encodings.vocabularies.choose, wanted)


def concept_of(item: str | wire.ConceptSpec) -> Concept:
    """A concept from its name, or from its name and prompts."""
    return Concept(item) if isinstance(item, str) else Concept(item.name, tuple(item.prompts))


def check_lengths(texts: Iterable[str], settings: Settings, what: str) -> None:
    """Refuse texts of more characters than the limit."""
    for text in texts:
        if len(text) > settings.max_text_chars:
            raise InvalidDefinition(
                f"the {what} {text[:40]!r}... has {len(text)} characters, more than the "
                f"{settings.max_text_chars} that are taken"
            )


def check_scores(count: int, settings: Settings) -> None:
    """Refuse more calibration scores than are kept."""
    if count > settings.max_calibration_scores:
        raise TooLarge(f"{count} scores are more than the {settings.max_calibration_scores} of a calibration")


def check_name(path_name: str, body_name: str | None) -> None:
    """Refuse a body whose name is not the path's."""
    if body_name not in (None, path_name):
        raise InvalidRequest(f"the body names the detector {body_name!r}, the path {path_name!r}")


def _at_most(limit: int, count: int, what: str) -> None:
    if count > limit:
        raise InvalidDefinition(f"{count} {what} are more than the {limit} that are taken")
