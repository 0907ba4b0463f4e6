"""XMPP over BOSH (XEP-0124, XEP-0206) with every identifier in the hand of the test."""

import base64
import contextlib
import itertools
import random
from xml.etree import ElementTree

from harness.raw import BIND, CLIENT, SASL, STREAM

from .http import Talk, request

PATH = "/http-bind"
# What a password is told that comes too soon after wrong ones.
WAIT = "temporary-auth-failure"
HTTPBIND = "http://jabber.org/protocol/httpbind"
XBOSH = "urn:xmpp:xbosh"
BODY = f"{{{HTTPBIND}}}body"


class Wrapper:
    """A `<body/>` that came."""

    def __init__(self, answer):
        self.answer = answer
        assert answer.status == 200 and answer.kind == "text/xml", answer
        assert answer.headers["content-security-policy"] == "sandbox", answer
        self.element = ElementTree.fromstring(answer.body)
        assert self.element.tag == BODY, answer

    @property
    def type(self):
        return self.element.get("type")

    @property
    def condition(self):
        """Why the session ended; `None` while it goes on."""
        return self.element.get("condition", "none") if self.type == "terminate" else None

    def bodies(self):
        return [body.text for body in self.element.iter(f"{{{CLIENT}}}body")]

    def __repr__(self):
        return repr(self.answer)


def wrap(content="", **attributes):
    """A wrapper of a request; `xmlns=None` leaves the namespace out, and so for any other."""
    pairs = {"xmlns": HTTPBIND, "xmlns:xmpp": XBOSH} | {
        name.replace("__", ":"): value for name, value in attributes.items()}
    inside = "".join(f" {name}='{value}'" for name, value in pairs.items() if value is not None)
    return f"<body{inside}>{content}</body>"


def post(address, text, *fields):
    body = text.encode() if isinstance(text, str) else text
    return request(address, f"POST {PATH} HTTP/1.1", "Content-Type: text/xml; charset=utf-8",
                   *fields, body=body)


async def fumble(server, account, count, **how):
    """Wrong passwords from one client, all at once, each in a session of its own."""
    async with contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Bosh(server, account, **how))
                 for _ in range(count)]
        for bosh in crowd:
            await bosh.open()
        for number, bosh in enumerate(crowd):
            await bosh.send(bosh.credentials(f"wrong {number}"))
        assert {await bosh.verdict(await bosh.hear()) for bosh in crowd} <= {
            "not-authorized", WAIT}


async def verdict(server, account, **how):
    """What the right password from there is told."""
    async with Bosh(server, account, **how) as bosh:
        await bosh.open()
        return await bosh.authenticate()


class Bosh:
    """A session. Requests go over `self.talk` unless they are given another connection."""

    def __init__(self, server, account, resource="bosh", address=None, fields=(), before=b""):
        self.server, self.account, self.resource = server, account, resource
        self.address = address or server.http
        self.fields, self.before = fields, before
        self.rid = random.randrange(1, 1 << 40)
        self.sid = self.jid = self.talk = None
        self._all = contextlib.AsyncExitStack()
        self._ids = itertools.count(1)

    async def __aenter__(self):
        self.talk = await self.line()
        return self

    async def __aexit__(self, *_):
        if self.sid is not None:
            with contextlib.suppress(Exception):
                async with Talk(self.address, before=self.before) as talk:
                    await talk.ask(self.post(type="terminate"))
        await self._all.aclose()

    async def line(self):
        """One connection more."""
        return await self._all.enter_async_context(Talk(self.address, before=self.before))

    def post(self, content="", **attributes):
        """The octets of the next request, or of another if `rid` says so."""
        if "rid" not in attributes:
            self.rid += 1
        attributes = {"rid": self.rid, "sid": self.sid} | attributes
        return post(self.address, wrap(content, **attributes), *self.fields)

    async def send(self, content="", talk=None, **attributes):
        """A request whose answer is for later."""
        await (talk or self.talk).send(self.post(content, **attributes))

    async def hear(self, talk=None):
        return Wrapper(await (talk or self.talk).answer())

    async def ask(self, content="", talk=None, **attributes):
        await self.send(content, talk, **attributes)
        return await self.hear(talk)

    async def again(self, request):
        """Sends a request once more, and as often as it is told to (section 17.3): what was sent
        first may arrive last.
        """
        answer = Wrapper(await self.talk.ask(request))
        while answer.type == "error":
            answer = Wrapper(await self.talk.ask(request))
        return answer

    async def open(self, **attributes):
        """Asks for a session; returns the answer with the features."""
        asked = {"to": self.server.domain, "ver": "1.11", "wait": 60, "hold": 1, "sid": None,
                 "xmpp__version": "1.0", "xml__lang": "en"}
        answer = await self.ask(**asked | attributes)
        self.sid = answer.element.get("sid")
        return answer

    async def until(self, answer, tag):
        """The first element with this tag, in this answer or a later one."""
        while (found := answer.element.find(f".//{tag}")) is None:
            assert answer.type is None, answer
            answer = await self.ask()
        return found

    def credentials(self, password=None):
        secret = f"\0{self.account.name}\0{password or self.account.password}".encode()
        return (f"<auth xmlns='{SASL}' mechanism='PLAIN'>"
                f"{base64.b64encode(secret).decode()}</auth>")

    async def authenticate(self):
        """The condition of the server's refusal, `None` if it took the password."""
        return await self.verdict(await self.ask(self.credentials()))

    async def verdict(self, answer):
        """What the server says of credentials, in this answer or a later one."""
        while not len(answer.element):
            assert answer.type is None, answer
            answer = await self.ask()
        verdict = answer.element[0]
        if verdict.tag == f"{{{SASL}}}success":
            return None
        return next(child.tag.split("}")[1] for child in verdict)

    async def login(self, presence=True, **attributes):
        await self.until(await self.open(**attributes), f"{{{STREAM}}}features")
        assert await self.authenticate() is None
        answer = await self.ask(xmpp__restart="true", to=self.server.domain)
        await self.until(answer, f"{{{STREAM}}}features")
        answer = await self.ask(
            f"<iq xmlns='{CLIENT}' type='set' id='b'><bind xmlns='{BIND}'>"
            f"<resource>{self.resource}</resource></bind></iq>")
        self.jid = (await self.until(answer, f"{{{BIND}}}jid")).text
        if presence:
            answer = await self.ask(f"<presence xmlns='{CLIENT}'/>")
            await self.until(answer, f"{{{CLIENT}}}presence")
        return self

    def ping(self, ident=None):
        ident = ident or f"p{next(self._ids)}"
        return (f"<iq xmlns='{CLIENT}' type='get' id='{ident}' to='{self.server.domain}'>"
                "<ping xmlns='urn:xmpp:ping'/></iq>")

    def message(self, to, text):
        return (f"<message xmlns='{CLIENT}' type='chat' to='{to}' id='m{next(self._ids)}'>"
                f"<body>{text}</body></message>")

    async def lives(self):
        """The session goes on."""
        return await self.until(await self.ask(self.ping()), f"{{{CLIENT}}}iq")

    async def is_gone(self):
        """No later request finds it."""
        async with Talk(self.address, before=self.before) as talk:
            answer = await self.ask(talk=talk)
        assert answer.condition == "item-not-found", answer
        self.sid = None
