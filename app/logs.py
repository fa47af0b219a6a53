"""Structured logs; every line of a request carries its id, and no event makes more than one line.

Of an error they tell the classes, from the outermost to its first cause, and the places in the code, but
neither messages nor paths: those may hold what callers sent, or what this machine is like. Whoever needs
them for a while sets MCM_LOG_LEVEL=debug and gets whole tracebacks.
"""

import logging
import sys
import traceback
from collections.abc import Iterator

import structlog
from structlog.typing import EventDict

from app.settings import Settings

PLACES = 8


def configure_logging(settings: Settings) -> None:
    """Send structlog and the standard library's logs (uvicorn, alembic ...) to stderr, one format."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    debug = settings.log_level == "debug"
    last: list[structlog.types.Processor] = [
        one_line,
        structlog.processors.format_exc_info if debug else told_briefly,
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            repr_native_str=True,  # quoted, so that no value looks like another field
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in (
        "uvicorn.error",
        "httpx",
        "httpcore",
        "PIL",
        "sentence_transformers",
        "transformers",
        "alembic",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)  # libraries' warnings name files of this machine
    logging.getLogger("py.warnings").setLevel(logging.WARNING if debug else logging.ERROR)


def one_line(_: object, __: str, event: EventDict) -> EventDict:
    """Escape what is not printable in all texts, so that a name or a path cannot forge a line."""
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def told_briefly(_: object, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its classes and by the places in the code that it passed."""
    event.pop("stack_info", None)
    error = _error_of(event.pop("exc_info", None))
    if error is not None:
        chain = list(_chain(error))
        event["error"] = " < ".join(_named(link) for link in chain)
        event["where"] = " > ".join(_places(chain[-1]) or _places(error))
    return event


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.strip())


def _error_of(exc_info: object) -> BaseException | None:
    found = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(found, BaseException):
        return found
    return sys.exc_info()[1] if found else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _named(error: BaseException) -> str:
    """The class of an error, with the database's code where it has one."""
    code = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None)
    return f"{type(error).__name__}({code})" if code else type(error).__name__


def _places(error: BaseException) -> list[str]:
    """The last places on the way to an error: module, function, line."""
    frames = list(traceback.walk_tb(error.__traceback__))[-PLACES:]
    return [f"{frame.f_globals.get('__name__')}:{frame.f_code.co_name}:{line}" for frame, line in frames]
