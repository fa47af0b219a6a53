"""One HTTP/1.1 connection: uvicorn's, with the bounds on time and memory that it lacks.

uvicorn waits for ever for a head, takes a head of any length, reads a body without end after its answer, and
keeps an answer for ever that nobody takes. How long a body may take is not decided here: see `app.api.body`.
"""

import asyncio
import time
import uuid

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.errors import HeadTooLarge, RequestError, SlowHead, UnparsableHead, problem_of

KEEP_ALIVE_S = 95  # longer than clients and proxies keep a connection: who closes first loses no request
HEAD_S = 30.0
HEAD_BYTES = 64 * 1024
ANSWER_S = 120.0  # for a client to take an answer, once more of it waits than the system buffers
# What is still read and thrown away of a body that has its answer already, a refusal: clients that send on
# before they read would otherwise see a reset in its place.
DRAIN_S = 10.0
DRAINED_BYTES = 128 * 2**20


class Connection(HttpToolsProtocol):
    """A connection whose client owes a head, or the rest of an answered body, within bounds."""

    _head_open = _body_open = False
    _head_bytes = _drained = 0
    _debt: asyncio.TimerHandle | None = None  # runs while the client owes something
    _untaken: asyncio.TimerHandle | None = None  # runs while answers pile up

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, and owes the first head."""
        super().connection_made(transport)
        self._unfinished: list[RequestResponseCycle] = []
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: tell every request, not only the last one that it sent ahead."""
        self._settle()
        self.resume_writing()
        super().connection_lost(exc)
        for cycle in self._unfinished:
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        was_open = self._head_open
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self._refuse_head()
            return
        if was_open and self._head_open:  # so all of it belongs to a line that has not ended
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse_head()
                return
        if not self.transport.is_closing():
            self._watch()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stopped:
            # Java's client and others offer HTTP/2 with their first request, and the parser leaves the body
            # to whoever accepts. Nobody does: read the request again as if there was no offer.
            lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
            lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = HttpRequestParser(self)
            self._parse(b"\r\n".join([*lines, b"", b""]) + data[stopped.args[0] :])

    def _is_offer(self) -> bool:
        """Whether the parser stops after this head, see `_parse`."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    # What the parser finds

    def on_message_begin(self) -> None:
        """A head begins."""
        self._settle()
        self._head_open, self._head_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head has ended."""
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_bytes > HEAD_BYTES:
            raise OverflowError("head")  # the parser stops, and the request ends in `_refuse_head`
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has ended; a body, even if it is empty, begins."""
        if self._is_offer():
            return
        self._settle()
        self._head_open, self._body_open, self._drained = False, True, 0
        self.scope["state"]["parsed_at"] = time.perf_counter()
        super().on_headers_complete()
        self._unfinished.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        super().on_body(body)
        if self.cycle.response_complete:
            self._drained += len(body)
            if self._drained > DRAINED_BYTES:
                self.transport.abort()

    def on_message_complete(self) -> None:
        """A body has ended."""
        if self._is_offer():
            return
        self._settle()
        self._body_open = False
        super().on_message_complete()

    # What the service does

    def on_response_complete(self) -> None:
        """An answer is out."""
        self._unfinished = [cycle for cycle in self._unfinished if not cycle.response_complete]
        super().on_response_complete()
        if not self.transport.is_closing():
            self._watch()

    def pause_writing(self) -> None:
        """More of an answer waits than is good."""
        super().pause_writing()
        self._untaken = self.loop.call_later(ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    # What the client owes

    def _watch(self) -> None:
        """Start the time for what the client owes, if it owes anything and the time does not run yet."""
        owes = self._head_open or self._body_open or self.timeout_keep_alive_task is None
        if self._unfinished or not owes:
            self._settle()
        elif self._debt is None:
            self._debt = self.loop.call_later(DRAIN_S if self._body_open else HEAD_S, self._late)

    def _settle(self) -> None:
        if self._debt is not None:
            self._debt.cancel()
            self._debt = None

    def _late(self) -> None:
        self._debt = None
        if self._head_open:
            self._refuse(SlowHead(f"the head of the request did not arrive within {HEAD_S:g} seconds"))
        else:
            self.transport.abort()

    def _refuse_head(self) -> None:
        if self._head_bytes > HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the head of the request is longer than {HEAD_BYTES} bytes"))
        else:
            self._refuse(UnparsableHead("this is not HTTP/1.1; nothing more is read from the connection"))

    def _refuse(self, error: RequestError) -> None:
        """Answer without the application, which never saw this request, and close."""
        problem = problem_of(error, uuid.uuid4().hex)
        body = problem.model_dump_json().encode()
        lines = [
            b"content-type: application/problem+json",
            b"content-length: %d" % len(body),
            b"x-request-id: %s" % str(problem.instance).encode(),
            b"connection: close",
        ]
        self._settle()
        self.transport.write(STATUS_LINE[problem.status] + b"\r\n".join([*lines, b"", body]))
        self.transport.close()
