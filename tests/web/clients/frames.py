"""RFC 6455 octet by octet: handshakes and frames that no library would send."""

import asyncio
import base64
import hashlib
import os
import struct

from harness.raw import DEADLINE, Silence

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, form=None, announced=None):
    """A client's frame. `form` is the octets of the length field (0, 2 or 8) where another than the
    shortest is wanted, `announced` a length that is not the payload's.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if announced is None else announced
    if form is None:
        form = 0 if length < 126 else 2 if length < 1 << 16 else 8
    field = {0: lambda: bytes([length]), 2: lambda: b"\x7e" + struct.pack("!H", length),
             8: lambda: b"\x7f" + struct.pack("!Q", length)}[form]()
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if not masked:
        return bytes([first]) + field + payload
    mask = os.urandom(4)
    hidden = bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
    return bytes([first, field[0] | 0x80]) + field[1:] + mask + hidden


def close(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


class RawSocket:
    """One TCP connection to the WebSocket endpoint."""

    def __init__(self, server):
        self.server = server
        self.key = base64.b64encode(os.urandom(16)).decode()
        self.reader = self.writer = None
        self.sent = self.received = b""

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(*self.server.http)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def request(self, drop=(), add=(), line="GET /ws HTTP/1.1", **changes):
        """The usual request: without the headers `drop`, with others for `changes`, and `add`."""
        host, port = self.server.http
        headers = {
            "Host": f"{host}:{port}", "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Key": self.key, "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "xmpp",
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        pairs = [(name, value) for name, value in headers.items() if name not in drop]
        lines = [line, *(f"{name}: {value}" for name, value in [*pairs, *add]), "", ""]
        return "\r\n".join(lines).encode()

    async def ask(self, request):
        """Sends a request; returns the status and the headers, their names in small letters."""
        await self.send(request)
        head = await self._within(self.reader.readuntil(b"\r\n\r\n"), "an answer's head")
        self.received += head
        first, *lines = head.decode().split("\r\n")[:-2]
        pairs = [line.split(":", 1) for line in lines]
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, value in pairs}

    async def upgrade(self):
        status, headers = await self.ask(self.request())
        assert status == 101, f"{status} {headers}"
        assert headers["sec-websocket-accept"] == self.accept()
        return self

    def accept(self):
        return base64.b64encode(hashlib.sha1(self.key.encode() + GUID).digest()).decode()

    async def begin(self):
        """Opens the XMPP stream, up to the features."""
        await self.upgrade()
        await self.send(frame(TEXT, self.header()))
        await self.text("<open ")
        await self.text("features")
        return self

    def header(self, domain=None):
        return ("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' "
                f"to='{domain or self.server.domain}'/>")

    async def send(self, octets):
        self.writer.write(octets)
        try:
            await self.writer.drain()
        except ConnectionError:
            pass  # it hung up in the middle: what it said before is still to be read

    async def frame(self):
        """The next frame as (opcode, payload), None at the end. Whatever a server may not send is
        an error of this test.
        """
        try:
            first, second = await self._within(self.reader.readexactly(2), "a frame")
            assert first & 0x70 == 0 and first & 0x80, f"fragments or reserved bits: {first:#x}"
            assert second & 0x80 == 0, "a server does not mask"
            length = second & 0x7F
            if length >= 126:
                form = "!H" if length == 126 else "!Q"
                field = await self.reader.readexactly(struct.calcsize(form))
                (length,) = struct.unpack(form, field)
            return first & 0x0F, await self._within(self.reader.readexactly(length), "a payload")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def text(self, wanted):
        """Reads frames until a text has `wanted` in it."""
        while (heard := await self.frame()) is not None:
            self.received += heard[1]
            if heard[0] == TEXT and wanted.encode() in heard[1]:
                return heard[1].decode()
        raise AssertionError(f"the end came before {wanted!r}: {self.received!r}")

    async def closed(self):
        """Waits for the end: returns the code of the close frame, None without one, and all texts
        before it.
        """
        texts, code = [], None
        while (heard := await self.frame()) is not None:
            opcode, payload = heard
            assert code is None, f"a frame after the close frame: {heard}"
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                payload[2:].decode()
            elif opcode == TEXT:
                texts.append(payload.decode())
        return code, "".join(texts)

    async def _within(self, work, what):
        try:
            return await asyncio.wait_for(work, DEADLINE)
        except TimeoutError:
            raise Silence(f"{what} did not come within {DEADLINE:.0f} s; "
                          f"heard {self.received!r}") from None
