"""What the routes share: the service behind a request, names in paths, revisions as ETags."""

import re
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from app.errors import PreconditionFailed
from app.metrics import Work
from app.service import Service, service_of
from mcm import wire

Name = Annotated[str, Path(pattern=wire.DETECTOR_NAME, description="Name of a detector")]
_TAG = re.compile(r'"?([0-9]{1,19})"?')  # 64 bits; a longer one matches no revision


def request_id_of(request: Request) -> str:
    """The id that this request goes by in answers and logs."""
    return str(request.state.request_id)


async def running(request: Request) -> Service:
    """The running service; `async`, since other dependencies are run in threads."""
    return service_of(request)


async def work_of(request: Request) -> Work:
    """What this request has the service do; `app.asgi` tells of it when the request ends."""
    request.state.work = Work(request_id_of(request))
    return cast(Work, request.state.work)


Running = Annotated[Service, Depends(running)]
Measured = Annotated[Work, Depends(work_of)]


async def if_match(request: Request, name: Name, service: Running) -> int | None:
    """The revision that the If-Match header demands, None without the header.

    Raises:
        PreconditionFailed: no revision in the header can match.
    """
    header = request.headers.get("if-match")
    if header is None:
        return None
    tags = [tag.strip() for tag in header.split(",")]
    wanted = {int(match[1]) for tag in tags if (match := _TAG.fullmatch(tag))}
    current = await service.catalog.revision(name)
    if current is not None and ("*" in tags or current in wanted):
        return current
    found = "there is no such detector" if current is None else f"it is at revision {current}"
    raise PreconditionFailed(f"If-Match asks for {header}, and {found}; read the detector and repeat")


IfMatch = Annotated[int | None, Depends(if_match)]


def etag(revision: int) -> dict[str, str]:
    """The ETag header of a detector at `revision`."""
    return {"ETag": f'"{revision}"'}
