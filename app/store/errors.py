"""What the store raises.

StoreError
+-- StoreUnavailable   the database cannot be reached, opened, read or written
+-- DetectorNotFound   no detector of that name
+-- NameTaken          a detector of that name exists
+-- TooManyDetectors   the limit on detectors is reached
+-- RevisionMismatch   the detector is not, or no longer, at the revision that the caller saw
"""

from mcm.errors import McmError


class StoreError(McmError):
    """Root of the errors that the store raises."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, opened, read or written; the cause is the driver's error."""


class DetectorNotFound(StoreError):
    """No detector of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no detector {name!r}")


class NameTaken(StoreError):
    """A detector of that name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a detector {name!r} already; choose another name, or replace it with PUT")


class TooManyDetectors(StoreError):
    """The limit on detectors is reached."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the limit of {limit} detectors is reached; delete one first")


class RevisionMismatch(StoreError):
    """The detector is not, or no longer, at the revision that the caller saw."""

    def __init__(self, name: str, *, expected: int, current: int | None) -> None:
        found = "it does not exist" if current is None else f"it is at revision {current}"
        super().__init__(
            f"detector {name!r} is not at revision {expected}: {found}; read it again, and repeat"
        )
