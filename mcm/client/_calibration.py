"""Calibrating with any number of images: scored in chunks, their scores posted once. For both clients."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcm import wire
from mcm.client._calls import checked
from mcm.client._images import Item
from mcm.client._work import ScorePiece
from mcm.client.errors import DefinitionChanged, InvalidArgument, UnexpectedAnswer, error_class
from mcm.review import Copies, digest_of, lowest


@dataclass
class Tally:
    """ID scores gathered from many chunks, to be posted once."""

    definition_hash: str | None = None
    scores: list[float] = field(default_factory=list)
    concepts: list[str] = field(default_factory=list)
    images: list[tuple[int, str | None]] = field(default_factory=list)
    errors: list[wire.ImageProblem] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def see(self, item: Item) -> Item:
        """Take note of an image on its way."""
        self.digests.append(digest_of(item.data))
        return item

    def add(self, piece: ScorePiece) -> None:
        """Take the scores of a piece.

        Raises:
            DefinitionChanged: they were made under another definition than those before.
        """
        if piece.answer is not None:
            given = piece.answer.definition_hash
            if self.definition_hash not in (None, given):
                raise DefinitionChanged(
                    f"the detector or its encoder changed while the images were scored (definition hash "
                    f"{self.definition_hash}, then {given}); no threshold was set: calibrate again"
                )
            self.definition_hash = given
        for (result,) in piece.rows:
            self._take(result)

    def _take(self, result: wire.Result) -> None:
        if result.error is not None:
            self.errors.append(wire.ImageProblem(index=result.index, name=result.name, error=result.error))
        elif result.score is None:
            raise UnexpectedAnswer(f"the result of image {result.index} has neither a score nor an error")
        else:
            self.scores.append(result.score)
            self.concepts.append(result.concept or "")
            self.images.append((result.index, result.name))

    def _require_scores(self) -> None:
        if self.scores:
            return
        if not self.errors:
            raise InvalidArgument("there is no image to calibrate with")
        first = self.errors[0].error
        raise error_class(first.status)(first, first.status, first.instance)

    def request(self, options: wire.CalibrateRequest) -> wire.CalibrateRequest:
        """All scores with the hash that made them, to be posted with the options.

        Raises:
            ApiError: every image was bad; the first one's error.
            InvalidArgument: there were no images.
        """
        self._require_scores()
        given: dict[str, object] = {"scores": self.scores, "definition_hash": self.definition_hash}
        if options.per_concept or options.append:  # the calibration that is added to may be per concept
            given["concepts"] = self.concepts
        return options.model_copy(update=given)

    def completed(self, answer: wire.CertificateAnswer) -> wire.CertificateAnswer:
        """The certificate, with what only this side knows of the images: names, errors, copies."""
        warnings, copies = list(answer.warnings), Copies()
        for place, name in self.images:
            copies.add(name or f"image {place}", self.digests[place])
        if copies.advice is not None:
            warnings.append(wire.Notice.model_validate(copies.advice))
        named = [
            wire.LowestScore(index=self.images[i][0], name=self.images[i][1], score=self.scores[i])
            for i in lowest(self.scores)
        ]
        return answer.model_copy(update={"errors": self.errors, "warnings": warnings, "lowest": named})


def calibration_options(
    images: object, scores: Sequence[float] | None, definition_hash: str | None, **options: object
) -> wire.CalibrateRequest:
    """What to calibrate with, checked before the first image is scored.

    Raises:
        InvalidArgument: neither images nor scores, or both, or options that the contract does not allow.
    """
    if (images is None) == (scores is None):
        raise InvalidArgument("calibrate with either images or scores")
    if scores is None and definition_hash is not None:
        raise InvalidArgument("definition_hash goes with scores, not with images")
    given = None if scores is None else list(scores)
    return checked(wire.CalibrateRequest, scores=given, definition_hash=definition_hash, **options)
