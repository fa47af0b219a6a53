"""Detectors on disk: definitions and, for each encoder, concept embeddings and calibrations."""

from app.store.drift import StoredDrift
from app.store.errors import (
    DetectorNotFound,
    NameTaken,
    RevisionMismatch,
    StoreError,
    StoreUnavailable,
    TooManyDetectors,
)
from app.store.records import Replaced, StoredDetector, StoredSummary
from app.store.store import Store

__all__ = [
    "DetectorNotFound",
    "NameTaken",
    "Replaced",
    "RevisionMismatch",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredDetector",
    "StoredDrift",
    "StoredSummary",
    "TooManyDetectors",
]
