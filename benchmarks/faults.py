"""Power failures: SIGKILL while detectors are written, `python -m benchmarks.faults --kills 100`.

After each kill the service starts again on the same database. Every write that it had acknowledged must be
there, the one write of each caller that was on its way must be there or not, and nothing may be half: every
detector is exported and imported again, which encodes its prompts anew and compares the embeddings.
"""

import argparse
import random
import sys
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track

from tests.server import Server, running

WRITERS = 4
NAMES = 3  # for each writer
LONGEST_LIFE_S = 0.6
WORDS = ("red", "green", "blue", "white", "black", "yellow")
SCORES = [0.301 + i / 1000 for i in range(40)]


@dataclass(frozen=True)
class State:
    """What is to be seen of a detector: its concepts, none if it does not exist, and its calibration."""

    concepts: tuple[str, ...] = ()
    threshold: float | None = None
    scores: int = 0


class Broken(Exception):
    """The database is not what the service has acknowledged."""


@dataclass
class Writer:
    """Writes to detectors of its own, one request at a time, until the service dies."""

    number: int
    chance: random.Random
    known: dict[str, State] = field(default_factory=dict)
    on_the_way: tuple[str, State] | None = None
    acknowledged: int = 0
    broken: Broken | None = None

    def work(self, url: str) -> None:
        """Write until the connection breaks."""
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            while True:
                name = f"w{self.number}-{self.chance.randrange(NAMES)}"
                try:
                    self._write(http, name, self.known.get(name, State()))
                except httpx.TransportError:
                    return
                except Broken as error:
                    self.broken = error
                    return

    def _write(self, http: httpx.Client, name: str, old: State) -> None:
        path = f"/v1/detectors/{name}"
        kind = self.chance.choice(("define", "define", "threshold", "calibrate", "delete"))
        if kind == "define" or not old.concepts:
            concepts = tuple(self.chance.sample(WORDS, 3))
            new = old if concepts == old.concepts else State(concepts)
            self._send(http, "PUT", path, name, new, {"concepts": concepts})
        elif kind == "threshold":
            threshold = self.chance.random()
            new = replace(old, threshold=threshold)
            self._send(http, "PUT", f"{path}/threshold", name, new, {"threshold": threshold})
        elif kind == "calibrate":
            hash_ = http.get(path).json()["definition_hash"]
            new = replace(old, threshold=SCORES[1], scores=len(SCORES))
            body = {"scores": SCORES, "definition_hash": hash_}
            self._send(http, "POST", f"{path}/calibrate", name, new, body)
        else:
            self._send(http, "DELETE", path, name, State(), None)

    def _send(self, http: httpx.Client, method: str, path: str, name: str, new: State, body: object) -> None:
        self.on_the_way = (name, new)
        response = http.request(method, path, json=body) if body else http.request(method, path)
        if not response.is_success:
            raise Broken(f"{method} {path}: {response.status_code} {response.text}")
        self.known[name] = new
        self.on_the_way = None
        self.acknowledged += 1

    def check(self, http: httpx.Client) -> None:
        """Compare what is stored with what was acknowledged, and go on from there.

        Raises:
            Broken: they differ.
        """
        if self.broken is not None:
            raise self.broken
        for name, acknowledged in self.known.items():
            allowed = {acknowledged}
            if self.on_the_way is not None and self.on_the_way[0] == name:
                allowed.add(self.on_the_way[1])
            found = stored(http, name)
            if found not in allowed:
                raise Broken(f"{name} is {found}, and not {' or '.join(map(str, allowed))}")
            self.known[name] = found
        self.on_the_way = None


def stored(http: httpx.Client, name: str) -> State:
    """The detector as it is stored, shown to be whole.

    Raises:
        Broken: it is not.
    """
    answer = http.get(f"/v1/detectors/{name}/file")
    if answer.status_code == 404:
        return State()
    file = answer.json()
    copy = http.put("/v1/detectors/copy/file", json=file)
    if copy.status_code not in (200, 201):
        raise Broken(f"{name} cannot be imported again: {copy.text}")
    certificate = file["certificate"]
    concepts = tuple(
        concept["name"] if isinstance(concept, dict) else concept
        for concept in file["definition"]["concepts"]
    )
    return State(concepts, certificate and certificate["threshold"], len(file["calibration_scores"]))


class Kills:
    """A database, writers, and servers that are killed one after another."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.writers = [Writer(i, random.Random(f"{seed} {i}")) for i in range(WRITERS)]

    @property
    def acknowledged(self) -> int:
        """Writes that were acknowledged so far."""
        return sum(writer.acknowledged for writer in self.writers)

    def live_and_die(self) -> int:
        """Start, check what the last life left, write, and be killed; how many writes were on their way."""
        with running(self.folder) as server:
            self.check(server)
            threads = [threading.Thread(target=writer.work, args=(server.url,)) for writer in self.writers]
            for thread in threads:
                thread.start()
            threads[0].join(self.chance.uniform(0, LONGEST_LIFE_S))
            server.kill()
            for thread in threads:
                thread.join()
        return sum(writer.on_the_way is not None for writer in self.writers)

    def last_check(self) -> None:
        """Start once more, and check."""
        with running(self.folder) as server:
            self.check(server)

    def check(self, server: Server) -> None:
        """Compare everything."""
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
            for writer in self.writers:
                writer.check(http)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    on_the_way = 0
    with tempfile.TemporaryDirectory() as folder:
        kills = Kills(Path(folder), arguments.seed)
        for _ in track(range(arguments.kills), "kills", console=Console(stderr=True)):
            on_the_way += kills.live_and_die()
        kills.last_check()
    print(
        f"{arguments.kills} kills, {kills.acknowledged} acknowledged writes, all there; "
        f"{on_the_way} on their way, each there or not; every detector whole"
    )


if __name__ == "__main__":
    try:
        main()
    except Broken as error:
        sys.exit(f"broken: {error}")
