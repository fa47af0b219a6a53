"""`mcm models`: which encoders run."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcm.cli import options

if TYPE_CHECKING:
    from mcm import wire

FACTS = (
    "name",
    "fingerprint",
    "dim",
    "device",
    "dtype",
    "activation",
    "image_size",
    "max_text_tokens",
    "note",
)


def models(
    encoder: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Load this encoder here and show it, without a server.")
    ] = None,
    device: options.Device = "auto",
    server: options.AnyServer = None,
    json_file: options.Json = None,
) -> None:
    """Show the encoder of a server, or load one here and show it.

    \b
    mcm models
    mcm models --encoder ViT-B-16/openai
    """
    from mcm.cli import output

    found = _server_models(options.any_server(server)) if encoder is None else [_local_model(encoder, device)]
    if json_file != output.STDOUT:
        for model in found:
            output.print_facts([(fact, getattr(model, fact)) for fact in FACTS])
    if json_file is not None:
        output.write_json(json_file, {"models": [model.model_dump(mode="json") for model in found]})


def _server_models(url: str) -> "list[wire.Model]":
    from mcm.cli import remote

    with remote.connect(url) as client:
        return client.models()


def _local_model(spec: str, device: str) -> "wire.Model":
    from mcm import wire
    from mcm.cli import local

    return wire.Model.model_validate(local.load(spec, device))
