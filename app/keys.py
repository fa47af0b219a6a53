"""API keys: how the settings give them, and how a caller's key is compared with them."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHORTEST_SAFE = 16
_HASH = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A key as its SHA-256 digest; the key itself is not kept. `short`: so short that it can be guessed."""

    digest: bytes = field(repr=False)
    short: bool = False


def read_keys(setting: str) -> tuple[Key, ...]:
    """The keys of a setting: comma-separated keys, `sha256:HEX` digests, or `@PATH` of a file of them.

    A file has one key or digest a line; blank lines and lines that start with `#` are skipped.

    Raises:
        ValueError: a malformed digest, or a file that cannot be read or holds no key; no key is told.
    """
    entries = [part.strip() for part in setting.split(",") if part.strip()]
    return tuple(key for entry in entries for key in _keys_of(entry))


def find_key(given: bytes, keys: Iterable[Key]) -> Key | None:
    """The key whose digest is that of `given`, None if there is none.

    All are compared, each in constant time, so that the time tells nothing of where a difference lies.
    """
    digest = hashlib.sha256(given).digest()
    matches = [key for key in keys if hmac.compare_digest(digest, key.digest)]
    return matches[0] if given and matches else None


def _keys_of(entry: str) -> Iterator[Key]:
    if not entry.startswith("@"):
        yield _key(entry)
        return
    lines = _lines(Path(entry[1:]).expanduser())
    if not lines:
        raise ValueError(f"the key file {entry[1:]} holds no key")
    for number, line in lines:
        try:
            yield _key(line)
        except ValueError as error:
            raise ValueError(f"line {number} of the key file {entry[1:]}: {error}") from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """The numbered lines of a key file that are neither blank nor comments."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the key file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the key file {path} is not text in UTF-8") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _key(text: str) -> Key:
    if text.lower().startswith("sha256:"):
        found = _HASH.fullmatch(text)
        if found is None:
            raise ValueError("after `sha256:` there must be the 64 hexadecimal digits of a key's SHA-256")
        return Key(bytes.fromhex(found["digest"]))
    return Key(hashlib.sha256(text.encode()).digest(), short=len(text) < SHORTEST_SAFE)
