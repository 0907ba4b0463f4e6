"""A bare XMPP client for what real clients never do: it sends any octets and shows every answer.

Every stream keeps its transcript; a failing test prints it, so that one reads the conversation.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import os
import re
import socket
import ssl
import struct
from xml.etree import ElementTree

CLIENT = "jabber:client"
STREAM = "http://etherx.jabber.org/streams"
STREAM_ERROR = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERROR = "urn:ietf:params:xml:ns:xmpp-stanzas"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SM = "urn:xmpp:sm:3"
DELAY = "urn:xmpp:delay"

# A generous end of patience: it only passes when something is broken.
DEADLINE = 10.0


class Closed(Exception):
    """The server ended the stream; `condition` is its stream error, None if it gave none."""

    def __init__(self, condition, story=""):
        super().__init__(f"stream closed by the server: {condition or 'without an error'}\n{story}")
        self.condition = condition


class Silence(AssertionError):
    """What the test waited for did not come."""


class Stream:
    """One connection with XML on it. Knows no session: that is `Client`."""

    def __init__(self, server, name="peer"):
        self.server = server
        self.name = name
        self.reader = self.writer = None
        self.transcript: list[str] = []
        self.received = bytearray()
        self.condition = None
        self._items: asyncio.Queue = asyncio.Queue()
        self._pump = None
        self._parser = None
        self._ended = False

    # Opening and closing.

    async def connect(self, direct_tls=False, receive_buffer=None):
        host, port = self.server.tls if direct_tls else self.server.clear
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setblocking(False)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(plain, (host, port))
        options = {}
        if direct_tls:
            context = self.server.trust()
            context.set_alpn_protocols(["xmpp-client"])
            options = {"ssl": context, "server_hostname": self.server.domain}
        self.reader, self.writer = await asyncio.open_connection(
            sock=plain, limit=1 << 16, **options
        )
        self._listen()
        return self

    async def open(self):
        """Sends a stream header and returns the features."""
        self._new_parser()
        await self.send(self.header())
        return await self.expect(f"{{{STREAM}}}features")

    def header(self):
        return (
            f"<?xml version='1.0'?><stream:stream to='{self.server.domain}' version='1.0' "
            f"xmlns='{CLIENT}' xmlns:stream='{STREAM}'>"
        )

    async def starttls(self):
        await self.send(f"<starttls xmlns='{TLS}'/>")
        await self.expect(f"{{{TLS}}}proceed")
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        await self.writer.start_tls(self.server.trust(), server_hostname=self.server.domain)
        self._listen()

    def cut(self):
        """The link vanishes as if a cable was pulled: a reset, no closing tag, no TLS goodbye."""
        raw = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):  # it may be gone already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self):
        if self.writer is None:
            return
        with contextlib.suppress(Exception):
            if not self._ended:
                self.writer.write(b"</stream:stream>")
        self.writer.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.writer.wait_closed(), 1)
        self._pump.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await self._pump

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    # Talking.

    async def send(self, data):
        octets = data.encode() if isinstance(data, str) else data
        self._note("C", octets)
        if self.writer.transport.is_closing():
            return  # the end is found by who listens
        self.writer.write(octets)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def next(self, timeout=DEADLINE):
        """The next element of the server, or `Closed`."""
        try:
            item = await asyncio.wait_for(self._items.get(), timeout)
        except TimeoutError:
            raise Silence(f"{self.name} heard nothing for {timeout:.0f} s\n{self.story()}") from None
        if item is None:
            self._items.put_nowait(None)
            raise Closed(self.condition, self.story())
        return item

    async def expect(self, tag=None, timeout=DEADLINE, where=None):
        """The next element that fits; others are passed over (they stay in the transcript)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            element = await self.next(max(0.01, deadline - loop.time()))
            if tag is not None and element.tag != tag:
                continue
            if where is None or where(element):
                return element

    async def hear(self, pattern, timeout=DEADLINE):
        """Waits until the octets received so far match `pattern`; returns the match."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            found = expression.search(bytes(self.received))
            if found:
                return found
            patience = deadline - loop.time()
            if self._ended or patience <= 0:
                raise Silence(f"{self.name} never heard {pattern!r}\n{self.story()}")
            self._fresh.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), patience)

    async def ended(self, timeout=DEADLINE):
        """Waits for the end of the stream and returns its error condition, None without one."""
        try:
            await self.expect("no such element", timeout)
        except Closed as closed:
            return closed.condition
        raise AssertionError("unreachable")

    def story(self, last=30):
        return "\n".join(["  --- conversation of " + self.name, *self.transcript[-last:], "  ---"])

    # Inside.

    def _note(self, who, octets):
        text = octets.decode("utf-8", "backslashreplace")
        if len(text) > 600:
            text = f"{text[:400]} … {len(octets)} octets … {text[-100:]}"
        self.transcript.append(f"  {who}: {text}")
        del self.transcript[:-200]

    def _new_parser(self):
        self._parser = ElementTree.XMLPullParser(("start", "end"))
        self._depth = 0
        self._root = None

    def _listen(self):
        self._fresh = asyncio.Event()
        self._pump = asyncio.get_running_loop().create_task(self._read())

    async def _read(self):
        try:
            while octets := await self.reader.read(65536):
                self._note("S", octets)
                self.received += octets
                del self.received[:-1_000_000]
                if self._parser is not None:
                    self._parse(octets)
                self._fresh.set()
                if self._ended:
                    break
        except ElementTree.ParseError as error:
            self.condition = f"nothing: what it sent is not well-formed ({error})"
        except (ConnectionError, ssl.SSLError, OSError) as error:
            self.transcript.append(f"  -: {type(error).__name__}: {error}")
        if self._ended:
            self.writer.close()  # who hears </stream:stream> hangs up
        self.transcript.append("  S: (end)")
        self._ended = True
        self._fresh.set()
        self._items.put_nowait(None)

    def _parse(self, octets):
        self._parser.feed(octets)
        for event, element in self._parser.read_events():
            if event == "start":
                self._depth += 1
                if self._depth == 1:
                    self._root = element
                continue
            self._depth -= 1
            if self._depth == 0:
                self._ended = True
            if self._depth != 1:
                continue
            self._root.remove(element)
            if element.tag == f"{{{STREAM}}}error":
                self.condition = next(
                    (c.tag.split("}")[1] for c in element if c.tag.startswith(f"{{{STREAM_ERROR}}}")),
                    "an error without a condition",
                )
            else:
                self._items.put_nowait(element)


class Client(Stream):
    """A session with the few things the tests need; counts stanzas for XEP-0198."""

    def __init__(self, server, account, resource="bare", name=None):
        super().__init__(server, name or account.name)
        self.account = account
        self.resource = resource
        self.jid = None
        self.handled = 0  # stanzas received since <enabled/>
        self.sent = 0  # stanzas sent since <enable/>
        self.acked = 0
        self.managed = False
        self.resumption = None
        self.answers_requests = True
        self._ids = itertools.count(1)

    async def login(self, direct_tls=True, presence=True, managed=False, receive_buffer=None):
        await self.authenticate(direct_tls, receive_buffer)
        await self.bind()
        if managed:
            await self.enable()
        if presence:
            await self.available()
        return self

    async def authenticate(self, direct_tls=True, receive_buffer=None):
        """`direct_tls`: True, False for STARTTLS, None for a plain link where that is allowed."""
        await self.connect(bool(direct_tls), receive_buffer)
        await self.open()
        if direct_tls is False:
            await self.starttls()
            await self.open()
        await self.plain()
        self.features = await self.open()

    async def plain(self):
        secret = f"\0{self.account.name}\0{self.account.password}".encode()
        await self.send(
            f"<auth xmlns='{SASL}' mechanism='PLAIN'>{base64.b64encode(secret).decode()}</auth>"
        )
        answer = await self.next()
        assert answer.tag == f"{{{SASL}}}success", self.story()

    async def bind(self):
        resource = f"<resource>{self.resource}</resource>" if self.resource else ""
        answer = await self.iq("set", f"<bind xmlns='{BIND}'>{resource}</bind>")
        self.jid = answer.find(f".//{{{BIND}}}jid").text
        return self.jid

    async def available(self, payload=""):
        """Sends presence and waits until the server showed it back: then it has taken effect."""
        await self.send_stanza(f"<presence>{payload}</presence>")
        await self.expect(
            f"{{{CLIENT}}}presence", where=lambda p: p.get("from") == self.jid
        )

    async def iq(self, kind, payload, to=None, expect="result"):
        ident = f"q{next(self._ids)}"
        target = f" to='{to}'" if to else ""
        await self.send_stanza(f"<iq type='{kind}' id='{ident}'{target}>{payload}</iq>")
        answer = await self.expect(
            f"{{{CLIENT}}}iq",
            where=lambda e: e.get("id") == ident and e.get("type") in ("result", "error"),
        )
        assert expect is None or answer.get("type") == expect, self.story()
        return answer

    async def ping(self, timeout=DEADLINE):
        """A round trip through the server: whatever was sent before has been handled."""
        ident = f"p{next(self._ids)}"
        await self.send_stanza(
            f"<iq type='get' id='{ident}' to='{self.server.domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
        return await self.expect(
            f"{{{CLIENT}}}iq", timeout, where=lambda e: e.get("id") == ident
        )

    async def message(self, to, body, ident, kind="chat"):
        await self.send_stanza(
            f"<message type='{kind}' to='{to}' id='{ident}'><body>{body}</body></message>"
        )

    async def body(self, text, timeout=DEADLINE):
        """The message with this body."""
        return await self.expect(
            f"{{{CLIENT}}}message", timeout, where=lambda m: m.findtext(f"{{{CLIENT}}}body") == text
        )

    async def send_stanza(self, stanza):
        self.sent += 1
        await self.send(stanza)

    # XEP-0198

    async def enable(self, resume=True):
        flag = " resume='true'" if resume else ""
        self.managed = True
        self.sent = 0
        await self.send(f"<enable xmlns='{SM}'{flag}/>")
        answer = await self.expect(f"{{{SM}}}enabled")
        self.handled = 0
        self.resumption = answer.get("id")
        return answer

    async def resume(self, before, handled=None):
        """Takes over the session that `before` had; returns the server's h or a failure."""
        handled = before.handled if handled is None else handled
        await self.send(f"<resume xmlns='{SM}' previd='{before.resumption}' h='{handled}'/>")
        self.managed = True
        self.handled, self.sent = handled, before.sent
        self.resumption, self.jid = before.resumption, before.jid
        answer = await self.expect(
            where=lambda e: e.tag in (f"{{{SM}}}resumed", f"{{{SM}}}failed")
        )
        if answer.tag == f"{{{SM}}}failed":
            self.managed = False
        return answer

    async def acknowledge(self):
        await self.send(f"<a xmlns='{SM}' h='{self.handled}'/>")

    async def request(self):
        await self.send(f"<r xmlns='{SM}'/>")

    async def next(self, timeout=DEADLINE):
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            element = await super().next(max(0.01, deadline - loop.time()))
            if element.tag == f"{{{SM}}}r":
                if self.answers_requests:
                    await self.acknowledge()
                continue
            if element.tag == f"{{{SM}}}a":
                self.acked = int(element.get("h"))
                self.on_ack(self.acked)
                continue
            if self.managed and element.tag.startswith(f"{{{CLIENT}}}"):
                self.handled += 1
            return element

    def on_ack(self, handled):
        """For those who want to know."""

    async def acknowledged(self, timeout=DEADLINE):
        """Waits until everything sent so far is acknowledged."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self.request()
        while self.acked < self.sent:
            element = await Stream.next(self, max(0.01, deadline - loop.time()))
            if element.tag == f"{{{SM}}}a":
                self.acked = int(element.get("h"))
                self.on_ack(self.acked)
            elif element.tag == f"{{{SM}}}r":
                await self.acknowledge()
            elif element.tag.startswith(f"{{{CLIENT}}}"):
                self.handled += 1


def condition(stanza):
    """The condition of a stanza error."""
    error = stanza.find(f"{{{CLIENT}}}error")
    if error is None:
        return None
    return next(
        (
            c.tag.split("}")[1]
            for c in error
            if c.tag.startswith(f"{{{STANZA_ERROR}}}") and not c.tag.endswith("}text")
        ),
        None,
    )


class Scram:
    """SCRAM by hand (RFC 5802), with every part open to be wrong on purpose."""

    def __init__(self, name, password, digest="sha256", gs2="n,,", binding=b""):
        self.name, self.password, self.digest = name, password, digest
        self.gs2, self.binding = gs2, binding
        self.nonce = base64.b64encode(os.urandom(18)).decode()

    def first(self):
        self._bare = f"n={self.name},r={self.nonce}"
        return base64.b64encode((self.gs2 + self._bare).encode()).decode()

    def final(self, challenge, gs2=None, nonce=None, extra=""):
        server_first = base64.b64decode(challenge).decode()
        fields = dict(part.split("=", 1) for part in server_first.split(","))
        salted = hashlib.pbkdf2_hmac(
            self.digest, self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        header = (gs2 or self.gs2).encode() + self.binding
        without = f"c={base64.b64encode(header).decode()},r={nonce or fields['r']}{extra}"
        signed = ",".join([self._bare, server_first, without]).encode()
        key = hmac.digest(salted, b"Client Key", self.digest)
        stored = hashlib.new(self.digest, key).digest()
        signature = hmac.digest(stored, signed, self.digest)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        server_key = hmac.digest(salted, b"Server Key", self.digest)
        self.verifier = base64.b64encode(hmac.digest(server_key, signed, self.digest)).decode()
        return base64.b64encode(f"{without},p={base64.b64encode(proof).decode()}".encode()).decode()
