"""`mcm serve`: the service as a process of its own."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from mcm.errors import MissingExtra

# -P keeps the current directory off the import path: an app/ folder there is not the service.
COMMAND = (sys.executable, "-P", "-m", "app")
NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "pydantic_settings")


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: MCM_HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes a free one. Default: MCM_PORT, else 8000.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="E.g. ViT-B-16/openai. Default: MCM_ENCODER, else builtin."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda ... Default: MCM_DEVICE, else auto.")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The store. Default: MCM_DATABASE_URL, else sqlite:///mcm.db."),
    ] = None,
) -> None:
    """Start the service in this terminal; Ctrl-C stops it.

    Every other setting is an MCM_* environment variable (see the README).

    \b
    mcm serve
    mcm serve --port 8123 --encoder ViT-B-16/openai
    """
    if any(find_spec(module) is None for module in NEEDED):
        raise MissingExtra("server,builtin", "the service")
    _become_the_service(host=host, port=port, encoder=encoder, device=device, database_url=database_url)


def _become_the_service(**settings: str | int | None) -> None:
    chosen = {f"MCM_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(COMMAND[0], COMMAND, os.environ | chosen)  # takes this process: signals reach the service
    import subprocess

    raise typer.Exit(subprocess.call(COMMAND, env=os.environ | chosen))
