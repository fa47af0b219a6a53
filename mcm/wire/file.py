"""The detector as a file."""

from typing import Literal

from pydantic import Field, FiniteFloat

from mcm.wire.answers import Certificate, Groups
from mcm.wire.base import ModelRef, Request, is_none
from mcm.wire.requests import Definition


class NegativesInFile(Request):
    """The negatives of `neglabel`, group by group; `matrix` is like the detector's, of shape (words, dim)."""

    words: list[str] = Field(min_length=1)
    groups: int = Field(ge=1)
    matrix: str


class DetectorFile(Request):
    """The portable detector: GET / PUT /v1/detectors/{name}/file and `--detector-file`.

    `matrix` is base64 of little-endian float32, row by row, of shape (concepts, dim).
    """

    schema_version: Literal[1] = 1
    definition: Definition
    encoder: ModelRef
    dim: int = Field(ge=1)
    matrix: str
    negatives: NegativesInFile | None = Field(default=None, exclude_if=is_none)
    calibration_scores: list[FiniteFloat] = Field(default=[])
    calibration_groups: Groups | None = Field(default=None, exclude_if=is_none)
    certificate: Certificate | None = None
