"""Zero-shot out-of-distribution detection: scores, thresholds and verdicts from CLIP-like embeddings.

`import mcm` loads numpy and Pillow only. `mcm.client` (the SDK), `mcm.cli`, `mcm.metrics` and
`mcm.encoders.load_encoder` bring what they need when they are used.
"""

from mcm.calibration import Calibration, Certificate, calibrate, manual
from mcm.definition import Concept, Definition, define
from mcm.detector import Detector, Match, Verdict
from mcm.embeddings import unit_rows
from mcm.encoders import Encoder, load_encoder
from mcm.errors import McmError
from mcm.images import ImageLimits, load_image
from mcm.negatives import NegativesChoice
from mcm.prompts import build_detector
from mcm.scores import SCORES
from mcm.vocabularies import load_vocabulary

__version__ = "0.1.0"

__all__ = [
    "SCORES",
    "Calibration",
    "Certificate",
    "Concept",
    "Definition",
    "Detector",
    "Encoder",
    "ImageLimits",
    "Match",
    "McmError",
    "NegativesChoice",
    "Verdict",
    "__version__",
    "build_detector",
    "calibrate",
    "define",
    "load_encoder",
    "load_image",
    "load_vocabulary",
    "manual",
    "unit_rows",
]
