"""aioxmpp, a second independent library: stricter than slixmpp, with another idea of resumption."""

import asyncio
import ssl

import aiosasl
import aioxmpp
import OpenSSL
import pytest

from harness.raw import DEADLINE


class Person:
    """aioxmpp's managed client with what it heard in queues."""

    def __init__(self, server, account, direct_tls=False, password=None):
        self.account = account
        host, port = server.tls if direct_tls else server.clear
        kind = aioxmpp.connector.XMPPOverTLSConnector if direct_tls \
            else aioxmpp.connector.STARTTLSConnector
        security = aioxmpp.make_security_layer(password or account.password)
        security = security._replace(
            ssl_context_factory=lambda transport=None: _context(server),
            certificate_verifier_factory=_Verifier,
        )
        self.client = aioxmpp.PresenceManagedClient(
            aioxmpp.JID.fromstr(f"{account.jid}/aio"), security,
            override_peer=[(host, port, kind())],
        )
        self.roster = self.client.summon(aioxmpp.RosterClient)
        self.presence = self.client.summon(aioxmpp.PresenceClient)
        self.messages, self.asked, self.seen = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.failures, self.suspended, self.resumed = (
            asyncio.Queue(), asyncio.Event(), asyncio.Event()
        )
        dispatcher = self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        dispatcher.register_callback(None, None, self.messages.put_nowait)
        self.roster.on_subscribe.connect(lambda stanza: self.asked.put_nowait(stanza))
        self.presence.on_available.connect(
            lambda jid, stanza: self.seen.put_nowait(("available", jid))
        )
        self.presence.on_unavailable.connect(
            lambda jid, stanza: self.seen.put_nowait(("unavailable", jid))
        )
        self.client.on_failure.connect(self.failures.put_nowait)
        self.client.on_stream_suspended.connect(lambda reason: self.suspended.set())
        self.client.on_stream_resumed.connect(self.resumed.set)

    async def login(self):
        ready = asyncio.Event()
        self.client.on_stream_established.connect(ready.set)
        self.client.presence = aioxmpp.PresenceState(True)
        await asyncio.wait_for(ready.wait(), DEADLINE)
        return self

    @property
    def jid(self):
        return self.client.local_jid

    async def say(self, to, text):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=to)
        message.body[None] = text
        await self.client.send(message)

    async def body(self, text):
        async def look():
            while True:
                message = await self.messages.get()
                if message.body.any() == text:
                    return message

        return await asyncio.wait_for(look(), DEADLINE)

    async def sees(self, what, jid):
        async def look():
            while True:
                kind, who = await self.seen.get()
                if kind == what and (who == jid or who.bare() == jid):
                    return

        await asyncio.wait_for(look(), DEADLINE)

    async def leave(self):
        if self.client.running:
            stopped = asyncio.Event()
            self.client.on_stopped.connect(stopped.set)
            self.client.stop()
            await asyncio.wait_for(stopped.wait(), DEADLINE)


def _context(server):
    context = OpenSSL.SSL.Context(OpenSSL.SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(server.authority.file))
    return context


class _Verifier(aioxmpp.security_layer.CertificateVerifier):
    """OpenSSL's verdict on the chain; aioxmpp's own name check predates today's pyOpenSSL."""

    def verify_callback(self, connection, certificate, number, depth, good):
        return bool(good)

    async def post_handshake(self, transport):
        pass


@pytest.fixture
async def person(server):
    people = []

    async def login(hint="aio", **how):
        one = Person(server, server.account(hint), **how)
        people.append(one)
        return await one.login()

    yield login
    for one in people:
        await one.leave()


@pytest.mark.parametrize("direct_tls", [False, True], ids=["STARTTLS", "Direct TLS"])
async def test_logs_in(person, direct_tls):
    one = await person(direct_tls=direct_tls)
    assert one.client.established


async def test_a_wrong_password_is_refused(server):
    one = Person(server, server.account("aio"), password="wrong")
    one.client.presence = aioxmpp.PresenceState(True)
    failure = await asyncio.wait_for(one.failures.get(), DEADLINE)
    assert isinstance(failure, aiosasl.AuthenticationFailure)


async def test_messages_go_both_ways(person):
    romeo, juliet = await person("romeo"), await person("juliet")
    await romeo.say(juliet.jid, "hello")
    assert (await juliet.body("hello")).from_ == romeo.jid
    await juliet.say(romeo.jid, "hello yourself")
    assert (await romeo.body("hello yourself")).from_ == juliet.jid


async def test_two_people_subscribe_and_see_each_other(person):
    romeo, juliet = await person("romeo"), await person("juliet")
    for one, other in ((romeo, juliet), (juliet, romeo)):
        one.roster.subscribe(other.jid.bare())
        asked = await asyncio.wait_for(other.asked.get(), DEADLINE)
        assert asked.from_.bare() == one.jid.bare()
        other.roster.approve(one.jid.bare())
        await one.sees("available", other.jid)
    bare = juliet.jid.bare()
    await juliet.leave()
    await romeo.sees("unavailable", bare)


async def test_resumes_after_its_transport_was_aborted(person):
    romeo, juliet = await person("romeo"), await person("juliet")
    assert juliet.client.stream.sm_enabled
    full = juliet.jid
    # What a dead network does to it; the public abort() means that the user wants to leave.
    juliet.client.stream._xmlstream._transport._force_close(ConnectionResetError("cut"))
    await asyncio.wait_for(juliet.suspended.wait(), DEADLINE)
    await romeo.say(full, "while you were away")
    await asyncio.wait_for(juliet.resumed.wait(), DEADLINE)
    await juliet.body("while you were away")
    assert juliet.jid == full
    await juliet.say(romeo.jid, "back again")
    await romeo.body("back again")


async def test_a_sent_message_is_acknowledged(person):
    romeo, juliet = await person("romeo"), await person("juliet")
    message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=juliet.jid)
    message.body[None] = "sign here"
    token = romeo.client.enqueue(message)
    await asyncio.wait_for(token, DEADLINE)
    assert token.state in (aioxmpp.stream.StanzaState.ACKED,
                           aioxmpp.stream.StanzaState.SENT_WITHOUT_SM)


async def test_service_discovery(server, person):
    one = await person()
    disco = one.client.summon(aioxmpp.DiscoClient)
    info = await disco.query_info(aioxmpp.JID.fromstr(server.domain))
    assert any(i.category == "server" and i.type_ == "im" for i in info.identities)
    assert "urn:xmpp:ping" in info.features
    assert ssl.OPENSSL_VERSION  # the client's TLS is OpenSSL, the server's is not
