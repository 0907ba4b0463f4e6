"""Extensions that an account or the server answers for: what each text promises."""

import re

import pytest

from harness.raw import CLIENT, Client, condition
from test_contacts import pair, presence, roster  # noqa: F401  (pair is a fixture)

BLOCKING = "urn:xmpp:blocking"
CARBONS = "urn:xmpp:carbons:2"
CSI = "urn:xmpp:csi:0"
FORWARD = "urn:xmpp:forward:0"
LAST = "jabber:iq:last"
PRIVATE = "jabber:iq:private"
MESSAGE = f"{{{CLIENT}}}message"


# XEP-0280


async def copied(client, direction):
    """The next carbon copy and the message inside."""
    outer = await client.expect(
        MESSAGE, where=lambda m: m.find(f"{{{CARBONS}}}{direction}") is not None
    )
    return outer, outer.find(f"{{{CARBONS}}}{direction}/{{{FORWARD}}}forwarded/{MESSAGE}")


async def with_carbons(connect, account, resource, presence=True):
    client = await connect(account, resource=resource, presence=presence)
    await client.iq("set", f"<enable xmlns='{CARBONS}'/>")
    return client


async def test_the_other_sessions_see_what_one_sends_and_gets(server, connect):
    account = server.account("romeo")
    desk = await with_carbons(connect, account, "desk")
    phone = await with_carbons(connect, account, "phone")
    plain = await connect(account, resource="plain")
    juliet = await connect(server.account("juliet"))

    await desk.message(juliet.jid, "from the desk", "1")
    outer, inner = await copied(phone, "sent")
    assert (outer.get("from"), outer.get("to")) == (account.jid, phone.jid)
    assert (inner.get("from"), inner.get("to")) == (desk.jid, juliet.jid)
    assert inner.findtext(f"{{{CLIENT}}}body") == "from the desk"

    await juliet.message(desk.jid, "to the desk", "2")
    await desk.body("to the desk")
    _, inner = await copied(phone, "received")
    assert (inner.get("from"), inner.get("to")) == (juliet.jid, desk.jid)

    await juliet.message(account.jid, "to all", "3")
    for client in (desk, phone, plain):
        await client.body("to all")
        await client.ping()
        assert client.received.count(b"to all") == 1, "no copy for who got the message itself"
    assert b"the desk" not in plain.received, "it did not ask for copies"
    assert b"from the desk" not in desk.received


@pytest.mark.parametrize(
    "private",
    [f"<private xmlns='{CARBONS}'/>", "<no-copy xmlns='urn:xmpp:hints'/>"],
)
async def test_what_is_private_is_not_copied(server, connect, private):
    account = server.account("romeo")
    desk = await connect(account, resource="desk")
    phone = await with_carbons(connect, account, "phone")
    juliet = await connect(server.account("juliet"))
    secret = f"<body>secret</body>{private}</message>"
    await desk.send_stanza(f"<message type='chat' id='1' to='{juliet.jid}'>{secret}")
    await juliet.send_stanza(f"<message type='chat' id='2' to='{desk.jid}'>{secret}")
    await desk.body("secret")
    await phone.ping()
    assert b"secret" not in phone.received


async def test_copies_end_when_they_are_switched_off(server, connect):
    account = server.account("romeo")
    desk = await connect(account, resource="desk")
    phone = await with_carbons(connect, account, "phone")
    await phone.iq("set", f"<disable xmlns='{CARBONS}'/>")
    await desk.message(server.account("juliet").jid, "alone", "1")
    await desk.ping()
    await phone.ping()
    assert b"alone" not in phone.received


# XEP-0352


async def test_an_inactive_client_hears_only_what_cannot_wait(pair):  # noqa: F811
    romeo, juliet = pair
    await romeo.send(f"<inactive xmlns='{CSI}'/>")
    await romeo.ping()
    for number in range(3):
        await juliet.send_stanza(f"<presence><status>mood {number}</status></presence>")
    await juliet.send_stanza(
        f"<message type='chat' to='{romeo.jid}'>"
        "<composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    await juliet.ping()
    romeo.received.clear()
    await juliet.message(romeo.jid, "important", "1")
    await romeo.body("important")
    heard = bytes(romeo.received)
    assert b"mood 0" not in heard and b"mood 1" not in heard
    assert heard.index(b"mood 2") < heard.index(b"important"), "what waited comes first"
    assert heard.index(b"composing") < heard.index(b"important")

    await juliet.send_stanza("<presence><status>later</status></presence>")
    await juliet.ping()
    await romeo.send(f"<active xmlns='{CSI}'/>")
    await romeo.ping()
    assert romeo.received.index(b"later") < romeo.received.rindex(b"id='p")


async def test_an_absent_client_comes_back_to_the_last_presence_only(server, connect, pair):  # noqa: F811
    """A resumed session is active, whatever it was before."""
    _, juliet = pair
    phone = await connect(pair[0].account, resource="phone", managed=True)
    await phone.send(f"<inactive xmlns='{CSI}'/>")
    await phone.ping()
    await phone.acknowledge()
    phone.cut()
    for number in range(4):
        await juliet.send_stanza(f"<presence><status>mood {number}</status></presence>")
    await juliet.ping()
    async with Client(server, phone.account, name="phone again") as again:
        await again.authenticate()
        await again.resume(phone)
        shown = await presence(again, juliet.jid)
        assert shown.findtext(f"{{{CLIENT}}}status") == "mood 3"
        await juliet.send_stanza("<presence><status>at once</status></presence>")
        shown = await presence(again, juliet.jid)
        assert shown.findtext(f"{{{CLIENT}}}status") == "at once"


# XEP-0191


def items(name, *jids):
    inside = "".join(f"<item jid='{jid}'/>" for jid in jids)
    return f"<{name} xmlns='{BLOCKING}'>{inside}</{name}>"


async def blocked(client):
    answer = await client.iq("get", items("blocklist"))
    return [item.get("jid") for item in answer.iter(f"{{{BLOCKING}}}item")]


async def test_a_block_silences_both_ways_and_ends(server, connect, pair):  # noqa: F811
    romeo, juliet = pair
    other = await connect(romeo.account, resource="other")
    assert await blocked(romeo) == [] and await blocked(other) == []
    await romeo.iq("set", items("block", juliet.account.jid))
    await other.hear("<block xmlns=.{1,30}<item jid=." + re.escape(juliet.account.jid))
    await presence(juliet, romeo.jid, "unavailable")
    assert await blocked(romeo) == [juliet.account.jid]

    romeo.received.clear()
    await juliet.message(romeo.account.jid, "let me in", "b1")
    refused = await juliet.expect(MESSAGE, where=lambda m: m.get("id") == "b1")
    assert condition(refused) == "service-unavailable"
    answer = await juliet.iq("get", "<ping xmlns='urn:xmpp:ping'/>", romeo.jid, "error")
    assert condition(answer) == "service-unavailable"
    await juliet.send_stanza("<presence><status>unheard</status></presence>")
    await juliet.ping()
    await romeo.ping()
    assert b"let me in" not in romeo.received and b"unheard" not in romeo.received

    for stanza in (
        f"<message type='chat' id='out' to='{juliet.jid}'><body>x</body></message>",
        f"<presence id='out' to='{juliet.jid}'/>",
        f"<iq type='get' id='out' to='{juliet.jid}'><ping xmlns='urn:xmpp:ping'/></iq>",
    ):
        await romeo.send_stanza(stanza)
        refused = await romeo.expect(where=lambda e: e.get("id") == "out")
        assert condition(refused) == "not-acceptable"
        assert refused.find(".//{urn:xmpp:blocking:errors}blocked") is not None

    await romeo.iq("set", items("unblock", juliet.account.jid))
    await presence(juliet, romeo.jid)
    seen = await presence(romeo, juliet.jid)
    assert seen.findtext(f"{{{CLIENT}}}status") == "unheard", "it is asked for what was missed"
    await juliet.message(romeo.jid, "at last", "b2")
    await romeo.body("at last")


async def test_a_block_list_outlives_the_session_and_can_be_emptied(server, connect):
    account = server.account("romeo")
    romeo = await connect(account)
    assert condition(await romeo.iq("set", items("block"), expect="error")) == "bad-request"
    await romeo.iq("set", items("block", "Spam.Example", "a@b/c"))
    await romeo.close()
    again = await connect(account)
    assert await blocked(again) == ["a@b/c", "spam.example"]
    await again.iq("set", items("unblock"))
    assert await blocked(again) == []


# XEP-0049 and XEP-0054


async def test_private_storage_keeps_what_it_is_given(server, connect):
    account = server.account("romeo")
    romeo = await connect(account)
    absent = await romeo.iq("get", f"<query xmlns='{PRIVATE}'><a xmlns='u:a'/></query>")
    assert absent.find(".//{u:a}a") is not None and len(absent.find(".//{u:a}a")) == 0
    await romeo.iq(
        "set",
        f"<query xmlns='{PRIVATE}'><a xmlns='u:a' x='1'><b>ü &amp; &lt;</b></a><c xmlns='u:c'/></query>",
    )
    kept = await romeo.iq("get", f"<query xmlns='{PRIVATE}'><a xmlns='u:a'/></query>")
    assert kept.find(".//{u:a}a").get("x") == "1"
    assert kept.findtext(".//{u:a}b") == "ü & <"
    for payload in ("", "<a xmlns='u:a'/><b xmlns='u:b'/>"):
        answer = await romeo.iq("get", f"<query xmlns='{PRIVATE}'>{payload}</query>", expect="error")
        assert condition(answer) == "bad-request"
    mallory = await connect(server.account("mallory"))
    answer = await mallory.iq(
        "get", f"<query xmlns='{PRIVATE}'><a xmlns='u:a'/></query>", account.jid, "error"
    )
    assert condition(answer) == "forbidden"


async def test_private_storage_has_an_end(server, connect):
    """Also when all requests come at once."""
    romeo = await connect(server.account("romeo"))
    for number in range(110):
        await romeo.send_stanza(
            f"<iq type='set' id='s{number}'><query xmlns='{PRIVATE}'>"
            f"<a xmlns='u:{number}'/></query></iq>"
        )
    answers = {}
    while len(answers) < 110:
        answer = await romeo.expect(f"{{{CLIENT}}}iq")
        answers[answer.get("id")] = condition(answer)
    assert list(answers.values()).count(None) == 100
    assert list(answers.values()).count("resource-constraint") == 10
    await romeo.iq("set", f"<query xmlns='{PRIVATE}'><a xmlns='u:1'><new/></a></query>")


async def test_a_card_is_written_by_its_owner_and_read_by_all(server, connect):
    account = server.account("romeo")
    romeo = await connect(account)
    card = "<vCard xmlns='vcard-temp'/>"
    assert condition(await romeo.iq("get", card, expect="error")) == "item-not-found"
    mallory = await connect(server.account("mallory"))
    assert condition(await mallory.iq("get", card, account.jid, "error")) == "service-unavailable"
    await romeo.iq("set", "<vCard xmlns='vcard-temp'><FN>Romeo M.</FN></vCard>")
    read = await mallory.iq("get", card, account.jid)
    assert read.findtext(".//{vcard-temp}FN") == "Romeo M."
    assert condition(await mallory.iq("set", card, account.jid, "error")) == "forbidden"
    large = f"<vCard xmlns='vcard-temp'><FN>{'x' * 70_000}</FN></vCard>"
    assert condition(await romeo.iq("set", large, expect="error")) == "resource-constraint"


# XEP-0012, 0030, 0092, 0202


async def test_last_activity_is_for_friends(server, connect, pair):  # noqa: F811
    romeo, juliet = pair
    ask = f"<query xmlns='{LAST}'/>"
    now = await romeo.iq("get", ask, juliet.account.jid)
    assert now.find(f"{{{LAST}}}query").get("seconds") == "0"
    await juliet.send_stanza("<presence type='unavailable'><status>gone</status></presence>")
    await presence(romeo, juliet.jid, "unavailable")
    then = await romeo.iq("get", ask, juliet.account.jid)
    assert then.findtext(f"{{{LAST}}}query") == "gone"
    mallory = await connect(server.account("mallory"))
    assert condition(await mallory.iq("get", ask, juliet.account.jid, "error")) == "forbidden"
    uptime = await romeo.iq("get", ask, server.domain)
    assert int(uptime.find(f"{{{LAST}}}query").get("seconds")) < 3600


async def test_an_account_shows_itself_to_friends_only(server, connect, pair):  # noqa: F811
    romeo, juliet = pair
    info = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
    below = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
    known = await romeo.iq("get", info, juliet.account.jid)
    assert known.find(".//*[@category='account']").get("type") == "registered"
    sessions = await romeo.iq("get", below, juliet.account.jid)
    assert [i.get("jid") for i in sessions.iter() if i.get("jid")] == [juliet.jid]
    mallory = await connect(server.account("mallory"))
    for ask in (info, below):
        for jid in (juliet.account.jid, f"nobody@{server.domain}"):
            answer = await mallory.iq("get", ask, jid, "error")
            assert condition(answer) == "service-unavailable"
    answer = await romeo.iq("get", info.replace("/>", " node='x'/>"), server.domain, "error")
    assert condition(answer) == "item-not-found"


async def test_the_capabilities_in_the_features_can_be_asked_for(server, connect):
    romeo = await connect(server.account("romeo"))
    caps = romeo.features.find("{http://jabber.org/protocol/caps}c")
    node = f"{caps.get('node')}#{caps.get('ver')}"
    ask = f"<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>"
    answer = await romeo.iq("get", ask, server.domain)
    assert answer.find(".//*[@category='server']").get("type") == "im"
