"""Rosters, subscriptions and presence: RFC 6121 sections 2 to 4."""

import pytest

from harness.raw import CLIENT, Client, condition

ROSTER = "jabber:iq:roster"
PRESENCE = f"{{{CLIENT}}}presence"


def query(payload="", attributes=""):
    return f"<query xmlns='{ROSTER}'{attributes}>{payload}</query>"


async def roster(client, attributes=""):
    """The items by JID; asks as a client does, so pushes follow."""
    answer = await client.iq("get", query(attributes=attributes))
    return {item.get("jid"): item for item in answer.iter(f"{{{ROSTER}}}item")}


async def push(client, jid):
    """The next push about this contact."""
    element = await client.expect(
        f"{{{CLIENT}}}iq",
        where=lambda e: e.get("type") == "set" and e.find(f".//*[@jid='{jid}']") is not None,
    )
    return element.find(f".//{{{ROSTER}}}item")


async def presence(client, sender, kind=None):
    """The next presence of this type from this sender, by full or bare JID."""
    def fits(element):
        return element.get("from").startswith(sender) and element.get("type") == kind

    return await client.expect(PRESENCE, where=fits)


async def befriend(a, b):
    """Both see each other."""
    await a.send_stanza(f"<presence type='subscribe' to='{b.account.jid}'/>")
    await presence(b, a.account.jid, "subscribe")
    await b.send_stanza(f"<presence type='subscribed' to='{a.account.jid}'/>")
    await presence(a, b.account.jid, "subscribed")
    await b.send_stanza(f"<presence type='subscribe' to='{a.account.jid}'/>")
    await presence(a, b.account.jid, "subscribe")
    await a.send_stanza(f"<presence type='subscribed' to='{b.account.jid}'/>")
    await presence(b, a.account.jid, "subscribed")
    await presence(b, a.jid)


@pytest.fixture
async def pair(server, connect):
    """Two friends with their rosters."""
    a = await connect(server.account("romeo"))
    b = await connect(server.account("juliet"))
    await roster(a)
    await roster(b)
    await befriend(a, b)
    return a, b


async def test_an_item_is_pushed_then_answered_then_kept(server, connect):
    account = server.account("romeo")
    desk = await connect(account, resource="desk")
    phone = await connect(account, resource="phone")
    assert await roster(desk) == {}
    await roster(phone)
    item = "<item jid='Nurse@Example.NET' name='Nurse &amp; Co' subscription='both'>" \
           "<group>Servants</group></item>"
    await desk.iq("set", query(item))
    assert desk.received.index(b"push-") < desk.received.rindex(b"id='q")
    for client in (desk, phone):
        assert b"nurse@example.net" in bytes((await client.hear("nurse@example[.]net")).group())
    again = await connect(account, resource="again")
    kept = (await roster(again))["nurse@example.net"]
    assert kept.get("name") == "Nurse & Co" and kept.get("subscription") == "none"
    assert kept.findtext(f"{{{ROSTER}}}group") == "Servants"


async def test_a_known_version_is_not_sent_again(server, connect):
    account = server.account("romeo")
    client = await connect(account)
    await client.iq("set", query("<item jid='a@example.net'/>"))
    whole = await client.iq("get", query(attributes=" ver=''"))
    version = whole.find(f"{{{ROSTER}}}query").get("ver")
    assert version and whole.find(f".//{{{ROSTER}}}item") is not None
    same = await client.iq("get", query(attributes=f" ver='{version}'"))
    assert same.find(f"{{{ROSTER}}}query") is None
    await client.iq("set", query("<item jid='b@example.net'/>"))
    newer = await client.iq("get", query(attributes=f" ver='{version}'"))
    assert newer.find(f"{{{ROSTER}}}query").get("ver") != version


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("", "bad-request"),
        ("<item jid='a@b'/><item jid='c@d'/>", "bad-request"),
        ("<item jid='a@b/c'/>", "bad-request"),
        ("<item jid='@'/>", "jid-malformed"),
        ("<item jid='a@b'><group/></item>", "not-acceptable"),
        ("<item jid='a@b'><group>x</group><group>x</group></item>", "bad-request"),
        ("<item jid='a@b' subscription='remove'/>", "item-not-found"),
    ],
)
async def test_a_bad_item_is_refused(server, connect, items, expected):
    client = await connect(server.account("romeo"))
    answer = await client.iq("set", query(items), expect="error")
    assert condition(answer) == expected


async def test_nobody_reads_or_writes_the_roster_of_another(server, connect):
    juliet = server.account("juliet")
    romeo = await connect(server.account("romeo"))
    for kind in ("get", "set"):
        answer = await romeo.iq(kind, query(), to=juliet.jid, expect="error")
        assert condition(answer) == "forbidden"


async def test_two_people_become_friends_and_part(pair):
    romeo, juliet = pair
    for one, other in ((romeo, juliet), (juliet, romeo)):
        item = (await roster(one))[other.account.jid]
        assert item.get("subscription") == "both" and item.get("ask") is None

    await juliet.send_stanza("<presence><show>away</show></presence>")
    shown = await romeo.expect(PRESENCE, where=lambda p: p.find(f"{{{CLIENT}}}show") is not None)
    assert shown.get("from") == juliet.jid

    # The end: both lose sight of each other.
    await romeo.iq("set", query(f"<item jid='{juliet.account.jid}' subscription='remove'/>"))
    await presence(juliet, romeo.account.jid, "unsubscribed")
    while (await push(juliet, romeo.account.jid)).get("subscription") != "none":
        pass
    assert await roster(romeo) == {}
    assert (await roster(juliet))[romeo.account.jid].get("subscription") == "none"


async def test_a_request_waits_for_its_contact_with_all_its_content(server, connect):
    romeo = await connect(server.account("romeo"))
    account = server.account("juliet")
    await romeo.send_stanza(
        f"<presence type='subscribe' to='{account.jid}/ignored' xmlns:q='urn:q'>"
        "<status>By the balcony</status><q:nick>R</q:nick></presence>"
    )
    assert (await roster(romeo))[account.jid].get("ask") == "subscribe"
    for _ in range(2):  # again at every login, until there is an answer
        juliet = await connect(account, presence=False)
        await juliet.send_stanza("<presence/>")
        request = await presence(juliet, romeo.account.jid, "subscribe")
        assert request.get("from") == romeo.account.jid
        assert request.findtext(f"{{{CLIENT}}}status") == "By the balcony"
        assert request.findtext("{urn:q}nick") == "R"
        assert await roster(juliet) == {}, "a request alone is no contact"
        await juliet.close()
    juliet = await connect(account)
    await juliet.send_stanza(f"<presence type='subscribed' to='{romeo.account.jid}'/>")
    await presence(romeo, juliet.jid)
    later = await connect(account, resource="later")
    await later.ping()
    assert b"subscribe'" not in later.received


async def test_an_approval_may_come_before_the_request(server, connect):
    romeo = await connect(server.account("romeo"))
    juliet = await connect(server.account("juliet"))
    await roster(juliet)
    await juliet.send_stanza(f"<presence type='subscribed' to='{romeo.account.jid}'/>")
    assert (await push(juliet, romeo.account.jid)).get("approved") == "true"
    await romeo.send_stanza(f"<presence type='subscribe' to='{juliet.account.jid}'/>")
    await presence(romeo, juliet.jid)
    assert (await push(juliet, romeo.account.jid)).get("subscription") == "from"
    await juliet.ping()
    assert b"type='subscribe'" not in juliet.received


async def test_nobody_can_let_himself_in(server, connect):
    mallory = await connect(server.account("mallory"))
    juliet = await connect(server.account("juliet"))
    await roster(juliet)
    for kind in ("subscribed", "unsubscribe", "unsubscribed", "probe"):
        await mallory.send_stanza(f"<presence type='{kind}' to='{juliet.account.jid}'/>")
    await mallory.ping()
    await juliet.send_stanza("<presence><status>secret</status></presence>")
    await juliet.ping()
    await mallory.ping()
    assert b"secret" not in mallory.received and juliet.jid.encode() not in mallory.received
    assert (await roster(juliet)) == {}


async def test_who_comes_online_sees_who_is_there(server, pair):
    romeo, juliet = pair
    await juliet.send_stanza("<presence><show>dnd</show><priority>-5</priority></presence>")
    await juliet.ping()
    async with Client(server, romeo.account, "phone") as phone:
        await phone.login(presence=False)
        await phone.send_stanza("<presence/>")
        shown = {}
        while not {juliet.jid, romeo.jid, phone.jid} <= shown.keys():
            element = await phone.expect(PRESENCE)
            shown[element.get("from")] = element
        assert shown[juliet.jid].findtext(f"{{{CLIENT}}}show") == "dnd"
        await presence(romeo, phone.jid)
        await presence(juliet, phone.jid)
    await presence(juliet, phone.jid, "unavailable")
    await presence(romeo, phone.jid, "unavailable")


async def test_a_probe_for_an_absent_contact_says_so(server, pair):
    romeo, juliet = pair
    await juliet.close()
    await presence(romeo, juliet.jid, "unavailable")
    await romeo.send_stanza(f"<presence type='probe' to='{juliet.account.jid}'/>")
    await presence(romeo, juliet.account.jid, "unavailable")


async def test_directed_presence_ends_with_the_session(server, connect):
    romeo = await connect(server.account("romeo"))
    stranger = await connect(server.account("stranger"))
    await romeo.send_stanza(f"<presence to='{stranger.jid}'><status>hello</status></presence>")
    shown = await presence(stranger, romeo.jid)
    assert shown.findtext(f"{{{CLIENT}}}status") == "hello"
    await romeo.send_stanza("<presence><status>for friends</status></presence>")
    romeo.cut()
    await presence(stranger, romeo.jid, "unavailable")
    assert b"for friends" not in stranger.received


@pytest.mark.parametrize("priority", ["128", "-129", "high", ""])
async def test_a_bad_priority_is_refused(server, connect, priority):
    romeo = await connect(server.account("romeo"))
    await romeo.send_stanza(f"<presence><priority>{priority}</priority></presence>")
    answer = await romeo.expect(PRESENCE, where=lambda p: p.get("type") == "error")
    assert condition(answer) == "bad-request"


async def test_unavailable_presence_reaches_friends_with_its_words(pair):
    romeo, juliet = pair
    await juliet.send_stanza("<presence type='unavailable'><status>bye</status></presence>")
    gone = await presence(romeo, juliet.jid, "unavailable")
    assert gone.findtext(f"{{{CLIENT}}}status") == "bye"
    await presence(juliet, juliet.jid, "unavailable")
    await juliet.available()
    await presence(romeo, juliet.jid)
