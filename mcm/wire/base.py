"""What requests and answers share: their two kinds, the types of fields, problems and notices."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

DETECTOR_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"

DetectorName = Annotated[str, StringConstraints(pattern=DETECTOR_NAME)]
Rate = Annotated[float, Field(gt=0, lt=1)]
ScoreName = Literal["mcm", "max-logit", "energy", "entropy", "variance", "gl-mcm", "neglabel"]
Temperature = Annotated[FiniteFloat, Field(ge=1e-6, le=1e6)]
LocalWeight = Annotated[FiniteFloat, Field(ge=0, le=1e6)]
Method = Literal["split-conformal", "pac", "paper"]
FdrMethod = Literal["benjamini-hochberg", "storey"]


def is_none(value: object) -> bool:
    """For fields that an answer has only where they say something."""
    return value is None


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """An answer body. Built from a dataclass of the core with `model_validate(x)`."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


class Problem(BaseModel):
    """An RFC 9457 problem. `type` is stable, `detail` says what was wrong and what to do."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None

    @property
    def code(self) -> str:
        """The last part of `type`, e.g. "not-calibrated"."""
        return self.type.rsplit("/", 1)[-1]


class Notice(Answer):
    """Something that the caller should know; `code` is stable."""

    code: str
    message: str


class ModelRef(Answer):
    """Which encoder made an answer."""

    name: str
    fingerprint: str
