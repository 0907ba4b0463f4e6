"""The words of the table: what a row does and what it expects.

A row is a class of SECURITY, a title, the point where it begins, and steps. A string is sent as it
is; everything else is one of the expectations below. `{victim}`, `{me}` and `{domain}` in a string
are filled in.
"""

import base64
import contextlib
from dataclasses import dataclass, field
from typing import Callable

from harness.raw import Closed, Scram


@dataclass
class Row:
    number: int  # the class in SECURITY
    title: str
    begins: str  # tcp, clear, tls, authenticated, bound, managed
    steps: list = field(default_factory=list)

    def __str__(self):
        return f"{self.number:02d} {self.title}"


@dataclass
class Send:
    """Octets that are not text, or too many to write down; made when the row runs."""

    make: Callable[[dict], bytes | str]


@dataclass
class Closes:
    """The stream ends, with one of these conditions; none named: any way of ending will do."""

    conditions: tuple = ()

    async def check(self, peer, stage):
        condition = await peer.ended()
        if self.conditions:
            assert condition in self.conditions, (
                f"ended with {condition}, wanted {' or '.join(self.conditions)}\n{peer.story()}"
            )


def closes(*conditions):
    return Closes(conditions)


@dataclass
class Hears:
    """The peer itself receives octets that match."""

    pattern: str

    async def check(self, peer, stage):
        await peer.hear(self.pattern)
        peer.received.clear()


@dataclass
class VictimHears:
    pattern: str

    async def check(self, peer, stage):
        await stage.victim.hear(self.pattern)


@dataclass
class VictimNeverHears:
    """Nothing that matches has reached the victim when everything on the way has arrived."""

    pattern: str

    async def check(self, peer, stage):
        import re

        with contextlib.suppress(Closed):
            await peer.ping() if peer.jid else None
        await stage.victim.ping()
        found = re.search(self.pattern.encode(), bytes(stage.victim.received), re.S)
        assert not found, f"the victim heard {found.group(0)[:200]!r}\n{stage.victim.story()}"


@dataclass
class Lives:
    """The peer's own stream goes on: the row was refused, or harmless, without ending it."""

    async def check(self, peer, stage):
        await peer.ping()


@dataclass
class Vanishes:
    """The peer cuts its link, without goodbye."""

    async def check(self, peer, stage):
        peer.cut()


@dataclass
class Do:
    """A step that no text can say: `async def step(peer, stage)`."""

    run: Callable

    async def check(self, peer, stage):
        await self.run(peer, stage)


def plain(secret):
    """SASL PLAIN with exactly this secret."""
    octets = secret if isinstance(secret, bytes) else secret.encode()
    return auth("PLAIN", base64.b64encode(octets).decode())


def auth(mechanism, text):
    return (
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' "
        f"mechanism='{mechanism}'>{text}</auth>"
    )


def response(text):
    return f"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</response>"


def scram(mechanism="SCRAM-SHA-256", header="n,,", binding=b"", **lies):
    """A whole SCRAM exchange with mallory's true password, but with these lies in its words."""

    async def run(peer, stage):
        name, password = peer.account.name, peer.account.password
        exchange = Scram(name, password, gs2=header, binding=binding)
        await peer.send(auth(mechanism, exchange.first()))
        challenge = await peer.next()
        if challenge.tag.endswith("}challenge"):  # else refused already, which the row checks
            await peer.send(response(exchange.final(challenge.text, **lies)))

    return Do(run)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def message(payload, to="{victim}", attributes=""):
    return f"<message to='{to}' type='chat' {attributes}>{payload}</message>"


def body(text):
    return message(f"<body>{text}</body>")


def iq(kind, payload, to=None, ident="i1"):
    target = f" to='{to}'" if to else ""
    return f"<iq type='{kind}' id='{ident}'{target}>{payload}</iq>"
