"""XMPP over WebSocket (RFC 7395) by the library `websockets`, as bare as the client on TCP.

A `WebClient` is a `Client` of the harness on another transport, so a session can go from one to the
other. It insists that every message it hears is a document of its own.
"""

import asyncio
import contextlib
import re
from xml.etree import ElementTree

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness.raw import CLIENT, STREAM, STREAM_ERROR, Client

FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
STANZA = re.compile(r"<(message|presence|iq)\b(?![^>]*\sxmlns=)")
PATH = "/ws"


class WebClient(Client):
    def __init__(self, server, account, resource="web", name=None, url=None, origin=None,
                 headers=None):
        super().__init__(server, account, resource, name)
        self.url = url
        self.origin = origin
        self.headers = headers or {}
        self.link = None
        self.close_code = None
        self.stream_id = None

    async def connect(self, direct_tls=False, receive_buffer=None):
        host, port = self.server.https if direct_tls else self.server.http
        how = {"ssl": self.server.trust(), "server_hostname": self.server.domain} \
            if direct_tls else {}
        self.link = await connect(
            self.url or f"ws{'s' if direct_tls else ''}://{host}:{port}{PATH}",
            subprotocols=["xmpp"], compression=None, max_size=None, ping_interval=None,
            origin=self.origin, additional_headers=self.headers, proxy=None, **how,
        )
        assert self.link.subprotocol == "xmpp"
        self._listen()
        return self

    async def login(self, direct_tls=False, **how):
        return await super().login(direct_tls, **how)

    async def authenticate(self, direct_tls=False, receive_buffer=None):
        # There is no STARTTLS here: whether there is TLS was said by the URL.
        await self.connect(direct_tls)
        await self.open()
        await self.plain()
        self.features = await self.open()

    async def open(self):
        await self.send(self.header())
        return await self.expect(f"{{{STREAM}}}features")

    def header(self):
        return f"<open xmlns='{FRAMING}' to='{self.server.domain}' version='1.0'/>"

    async def send(self, data):
        """One message, which must say its namespace itself."""
        if isinstance(data, str):
            data = STANZA.sub(rf"<\1 xmlns='{CLIENT}'", data, count=1)
        self._note("C", data.encode() if isinstance(data, str) else data)
        with contextlib.suppress(ConnectionClosed):  # the end is found by who listens
            await self.link.send(data)

    def cut(self):
        self.link.transport.abort()

    async def close(self):
        if self.link is None:
            return
        if not self._ended:
            await self.send(f"<close xmlns='{FRAMING}'/>")
            # The server ends the WebSocket then (section 3.6); if not, another test fails.
            await asyncio.wait([self._pump], timeout=1)
        await self.link.close()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _read(self):
        try:
            async for message in self.link:
                assert isinstance(message, str), "XMPP is text"
                octets = message.encode()
                self._note("S", octets)
                self.received += octets
                self._take(message)
                self._fresh.set()
        except ConnectionClosed:
            pass  # told by the code
        except (ElementTree.ParseError, AssertionError) as error:
            self.condition = f"nothing: a message is no document ({error}): {message}"
        self.close_code = self.link.close_code
        self.transcript.append(f"  S: (end, {self.close_code})")
        self._ended = True
        self._fresh.set()
        self._items.put_nowait(None)

    def _take(self, message):
        assert message.startswith("<"), "RFC 7395, 3.3.3: the first character is <"
        element = ElementTree.fromstring(message)
        if element.tag == f"{{{FRAMING}}}open":
            self.stream_id = element.get("id")
            assert element.get("version") == "1.0" and element.get("from") == self.server.domain
        elif element.tag == f"{{{FRAMING}}}close":
            self._items.put_nowait(element)
        elif element.tag == f"{{{STREAM}}}error":
            self.condition = next(
                (c.tag.split("}")[1] for c in element if c.tag.startswith(f"{{{STREAM_ERROR}}}")),
                "an error without a condition",
            )
        else:
            self._items.put_nowait(element)

