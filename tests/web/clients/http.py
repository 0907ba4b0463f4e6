"""HTTP/1.1 octet by octet: requests that no library would send, and answers read strictly."""

import asyncio
import contextlib
import json
import socket
import struct
import urllib.error
import urllib.request

from harness.raw import DEADLINE, Silence

# What every answer says (SECURITY class 49).
ALWAYS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY",
          "referrer-policy": "no-referrer"}


class Hangup(Exception):
    """The server closed the connection where an answer was due."""


class Answer:
    """One answer as it came."""

    def __init__(self, head, body):
        first, *lines = head.decode().split("\r\n")[:-2]
        version, status, self.reason = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        self.status, self.body = int(status), body
        self.headers = {}
        for line in lines:
            name, value = line.split(":", 1)
            assert name.lower() not in self.headers, f"{name} twice: {head}"
            self.headers[name.lower()] = value.strip()
        self.octets = head + body

    @property
    def kind(self):
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def code(self):
        """Of a problem document."""
        assert self.kind == "application/problem+json", self
        return json.loads(self.body)["code"]

    def __repr__(self):
        return self.octets[:1500].decode(errors="backslashreplace")


class Talk:
    """One connection to `listen.http`. Reads by itself, so that what came before a reset is heard.

    `before` is what a proxy would say first.
    """

    def __init__(self, address, receive_buffer=None, before=b""):
        self.address = address
        self._before = before
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._heard = bytearray()
        self._is_over = False

    async def __aenter__(self):
        await asyncio.get_running_loop().sock_connect(self._socket, self.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.send(self._before)
        return self

    async def __aexit__(self, *_):
        self._socket.close()

    def cut(self):
        """A reset, as when the cable is pulled."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def send(self, octets):
        octets = octets.encode() if isinstance(octets, str) else octets
        # If it hangs up in the middle, what it said before is still to be read.
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._socket, octets)

    def send_at_once(self, octets):
        """How many of the octets the kernel takes now."""
        try:
            return self._socket.send(octets)
        except BlockingIOError:
            return 0

    async def ask(self, octets, method="GET"):
        await self.send(octets)
        return await self.answer(method)

    async def answer(self, method="GET"):
        """The next answer; its body has the length that it says, and no other way of saying so."""
        while (end := self._heard.find(b"\r\n\r\n")) < 0:
            if not await self._hear():
                raise Hangup(f"instead of an answer: {bytes(self._heard[:500])!r}")
        head = bytes(self._heard[:end + 4])
        del self._heard[:end + 4]
        answer = Answer(head, b"")
        if 100 <= answer.status < 200:
            return answer
        assert "transfer-encoding" not in answer.headers, answer
        if answer.status in (204, 304):
            assert "content-length" not in answer.headers, answer
        elif method != "HEAD":
            length = int(answer.headers["content-length"])
            while len(self._heard) < length:
                if not await self._hear():
                    raise Hangup(f"within a body: {bytes(self._heard[:500])!r}")
            answer.body = bytes(self._heard[:length])
            answer.octets += answer.body
            del self._heard[:length]
        for name, value in ALWAYS.items():
            assert answer.headers.get(name) == value, answer
        return answer

    async def ended(self):
        """Waits until the server hangs up, and returns what it said before that."""
        while await self._hear():
            pass
        return bytes(self._heard)

    async def _hear(self):
        if self._is_over:
            return False
        loop = asyncio.get_running_loop()
        try:
            octets = await asyncio.wait_for(loop.sock_recv(self._socket, 1 << 18), DEADLINE)
        except ConnectionError:
            octets = b""
        except TimeoutError:
            raise Silence(f"nothing came within {DEADLINE:.0f} s; "
                          f"heard {bytes(self._heard[:500])!r}") from None
        self._heard += octets
        self._is_over = not octets
        return bool(octets)


def request(address, line="GET /healthz HTTP/1.1", *fields, body=None):
    """A request with its `Host` and, if there is a body, its length."""
    host, port = address
    lines = [line, f"Host: {host}:{port}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def fetch(server, path, scheme="http", method="GET", **headers):
    """The answer by Python's own library: status, headers and body, also if it is a refusal."""
    host, port = getattr(server, scheme)
    context = server.trust() if scheme == "https" else None
    request = urllib.request.Request(f"{scheme}://{host}:{port}{path}", method=method,
                                     headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        answer = urllib.request.urlopen(request, timeout=10, context=context)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        return answer.status, answer.headers, answer.read()
