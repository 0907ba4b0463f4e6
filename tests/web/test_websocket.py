"""XMPP over WebSocket by an independent library, `websockets`: ordinary traffic (RFC 7395)."""

import asyncio
import re

import pytest
from websockets.exceptions import InvalidStatus

from clients.websocket import FRAMING, WebClient
from harness.raw import BIND, CLIENT, SASL, SM, condition


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
async def test_a_session(web, server, slix, tls):
    romeo = await slix(server.account("romeo"))
    juliet = await web(server.account("juliet"), direct_tls=tls)
    romeo.send_message(juliet.jid, "over here", mtype="chat")
    heard = await juliet.body("over here")
    assert heard.get("from") == str(romeo.boundjid)
    await juliet.message(romeo.boundjid, "and back", "1")
    assert (await romeo.body("and back"))["from"] == juliet.jid


async def test_the_stream_before_and_after_the_login(server):
    """Section 3.4: each begins with an open of its own id; there is no STARTTLS."""
    account = server.account("juliet")
    async with WebClient(server, account) as juliet:
        await juliet.connect()
        features = await juliet.open()
        first = juliet.stream_id
        mechanisms = [m.text for m in features.iter(f"{{{SASL}}}mechanism")]
        assert "SCRAM-SHA-256" in mechanisms or server.kind != "encke"
        assert "SCRAM-SHA-1" in mechanisms
        assert not [m for m in mechanisms if m.endswith("-PLUS")], "there is no channel to bind to"
        assert features.find("{urn:ietf:params:xml:ns:xmpp-tls}starttls") is None
        await juliet.plain()
        features = await juliet.open()
        assert features.find(f"{{{BIND}}}bind") is not None
        assert features.find(f"{{{SM}}}sm") is not None
        assert first and juliet.stream_id and first != juliet.stream_id


async def test_every_kind_of_stanza_is_a_document(web, server, slix):
    """`WebClient` parses each message for itself; here they are of all kinds."""
    account = server.account("juliet")
    juliet = await web(account, managed=True)
    desk = await slix(account, "desk")
    await juliet.iq("get", "<query xmlns='jabber:iq:roster'/>")
    await desk.update_roster("somebody@elsewhere.test", name="Somebody")
    await juliet.expect(f"{{{CLIENT}}}iq", where=lambda e: e.get("type") == "set")
    await juliet.iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>")
    romeo = await slix(server.account("romeo"))
    romeo.send_message(desk.boundjid, "to the desk", mtype="chat")
    carbon = await juliet.expect(f"{{{CLIENT}}}message")
    assert carbon.find(f".//{{{CLIENT}}}body").text == "to the desk"
    error = await juliet.iq("get", "<x xmlns='test:unknown'/>", server.domain, "error")
    assert condition(error) == "service-unavailable"
    await juliet.message(f"nobody@{server.domain}/x", "hello?", "m")
    await juliet.request()
    await juliet.ping()
    prefixes = re.findall(rb"<(message|iq|presence)\b([^>]*)", bytes(juliet.received))
    assert prefixes and all(b"jabber:client" in head for _, head in prefixes)


async def test_a_large_message_in_fragments(web, server, slix):
    romeo = await slix(server.account("romeo"))
    juliet = await web(server.account("juliet"))
    body = "𝄞" * 10_000

    async def pieces():
        yield f"<message xmlns='{CLIENT}' type='chat' to='{romeo.boundjid}' id='1'><body>"
        for at in range(0, len(body), 999):
            yield body[at:at + 999]
            await juliet.link.ping()
        yield "</body></message>"

    await juliet.link.send(pieces())
    heard = await romeo.body(body)
    heard.reply(body).send()
    await juliet.body(body)


async def test_a_stanza_that_is_too_large_is_answered_or_ends_the_stream(web, server):
    juliet = await web(server.account("juliet"))
    bystander = await web(server.account("bystander"))
    await juliet.message(bystander.jid, "a" * 2_000_000, "1")
    error = await juliet.ended()
    assert error == "policy-violation" or juliet.close_code == 1009, juliet.story()
    await bystander.ping()


async def test_a_thousand_messages_each_way(web, server):
    romeo, juliet = await web(server.account("romeo")), await web(server.account("juliet"))

    async def talk(one, other):
        for number in range(1000):
            await one.message(other.jid, f"{number}", f"m{number}")

    async def listen(one):
        heard = [await one.expect(f"{{{CLIENT}}}message") for _ in range(1000)]
        assert [m.findtext(f"{{{CLIENT}}}body") for m in heard] == [f"{n}" for n in range(1000)]

    await asyncio.gather(talk(romeo, juliet), talk(juliet, romeo), listen(romeo), listen(juliet))


async def test_pings_are_answered(web, server):
    juliet = await web(server.account("juliet"))
    for _ in range(3):
        await asyncio.wait_for(await juliet.link.ping(b"are you there?"), 10)
    await juliet.ping()


async def test_closing_by_xmpp(web, server, slix):
    """Section 3.6: the close element is answered, then the WebSocket ends."""
    romeo, juliet = await acquainted(web, server, slix)
    await juliet.send(f"<close xmlns='{FRAMING}'/>")
    await juliet.expect(f"{{{FRAMING}}}close")
    assert await juliet.ended() is None
    assert juliet.close_code == 1000
    await romeo.wait("presence_unavailable", lambda p: str(p["from"]) == juliet.jid)


async def test_closing_the_socket_only(web, server, slix):
    romeo, juliet = await acquainted(web, server, slix)
    await juliet.link.close(1001)
    await juliet.ended()
    await romeo.wait("presence_unavailable", lambda p: str(p["from"]) == juliet.jid)


async def test_a_reset(web, server, slix):
    romeo, juliet = await acquainted(web, server, slix)
    juliet.cut()
    await romeo.wait("presence_unavailable", lambda p: str(p["from"]) == juliet.jid)


async def test_a_binary_message_ends_the_session(web, server, slix):
    romeo, juliet = await acquainted(web, server, slix)
    await juliet.send(b"<presence/>")
    await juliet.ended()
    assert juliet.close_code == 1003
    await romeo.wait("presence_unavailable", lambda p: str(p["from"]) == juliet.jid)


async def acquainted(web, server, slix):
    """Juliet tells Romeo that she is there, so that he is told when she is gone."""
    romeo, juliet = await slix(server.account("romeo")), await web(server.account("juliet"))
    await juliet.send_stanza(f"<presence to='{romeo.boundjid}'/>")
    await romeo.wait("presence_available", lambda p: str(p["from"]) == juliet.jid)
    return romeo, juliet


async def test_the_same_resource_elsewhere_ends_this_session(web, server):
    account = server.account("juliet")
    first = await web(account, resource="page")
    second = await web(account, resource="page")
    if second.jid == first.jid:
        assert await first.ended() == "conflict"
        assert b"<close " in first.received and FRAMING.encode() in first.received
        assert first.close_code == 1000
    await second.ping()


async def test_a_wrong_password_is_refused_and_another_try_is_free(server):
    account = server.account("juliet")
    async with WebClient(server, account) as juliet:
        await juliet.connect()
        await juliet.open()
        await juliet.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>AGp1bGlldAB3cm9uZw==</auth>")
        await juliet.expect(f"{{{SASL}}}failure")
        await juliet.plain()


async def test_pages_of_other_sites_stay_outside(server, site):
    juliet = WebClient(server, server.account("juliet"), origin="https://evil.test")
    with pytest.raises(InvalidStatus) as refused:
        await juliet.connect()
    assert refused.value.response.status_code == 403
    async with WebClient(server, server.account("juliet"), origin=site.origin) as juliet:
        await juliet.login()


async def test_stopping_says_why(new_server, server_options):
    server = new_server(options=server_options).start()
    async with WebClient(server, server.account("juliet")) as juliet:
        await juliet.login()
        code = await asyncio.to_thread(server.stop)
        assert await juliet.ended() == "system-shutdown"
        assert juliet.close_code in (1000, 1001)
        assert code == 0 or server.kind != "encke"
