"""Why the engine could not give what it was asked for.

McmError
+-- EngineError
    +-- Starting              not ready yet
    +-- Draining              stopping: new work is refused
    +-- Overloaded            all places are taken: come back in `retry_after_s`
    +-- LargerThanAdmission   more than all places together: it will never fit
    +-- DeadlineExceeded      the caller's time is up
    +-- EngineStopped         the engine ended before the work was done
    +-- EngineFailed          a bug in the engine, or a dead thread
"""

from mcm.errors import McmError


class EngineError(McmError):
    """Root of the engine's errors."""


class Starting(EngineError):
    """The engine is not ready yet."""

    def __init__(self, message: str = "the service is starting; try again in a few seconds") -> None:
        super().__init__(message)


class Draining(EngineError):
    """The engine is stopping and takes no new work."""

    def __init__(self, message: str = "the service is stopping and takes no new work; try again") -> None:
        super().__init__(message)


class Overloaded(EngineError):
    """All places are taken; `retry_after_s` (whole seconds, 1 to 60) is how long that will last."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(f"too many {what} are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LargerThanAdmission(EngineError):
    """More than the engine takes at once, even when it is idle."""

    def __init__(self, what: str, n: int, limit: int) -> None:
        super().__init__(f"{n} {what} are more than the service takes at once ({limit}); send fewer")


class DeadlineExceeded(EngineError):
    """The caller's time was up before the work was done; the rest of it is dropped."""

    def __init__(self, message: str = "time is up before the work was done; send less or try later") -> None:
        super().__init__(message)


class EngineStopped(EngineError):
    """The engine was stopped before the work was done."""

    def __init__(self, message: str = "the service stopped before the work was done; try again") -> None:
        super().__init__(message)


class EngineFailed(EngineError):
    """A bug in the engine, or one of its threads has died."""

    def __init__(self, message: str = "the service failed at this work; try again") -> None:
        super().__init__(message)
