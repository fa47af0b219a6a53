import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import mcm.cli.local
from mcm.cli import main
from tests.fakes import COLOURS
from tests.mcm.cli.fake_mcm import load_colours
from tests.server import running


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `mcm ARGS` in this process, in which every encoder is the colour encoder."""
    monkeypatch.setattr(mcm.cli.local, "load_encoder", load_colours)
    for name in ("MCM_ENCODER", "MCM_SERVER", "MCM_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mcm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> Path:
    """A folder with a red, a green and a blue image in a subfolder of their own, and nothing else."""
    for name in ("red", "green", "blue"):
        paint(here / "photos" / name / f"{name}.png", COLOURS[name])
    return Path("photos")


@pytest.fixture
def reds(here: Path) -> Path:
    """Thirty images, from red to nearly red."""
    for shade in range(30):
        paint(here / "reds" / f"{shade:02}.png", (1 - shade / 100, shade / 150, 0))
    return Path("reds")


def paint(path: Path, colour: tuple[float, float, float]) -> Path:
    """An image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), tuple(round(255 * c) for c in colour)).save(path)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real service with the colour encoder, as a process of its own: its URL."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started.url
