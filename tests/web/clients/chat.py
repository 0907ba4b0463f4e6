"""encke's JSON protocol from outside: requests octet by octet, and each kind of reader.

Readers insist on the form of what they hear: events in the order of their cursors, without holes,
and in an event stream `id` and `event` as the document in `data` has them.
"""

import asyncio
import base64
import codecs
import contextlib
import json
import os
import socket
import struct
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness.raw import DEADLINE, Scram, Silence

from .http import ALWAYS, Answer, Hangup, Talk, request

PROTOCOL = "encke.v1"
COOKIE = "encke-session"
# Events that belong to one reader, not to the session.
PLACES = ("ready", "gap")


def problem(answer):
    """The status and the code of a refusal."""
    assert answer.status >= 400, answer
    document = json.loads(answer.body)
    assert answer.kind == "application/problem+json" and document["status"] == answer.status, answer
    return answer.status, document["code"]


def page(answer):
    """The events of a poll; its `ETag` says the same as `next`."""
    assert (answer.status, answer.kind) == (200, "application/json"), answer
    document = json.loads(answer.body)
    assert answer.headers["etag"] == f'"{document["next"]}"', answer
    return document["events"], document["next"]


class Api:
    """The paths under `/v1/`, each request on a connection of its own."""

    def __init__(self, address):
        self.address = address

    def request(self, method, path, body=None, token=None, query=None, fields=()):
        """The octets of a request; a body may be octets, a text, or a document."""
        if query:
            path += "?" + urlencode(query)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        fields = list(fields)
        if token:
            fields.append(f"Authorization: Bearer {token}")
        return request(self.address, f"{method} {path} HTTP/1.1", *fields, body=body)

    async def ask(self, method, path, body=None, **how):
        async with Talk(self.address) as talk:
            return await talk.ask(self.request(method, path, body, **how), method)


class User(Api):
    """Somebody who speaks JSON: one session with as many readers as there shall be."""

    def __init__(self, server, account, resource="tab", address=None):
        super().__init__(address or server.http)
        self.server, self.account, self.resource = server, account, resource
        self.token = self.jid = self.cursor = None
        self.readers = []

    async def login(self, **opening):
        answer = await self.ask("POST", "/v1/session", self.opening(**opening))
        assert answer.status == 201, answer
        return self.opened(answer)

    def opening(self, **opening):
        asked = {"user": self.account.jid, "password": self.account.password,
                 "resource": self.resource}
        asked = asked | opening
        return {name: value for name, value in asked.items() if value is not None}

    def opened(self, answer):
        said = json.loads(answer.body)
        self.token, self.jid, self.cursor = said["session"], said["jid"], said["cursor"]
        return self

    async def login_by_scram(self, password=None, mechanism="SCRAM-SHA-256"):
        """The answer to the proof, and what a client compares `success` with."""
        digest = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}[mechanism]
        scram = Scram(self.account.name, password or self.account.password, digest)
        answer = await self.ask("POST", "/v1/session", self.opening(
            password=None, mechanism=mechanism, initial=scram.first()))
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        answer = await self.ask("POST", "/v1/session/respond",
                                {"response": scram.final(said["challenge"])},
                                token=said["session"])
        verifier = base64.b64encode(f"v={getattr(scram, 'verifier', '')}".encode()).decode()
        return answer, verifier

    # Requests of this session.

    async def do(self, method, path, body=None, status=None, **how):
        """A request with the token; its document, or nothing where there is none."""
        answer = await self.ask(method, path, body, token=self.token, **how)
        assert answer.status in ((status,) if status else (200, 204)), answer
        return json.loads(answer.body) if answer.body else None

    async def send(self, to, body, message_id=None, **members):
        named = {"message_id": message_id} if message_id else {}
        return await self.do("POST", "/v1/messages",
                             {"to": str(to), "body": body} | named | members, 200)

    async def now(self):
        """The cursor of a reader that has everything."""
        return (await self.do("GET", "/v1/session"))["cursor"]

    # Readers.

    async def poll(self, cursor=None, conditional=False):
        query = {"cursor": cursor} if cursor and not conditional else None
        fields = [f'If-None-Match: "{cursor}"'] if conditional else []
        return await self.ask("GET", "/v1/events", token=self.token, query=query, fields=fields)

    async def stream(self, cursor=None, seen=None, **how):
        return await self._attach(EventStream(self, cursor, seen, **how))

    async def socket(self, cursor=None, **how):
        return await self._attach(Socket(self, cursor, **how))

    async def polls(self, cursor=None, **how):
        return await self._attach(Polls(self, cursor, **how))

    async def _attach(self, reader):
        self.readers.append(reader)
        return await reader.open()

    async def leave(self):
        for reader in self.readers:
            await reader.close()
        if self.token:
            with contextlib.suppress(Exception):
                await self.ask("DELETE", "/v1/session", token=self.token)
            self.token = None


class Reader:
    """What one reader hears."""

    def __init__(self, user, cursor=None, address=None):
        self.user, self.cursor = user, cursor
        self.address = address or user.address
        self.heard = []  # not taken yet
        self.all = []
        self.last = cursor
        self.over = False
        self._fresh = asyncio.Event()
        self._pump = None

    async def begin(self):
        """The first event: where it stands."""
        return await self.next(lambda event: event["type"] in PLACES)

    async def next(self, where=lambda event: True, timeout=DEADLINE):
        """The first event that fits and was not taken yet; those before it stay."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            for index, event in enumerate(self.heard):
                if where(event):
                    del self.heard[index]
                    return event
            patience = deadline - loop.time()
            if self.over or patience <= 0:
                raise Silence(f"no such event within {timeout:.0f} s\n{self.story()}")
            self._fresh.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), patience)

    async def wait(self, kind, where=lambda event: True, timeout=DEADLINE):
        return await self.next(lambda event: event["type"] == kind and where(event), timeout)

    async def body(self, text, kind="message"):
        return await self.wait(kind, lambda event: event.get("body") == text)

    async def ended(self):
        done, _ = await asyncio.wait([self._pump], timeout=DEADLINE)
        if not done:
            raise Silence(f"it did not end within {DEADLINE:.0f} s\n{self.story()}")
        return self

    def bodies(self, *kinds):
        """The texts of all events of these types, in order."""
        return [event["body"] for event in self.all
                if event["type"] in kinds and "body" in event]

    def story(self):
        return "\n".join(["  --- heard", *(f"  {json.dumps(event)[:300]}"
                                            for event in self.all[-20:]), "  ---"])

    async def close(self):
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    def _take(self, event):
        ident, kind = event.get("id"), event["type"]
        assert (ident is None) == (kind in ("closed", "answer")), event
        if ident is not None:
            if kind not in PLACES and self.last is not None:
                epoch, offset = self.last.split("-")
                assert ident == f"{epoch}-{int(offset) + 1}", (
                    f"{ident} behind {self.last}\n{self.story()}")
            if kind == "ready" and self.cursor is not None:
                assert ident == self.cursor, event
            self.last = ident
        self.heard.append(event)
        self.all.append(event)
        self._fresh.set()

    def _end(self):
        self.over = True
        self._fresh.set()


class EventStream(Reader):
    """`text/event-stream`, read as the standard says (HTML, section 9.2.6). `octets`: of a request
    that is written already.
    """

    def __init__(self, user, cursor=None, seen=None, **how):
        how, self.how = {name: how.pop(name) for name in ("address",) if name in how}, how
        super().__init__(user, seen or cursor, **how)
        self.query = {"cursor": cursor} if cursor else None
        self.seen = seen
        self.retry = None
        self.comments = 0
        self.head = self._writer = None

    async def open(self):
        fields = ["Accept: text/event-stream", *self.how.get("fields", ())]
        if self.seen:
            fields.append(f"Last-Event-ID: {self.seen}")
        plain = socket.create_connection(self.address)
        if buffer := self.how.get("receive_buffer"):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=plain, limit=65_536)
        self._writer.write(self.how.get("octets") or self.user.request(
            "GET", "/v1/events", token=self.how.get("token", self.user.token),
            query=self.query, fields=fields))
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), DEADLINE)
        self.head = Answer(head, b"")
        if self.head.status == 200:
            assert self.head.kind == "text/event-stream", self.head
            assert self.head.headers["transfer-encoding"] == "chunked", self.head
            assert "no-store" in self.head.headers["cache-control"], self.head
            for name, value in ALWAYS.items():
                assert self.head.headers[name] == value, self.head
            self._pump = asyncio.get_running_loop().create_task(self._read())
        return self

    def hold(self):
        """Reads no more, until it is released."""
        self._writer.transport.pause_reading()

    def release(self):
        self._writer.transport.resume_reading()

    def cut(self):
        """The network is gone."""
        raw = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self):
        await super().close()
        if self._writer:
            self._writer.close()

    async def _read(self):
        text = ""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while True:
                size = int(await self._reader.readline(), 16)
                piece = await self._reader.readexactly(size + 2)
                assert piece.endswith(b"\r\n"), piece
                if size == 0:
                    assert not text, f"it ends within a block: {text!r}"
                    return
                text += decoder.decode(piece[:-2])
                *blocks, text = text.split("\n\n")
                for block in blocks:
                    self._block(block)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # cut; who wanted more finds that it is over
        finally:
            self._writer.close()
            self._end()

    def _block(self, block):
        fields = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments += 1
                continue
            assert name in ("id", "event", "data", "retry") and value[:1] == " ", block
            assert name not in fields, block
            fields[name] = value[1:]
        if "retry" in fields:
            self.retry = int(fields.pop("retry"))
        if not fields:
            return
        event = json.loads(fields["data"])
        assert fields.get("id") == event.get("id"), block
        assert fields.get("event", "message") == event["type"], block
        assert fields.get("event") != "message", block
        self._take(event)


class Socket(Reader):
    """A WebSocket with the subprotocol encke.v1."""

    def __init__(self, user, cursor=None, by="bearer", origin=None, **how):
        super().__init__(user, cursor, **how)
        self.by, self.origin = by, origin
        self.link = self.code = None

    async def open(self):
        host, port = self.address
        query = f"?cursor={self.cursor}" if self.cursor else ""
        headers, protocols = {}, [PROTOCOL]
        if self.by == "bearer":
            headers["Authorization"] = f"Bearer {self.user.token}"
        elif self.by == "cookie":
            headers["Cookie"] = f"{COOKIE}={self.user.token}"
        elif self.by == "subprotocol":
            protocols.append(f"encke.session.{self.user.token}")
        self.link = await connect(
            f"ws://{host}:{port}/v1/socket{query}", subprotocols=protocols, compression=None,
            max_size=None, ping_interval=None, origin=self.origin, additional_headers=headers,
            proxy=None)
        assert self.link.subprotocol == PROTOCOL
        self._pump = asyncio.get_running_loop().create_task(self._read())
        return self

    async def say(self, document):
        text = document if isinstance(document, (str, bytes)) else json.dumps(document)
        with contextlib.suppress(ConnectionClosed):
            await self.link.send(text)

    async def ask(self, kind, **members):
        """A request with a name, and its answer."""
        name = base64.urlsafe_b64encode(os.urandom(6)).decode()
        await self.say({"type": kind, "request_id": name} | members)
        return await self.wait("answer", lambda answer: answer.get("request_id") == name)

    def cut(self):
        self.link.transport.abort()

    async def close(self):
        await super().close()
        if self.link:
            await self.link.close()

    async def _read(self):
        try:
            async for message in self.link:
                assert isinstance(message, str), "events are text"
                self._take(json.loads(message))
        except ConnectionClosed:
            pass  # told by the code
        finally:
            self.code = self.link.close_code
            self._end()


class Polls(Reader):
    """One poll after the other on one connection, each from where the last one ended."""

    async def open(self):
        self._talk = Talk(self.address)
        await self._talk.__aenter__()
        self._pump = asyncio.get_running_loop().create_task(self._read())
        return self

    def cut(self):
        self.over = True
        self._pump.cancel()
        self._talk.cut()

    async def close(self):
        # What is held is given up by the end of the connection, which both sides see.
        with contextlib.suppress(OSError):
            self._talk._socket.shutdown(socket.SHUT_RDWR)
        await super().close()
        await self._talk.__aexit__()

    async def _read(self):
        cursor = self.cursor
        try:
            while not self.over:
                answer = await self._talk.ask(self.user.request(
                    "GET", "/v1/events", token=self.user.token,
                    query={"cursor": cursor} if cursor else None))
                events, cursor = page(answer)
                for event in events:
                    self._take(event)
                assert not events or events[-1]["id"] == cursor, answer
        except (OSError, Hangup):
            pass  # cut
        finally:
            self._end()
