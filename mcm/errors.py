"""Every error that mcm raises.

McmError
+-- InvalidInput (also a ValueError)   the caller's input is wrong: the message says what and what to do
|   +-- InvalidDefinition              concepts, templates, score or temperature
|   +-- InvalidEmbeddings              wrong shape, zero or non-finite vectors
|   +-- NoPatches                      patch embeddings are needed, and the encoder gives none
|   +-- ImageError                     one image cannot be used
|   |   +-- ImageTooLarge              more bytes or pixels than the limit
|   |   +-- UnsupportedImage           not an image, or a format that is not read here
|   |   +-- BrokenImage                an image that cannot be decoded whole
|   +-- TooFewScores                   a calibration that cannot keep its promise
|   +-- InvalidDetectorFile            a detector file that is malformed or contradicts itself
+-- Mismatch                           things made under different definitions or encoders
|   +-- EncoderMismatch
|   +-- DefinitionMismatch
+-- NotCalibrated                      a verdict was asked for and there is no threshold
+-- EncoderError                       the encoder failed
|   +-- EncoderLoadError               weights missing, damaged or of another architecture
+-- MissingExtra                       an optional part of the package is not installed
+-- ClientError                        the client SDK failed: see mcm.client.errors
"""


class McmError(Exception):
    """Root of all errors raised by mcm."""


class InvalidInput(McmError, ValueError):
    """The caller's input is wrong."""


class InvalidDefinition(InvalidInput):
    """Concepts, templates, score or temperature cannot be used together."""


class InvalidEmbeddings(InvalidInput):
    """Embeddings of the wrong shape, or zero or non-finite ones."""


class NoPatches(InvalidInput):
    """Patch embeddings are needed, and `what` (an encoder, an image tower) gives none."""

    def __init__(self, what: str) -> None:
        super().__init__(what)

    def __str__(self) -> str:
        return (
            f"{self.args[0]} gives no patch embeddings, which gl-mcm and explain need: leave them out, or "
            "use an encoder whose image tower is a CLIP ViT or ResNet, or the built-in one"
        )


class ImageError(InvalidInput):
    """One image cannot be used."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limit."""


class UnsupportedImage(ImageError):
    """Not an image, or in a format or mode that is not read here."""


class BrokenImage(ImageError):
    """An image that cannot be decoded whole."""


class TooFewScores(InvalidInput):
    """Too few calibration scores for the promise that was asked for.

    `needed` is the smallest number of scores with which the promise can be kept.
    """

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message, needed)  # both, so that the error survives pickling
        self.needed = needed

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidDetectorFile(InvalidInput):
    """A detector file that is malformed or contradicts itself."""


class Mismatch(McmError):
    """Things made under different definitions or encoders cannot be compared."""


class EncoderMismatch(Mismatch):
    """Made by another encoder (the fingerprints differ)."""


class DefinitionMismatch(Mismatch):
    """Made under another definition (the definition hashes differ)."""


class NotCalibrated(McmError):
    """A verdict was asked for, and the detector has no threshold."""


class EncoderError(McmError):
    """The encoder failed."""


class EncoderLoadError(EncoderError):
    """Weights are missing, damaged, or of another architecture."""


class MissingExtra(McmError, ImportError):
    """An optional part of the package, `extra`, is not installed, and `purpose` needs it."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(extra, purpose)  # both, so that the error survives pickling
        self.extra = extra
        self.purpose = purpose

    def __str__(self) -> str:
        return f"{self.purpose} needs an extra: pip install 'mcm-ood[{self.extra}]'"


class ClientError(McmError):
    """Root of the errors that the client SDK raises."""
