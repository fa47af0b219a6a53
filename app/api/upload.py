"""What came of an image in a request."""

from dataclasses import dataclass

from mcm.errors import BrokenImage


@dataclass(frozen=True)
class Upload:
    """An image as it came: its name, if it has one, and its bytes or why there are none."""

    name: str | None
    data: bytes | BrokenImage
