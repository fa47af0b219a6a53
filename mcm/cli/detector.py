"""`mcm detector ...`: detectors on a server, or as files on this machine."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcm.cli import negatives, options
from mcm.definition import Definition
from mcm.errors import InvalidInput

if TYPE_CHECKING:
    from mcm import wire
    from mcm.client import Client

app = typer.Typer(no_args_is_help=True, help="Make, show, list, watch, delete, export and import detectors.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The detector's name on the server.")]
MaybeName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The detector's name on the server.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace the detector, and its calibration, if there is one.")
]


@app.command()
def create(
    name: MaybeName = None,
    concepts: options.Concepts = None,
    concepts_file: options.ConceptsFile = None,
    template: options.Templates = None,
    score_name: options.ScoreName = None,
    temperature: options.Temperature = None,
    local_weight: options.LocalWeight = None,
    vocabulary: negatives.Vocabulary = None,
    groups: negatives.Groups = None,
    seed: negatives.Seed = None,
    drop_near: negatives.DropNear = False,
    replace: Replace = False,
    detector_file: options.DetectorFile = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    server: options.AnyServer = None,
) -> None:
    """Make a detector: NAME on a server, or a file on this machine with --detector-file.

    \b
    mcm detector create pets --concepts cat,dog,bird
    mcm detector create --detector-file pets.json --concepts-file pets.txt --template "a photo of a {}"
    mcm detector create --detector-file pets.json --concepts cat,dog --score neglabel
    """
    options.require_one(concepts=concepts, concepts_file=concepts_file)
    _one_place(name, detector_file, server, encoder)
    choice = negatives.negatives_of(
        score_name, vocabulary, groups, seed, drop_near, on_server=detector_file is None
    )
    definition = options.definition_of(
        concepts, concepts_file, template, score_name, temperature, local_weight, choice
    )
    assert definition is not None  # there are concepts
    if detector_file is not None:
        _create_file(detector_file, definition, vocabulary, encoder, device, replace)
    else:
        _create_on_server(_connect(server), str(name), definition, replace)


@app.command()
def show(
    name: MaybeName = None,
    detector_file: options.DetectorFile = None,
    server: options.AnyServer = None,
    json_file: options.Json = None,
) -> None:
    """Show a detector: its concepts, its encoder, its threshold and what that promises.

    \b
    mcm detector show pets
    mcm detector show --detector-file pets.json
    """
    from mcm.cli import facts, output

    _one_place(name, detector_file, server, None)
    if detector_file is not None:
        from mcm.cli import local

        detector, encoder_name = local.read_detector(detector_file)
        told, data = (
            facts.file_facts(detector_file, detector, encoder_name),
            facts.file_json(detector, encoder_name),
        )
    else:
        with _connect(server) as client:
            stored = client.detector(str(name))
        told, data = facts.stored_facts(stored), stored.model_dump(mode="json")
        _say(stored.warnings)
    if json_file != output.STDOUT:
        output.print_facts(told)
    if json_file is not None:
        output.write_json(json_file, data)


@app.command("list")
def list_(server: options.AnyServer = None, json_file: options.Json = None) -> None:
    """List the detectors of a server."""
    from mcm.cli import output

    with _connect(server) as client:
        found = list(client.detectors())
    if json_file != output.STDOUT:
        output.print_table(
            ("name", "score", "concepts", "revision", "updated"),
            [(d.name, d.score, d.concepts, d.revision, f"{d.updated_at:%Y-%m-%d %H:%M:%S}") for d in found],
        )
    if json_file is not None:
        output.write_json(json_file, {"detectors": [d.model_dump(mode="json") for d in found]})


@app.command()
def delete(name: Name, server: options.AnyServer = None) -> None:
    """Delete a detector of a server, with its calibration."""
    with _connect(server) as client:
        client.delete_detector(name)
    print(f"deleted {name}")


@app.command()
def drift(name: Name, server: options.AnyServer = None, json_file: options.Json = None) -> None:
    """Show whether the images scored since the calibration still look like the calibration images.

    \b
    mcm detector drift pets
    """
    from mcm.cli import output
    from mcm.cli.drift import drift_facts

    with _connect(server) as client:
        found = client.drift(name)
    if json_file != output.STDOUT:
        output.print_facts(drift_facts(found))
    if json_file is not None:
        output.write_json(json_file, found.model_dump(mode="json"))


@app.command()
def export(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to; - is stdout.")] = Path("-"),
    server: options.AnyServer = None,
) -> None:
    """Write a detector of a server as a file, with its calibration and certificate.

    \b
    mcm detector export pets pets.json
    """
    from mcm.cli import local, output
    from mcm.detector_file import from_file, write_detector_file

    with _connect(server) as client:
        found = client.export_detector(name)
    detector = from_file(found)
    if file == output.STDOUT:
        print(write_detector_file(detector, found.encoder.name), end="")
    else:
        local.write_detector(file, detector, found.encoder.name)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A detector file.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name on the server; default: the file's name.")
    ] = None,
    replace: Replace = False,
    server: options.AnyServer = None,
) -> None:
    """Make a detector on a server from a file; its certificate comes with it.

    \b
    mcm detector import pets.json
    mcm detector import pets.json --name pets-2026
    mcm detector import pets.json --replace
    """
    from mcm.cli import local

    parsed = local.parse_detector(file)
    target = name or _name_from(file)
    with _connect(server) as client:
        if not replace and target in (known.name for known in client.detectors()):
            raise InvalidInput(
                f"there is a detector {target!r} on the server; --replace puts this file in its place, "
                "--name NAME beside it"
            )
        stored = client.import_detector(target, parsed)
    _say(stored.warnings)
    state = "not calibrated" if stored.certificate is None else f"threshold {stored.certificate.threshold!r}"
    print(f"imported {stored.name}: {len(stored.definition.concepts)} concepts, {state}")


def _one_place(name: str | None, detector_file: Path | None, server: str | None, encoder: str | None) -> None:
    """Refuse anything but a NAME on a server, or a file on this machine."""
    if (name is None) == (detector_file is None):
        raise InvalidInput("give either NAME, a detector on a server, or --detector-file FILE")
    if detector_file is not None:
        options.refuse("is for a detector on a server, not for --detector-file", server=server)
    else:
        options.refuse("is for --detector-file; a server has its own", encoder=encoder)


def _create_file(
    path: Path,
    definition: Definition,
    vocabulary: str | None,
    encoder: str | None,
    device: str,
    replace: bool,
) -> None:
    from mcm.cli import files, local

    files.check_out(path, (".json",))
    if path.exists() and not replace:
        raise InvalidInput(f"{path} exists: take another name, or --replace")
    loaded = local.load(options.encoder_spec(encoder), device)
    local.write_detector(path, local.new_detector(definition, loaded, vocabulary), loaded.name)
    print(f"created {path}: {len(definition.concepts)} concepts, encoder {loaded.name}")


def _create_on_server(client: "Client", name: str, definition: Definition, replace: bool) -> None:
    from mcm.cli import facts, remote

    with client:
        make = client.put_detector if replace else client.create_detector
        stored = make(name, **remote.definition_arguments(definition))
    _say(stored.warnings)
    if stored.mining is not None:
        facts.say_mining(stored.mining)
    print(f"created {name}: {len(definition.concepts)} concepts, encoder {stored.model.name}")


def _connect(server: str | None) -> "Client":
    from mcm.cli import remote

    return remote.connect(options.any_server(server))


def _say(warnings: "list[wire.Notice]") -> None:
    from mcm.cli import remote

    remote.say_warnings(warnings, set())


def _name_from(file: Path) -> str:
    """The file's name as a detector's: Pets 2026.json -> pets-2026."""
    return re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:64]
