"""The MCM paper's own figures, to be printed beside what was measured, and its preprocessing.

Ming et al., "Delving into Out-of-Distribution Detection with Vision-Language Representations", NeurIPS
2022: ImageNet-1k as ID, MCM at T = 1, percentages.
"""

from dataclasses import dataclass
from pathlib import Path

from mcm.evaluation.results import ScoreResult, SetMetrics
from mcm.image_formats import bare_jpeg, sniff

TEMPLATE = "a photo of a {}"
LOCAL_WEIGHT = 0.5  # lambda of GL-MCM in its authors' script for ImageNet
INTERPOLATION = "bilinear"
WHY = (
    "Why figures differ: the paper's code resizes images with bilinear interpolation and ignores their EXIF "
    "orientation, where OpenAI's and open_clip's own preprocessing is bicubic. For ViT-B/16 the paper prints "
    "an average FPR95 of 42.74, and scores that others published since, made with bicubic, give 43.09. "
    "--paper scores images as the authors did; tables of scores stay as they were made."
)


@dataclass(frozen=True)
class PaperFigure:
    """FPR95 and AUROC in percent, as printed in the paper."""

    fpr95: float
    auroc: float


@dataclass(frozen=True)
class Comparison:
    """One row: what was measured (percent), what the paper prints, and the difference, measured - paper."""

    name: str
    fpr95: float
    auroc: float
    paper: PaperFigure

    @property
    def fpr95_difference(self) -> float:
        """In percentage points."""
        return self.fpr95 - self.paper.fpr95

    @property
    def auroc_difference(self) -> float:
        """In percentage points."""
        return self.auroc - self.paper.auroc


FIGURES = {
    "ViT-B-16": {
        "inaturalist": PaperFigure(30.91, 94.61),
        "sun": PaperFigure(37.59, 92.57),
        "places": PaperFigure(44.69, 89.77),
        "texture": PaperFigure(57.77, 86.11),
        "average": PaperFigure(42.74, 90.77),
    },
    "ViT-L-14": {
        "inaturalist": PaperFigure(28.38, 94.95),
        "sun": PaperFigure(29.00, 94.14),
        "places": PaperFigure(35.42, 92.00),
        "texture": PaperFigure(59.88, 84.88),
        "average": PaperFigure(38.17, 91.49),
    },
}
_OTHER_NAMES = {"textures": "texture", "dtd": "texture", "places365": "places", "sun397": "sun"}


def compare(result: ScoreResult, architecture: str) -> list[Comparison]:
    """The paper's sets among those measured, and the average where all four are there.

    `architecture` is a key of FIGURES. Scores from files are taken to be MCM's at T = 1; another score or
    temperature compares with nothing.
    """
    if (result.score, result.temperature) not in ((None, None), ("mcm", 1.0)):
        return []
    figures = FIGURES[architecture]
    known = {name: _OTHER_NAMES.get(name.casefold(), name.casefold()) for name in result.sets}
    rows = [
        Comparison(name, *_percent(result.sets[name]), figures[key])
        for name, key in known.items()
        if key in figures and key != "average"
    ]
    if len(rows) == len(result.sets) == len(figures) - 1:
        rows.append(Comparison("average", *_percent(result.average), figures["average"]))
    return rows


def architecture_of(encoder_name: str | None) -> str:
    """The key of FIGURES that an encoder's name tells; the paper's first, ViT-B-16, where it tells none."""
    return next((key for key in FIGURES if key in (encoder_name or "")), "ViT-B-16")


def read_without_orientation(path: Path) -> bytes:
    """The bytes of an image file, a JPEG's without its EXIF data: the authors' code did not look at it."""
    data = path.read_bytes()
    return bare_jpeg(data)[0] if sniff(data) == "JPEG" else data


def _percent(found: SetMetrics) -> tuple[float, float]:
    return 100 * found.metrics.fpr95, 100 * found.metrics.auroc
