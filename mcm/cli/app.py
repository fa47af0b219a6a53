"""The commands put together. Heavy imports wait inside the commands, so that `mcm --help` is quick."""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from mcm import __version__
from mcm.cli import calibrate, detector, embed, evaluate, models, score, scores, serve
from mcm.errors import ClientError, McmError

INTERRUPTED = 130
PIPE_CLOSED = 1

app = typer.Typer(
    name="mcm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("score")(score.score)
app.command("calibrate")(calibrate.calibrate)
detector.app.command("scores")(scores.scores)
app.add_typer(detector.app, name="detector")
app.command("embed")(embed.embed)
app.command("evaluate")(evaluate.evaluate)
app.command("models")(models.models)
app.command("serve")(serve.serve)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mcm {__version__}")
        raise typer.Exit


@app.callback()
def mcm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Zero-shot out-of-distribution detection: say which images match none of the classes you know.

    \b
    mcm score photos/ --concepts "cat,dog,bird"
    mcm detector create --detector-file pets.json --concepts cat,dog,bird
    mcm calibrate known-pets/ --detector-file pets.json
    mcm score photos/ --detector-file pets.json --out scores.csv
    mcm serve

    Exit codes: 0 done, 1 done but some files could not be used (they are listed), 2 not done.
    """


def main() -> None:
    """Run the command line; every error that can be foreseen is one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    code = _run()
    if code == INTERRUPTED:
        _leave_at_once()
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush is quiet
        return PIPE_CLOSED
    except typer.TyperException as error:
        return _fail(error.format_message())
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ClientError as error:
        return _fail(f"{error}{_next_step(error)}")
    except McmError as error:
        return _fail(str(error))
    return code if isinstance(code, int) else 0


def _leave_at_once() -> None:
    """End without waiting for threads that read a file or an answer which may never come."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(INTERRUPTED)


def _next_step(error: ClientError) -> str:
    """What to do about a failed conversation with a server, where the error itself cannot know it."""
    from mcm.client import ConnectionFailed, Forbidden, Unauthorized

    if isinstance(error, ConnectionFailed):
        return "; start a server with `mcm serve`, or name another with --server"
    if isinstance(error, Unauthorized | Forbidden):
        return "; the key is taken from MCM_API_KEY"
    return ""


def _fail(message: str) -> int:
    if message:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
