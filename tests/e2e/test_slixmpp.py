"""slixmpp, an independent client library: everything a chat client does on its first day."""

import asyncio
import datetime

import pytest
from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ET

from harness.raw import DELAY
from harness.slix import Slix


@pytest.fixture
async def slix(server):
    clients = []

    async def login(account=None, resource="slix", **how):
        client = Slix(server, account or server.account("slix"), resource, **how)
        client.account = account
        clients.append(client)
        return await client.login()

    yield login
    for client in clients:
        await client.leave()


@pytest.fixture
async def pair(server, slix):
    """Romeo and Juliet, logged in, not yet acquainted."""
    romeo = await slix(server.account("romeo"))
    juliet = await slix(server.account("juliet"))
    return romeo, juliet


async def befriend(one, other):
    """Both subscribe to each other, as two people who add each other do."""
    for asker, asked in ((one, other), (other, one)):
        asker.send_presence_subscription(asked.boundjid.bare)
        await asked.wait("presence_subscribe", lambda p: p["from"].bare == asker.boundjid.bare)
        asked.send_presence(pto=asker.boundjid.bare, ptype="subscribed")
        await asker.wait("presence_subscribed", lambda p: p["from"].bare == asked.boundjid.bare)


# Logging in


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
@pytest.mark.parametrize("direct_tls", [False, True], ids=["STARTTLS", "Direct TLS"])
async def test_logs_in(server, slix, mechanism, direct_tls):
    client = await slix(server.account("slix"), mechanism=mechanism, direct_tls=direct_tls)
    assert client.boundjid.resource


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
async def test_a_wrong_password_is_refused(server, mechanism):
    client = Slix(server, server.account("slix"), password="wrong", mechanism=mechanism)
    client.reach()
    failure = await client.wait("failed_auth")
    assert failure["condition"] == "not-authorized"
    client.abort()


async def test_an_unknown_user_hears_the_same_as_a_wrong_password(server):
    known = server.account("slix")
    heard = []
    for account in (known, type(known)("nobody", known.domain, "x")):
        client = Slix(server, account, password="wrong", mechanism="SCRAM-SHA-256")
        client.reach()
        heard.append((await client.wait("failed_auth"))["condition"])
        client.abort()
    assert heard[0] == heard[1]


# Talking


async def test_messages_go_both_ways(pair):
    romeo, juliet = pair
    romeo.send_message(juliet.boundjid, "But soft, what light?", mtype="chat")
    heard = await juliet.body("But soft, what light?")
    assert heard["from"] == romeo.boundjid
    heard.reply("O Romeo, Romeo").send()
    assert (await romeo.body("O Romeo, Romeo"))["from"] == juliet.boundjid


async def test_texts_arrive_as_they_were_sent(pair):
    romeo, juliet = pair
    for text in ("<&>\"'", "👩‍👩‍👧 ‮rtl‬", "e\u0301 \ufdd0 tab\tline\nend", "𝄞" * 500):
        romeo.send_message(juliet.boundjid, text, mtype="chat")
        await juliet.body(text)


async def test_a_hundred_messages_keep_their_order(pair):
    romeo, juliet = pair
    for number in range(100):
        romeo.send_message(juliet.boundjid.bare, f"{number}", mtype="chat")
    await juliet.body("99")
    rest = [int(m["body"]) for name, m in juliet.heard if name == "message"]
    assert rest == list(range(99))


async def test_offline_messages_wait_with_their_time(server, slix):
    romeo = await slix(server.account("romeo"))
    juliet = server.account("juliet")
    romeo.send_message(juliet.jid, "read me later", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    letter = await (await slix(juliet)).body("read me later")
    assert letter.xml.find(f"{{{DELAY}}}delay") is not None
    assert isinstance(letter["delay"]["stamp"], datetime.datetime)


# Presence and roster


async def test_two_people_subscribe_and_see_each_other_come_and_go(server, slix):
    romeo = await slix(server.account("romeo"))
    account = server.account("juliet")
    juliet = await slix(account)
    await befriend(romeo, juliet)
    await romeo.wait("presence_available", lambda p: p["from"] == juliet.boundjid)

    juliet.send_presence(pshow="away", pstatus="on the balcony")
    await romeo.wait("presence_away", lambda p: p["status"] == "on the balcony")

    await juliet.leave()
    await romeo.wait("presence_unavailable", lambda p: p["from"].bare == account.jid)
    back = await slix(account)
    await romeo.wait("presence_available", lambda p: p["from"] == back.boundjid)
    # She is told at once who is online: the server answers the probe for romeo.
    await back.wait("presence_available", lambda p: p["from"] == romeo.boundjid)


async def test_withdrawing_a_subscription_ends_what_is_seen(pair):
    romeo, juliet = pair
    await befriend(romeo, juliet)
    juliet.send_presence(pto=romeo.boundjid.bare, ptype="unsubscribed")
    await romeo.wait("presence_unsubscribed", lambda p: p["from"].bare == juliet.boundjid.bare)
    await romeo.get_roster()
    assert romeo.client_roster[juliet.boundjid.bare]["subscription"] == "from"


async def test_a_subscription_request_waits_for_who_is_away(server, slix):
    romeo = await slix(server.account("romeo"))
    account = server.account("juliet")
    romeo.send_presence_subscription(account.jid)
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    juliet = await slix(account)
    asked = await juliet.wait("presence_subscribe")
    assert asked["from"].bare == romeo.boundjid.bare


async def test_the_roster_is_kept_and_pushed_to_all_devices(server, slix):
    account = server.account("juliet")
    desk = await slix(account, resource="desk")
    phone = await slix(account, resource="phone")
    await desk.update_roster(f"nurse@{server.domain}", name="Nurse", groups=["House", "Verona"])
    push = await phone.wait("roster_update", lambda iq: iq["type"] == "set")
    assert push["roster"]["items"][f"nurse@{server.domain}"]["name"] == "Nurse"

    later = await slix(account, resource="later")
    assert sorted(later.client_roster[f"nurse@{server.domain}"]["groups"]) == ["House", "Verona"]
    await desk.del_roster_item(f"nurse@{server.domain}")
    await phone.wait("roster_update", lambda iq: b"remove" in ET.tostring(iq.xml))


async def test_roster_versions_spare_what_is_known(server, slix):
    client = await slix(server.account("juliet"))
    assert "rosterver" in client.features
    await client.update_roster(f"nurse@{server.domain}", name="Nurse")

    async def ask(version):
        iq = client.make_iq_get(ito=client.boundjid.bare)
        query = ET.SubElement(iq.xml, "{jabber:iq:roster}query", ver=version)
        assert query is not None
        answer = await iq.send()
        return answer.xml.find("{jabber:iq:roster}query")

    everything = await ask("")
    assert everything is not None and len(everything) == 1
    unchanged = await ask(everything.get("ver"))
    assert unchanged is None or len(unchanged) == 0


# What the server answers


async def test_ping_version_time(server, slix):
    client = await slix()
    assert await client.plugin["xep_0199"].ping(server.domain) >= 0
    version = await client.plugin["xep_0092"].get_version(server.domain)
    assert version["software_version"]["name"].lower() == server.kind
    assert version["software_version"]["version"]
    time = await client.plugin["xep_0202"].get_entity_time(server.domain)
    told = datetime.datetime.fromisoformat(time.xml.findtext(".//{urn:xmpp:time}utc"))
    assert abs((told - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) < 60


async def test_uptime_and_when_a_contact_was_last_here(server, slix):
    romeo = await slix(server.account("romeo"))
    uptime = await romeo.plugin["xep_0012"].get_last_activity(server.domain)
    assert 0 <= int(uptime["last_activity"]["seconds"]) < 3600

    account = server.account("juliet")
    juliet = await slix(account)
    await befriend(romeo, juliet)
    await juliet.leave()
    await romeo.wait("presence_unavailable", lambda p: p["from"].bare == account.jid)
    last = await romeo.plugin["xep_0012"].get_last_activity(account.jid)
    assert 0 <= int(last["last_activity"]["seconds"]) < 60


async def test_strangers_do_not_learn_when_somebody_was_last_here(pair):
    romeo, juliet = pair
    with pytest.raises(IqError) as refused:
        await romeo.plugin["xep_0012"].get_last_activity(juliet.boundjid.bare)
    assert refused.value.condition in ("forbidden", "not-authorized", "service-unavailable",
                                       "subscription-required")


async def test_vcards_are_kept_and_shown(pair):
    romeo, juliet = pair
    card = juliet.plugin["xep_0054"].make_vcard()
    card["FN"] = "Juliet Capulet"
    await juliet.plugin["xep_0054"].publish_vcard(card)
    seen = await romeo.plugin["xep_0054"].get_vcard(juliet.boundjid.bare)
    assert seen["vcard_temp"]["FN"] == "Juliet Capulet"


async def test_private_storage_is_kept_and_private(server, slix):
    client = await slix(server.account("juliet"))
    other = await slix(server.account("romeo"))
    note = ET.fromstring("<note xmlns='test:note'>remember</note>")

    def query(who, kind, payload, to=None):
        iq = who.make_iq(ito=to, itype=kind)
        ET.SubElement(iq.xml, "{jabber:iq:private}query").append(payload)
        return iq.send()

    await query(client, "set", note)
    empty = ET.fromstring("<note xmlns='test:note'/>")
    answer = await query(client, "get", empty)
    assert answer.xml.find(".//{test:note}note").text == "remember"
    with pytest.raises(IqError):
        await query(other, "get", empty, to=client.boundjid.bare)


async def test_a_blocked_contact_is_silent_and_sees_nobody(pair):
    romeo, juliet = pair
    await befriend(romeo, juliet)
    await juliet.plugin["xep_0191"].block(romeo.boundjid.bare)
    await romeo.wait("presence_unavailable", lambda p: p["from"] == juliet.boundjid)
    romeo.send_message(juliet.boundjid.bare, "hear me", mtype="chat")
    error = await romeo.wait("message_error")
    assert error["error"]["condition"] == "service-unavailable"

    blocked = await juliet.plugin["xep_0191"].get_blocked()
    assert [item["jid"] for item in blocked["blocklist"]] == [romeo.boundjid.bare]
    await juliet.plugin["xep_0191"].unblock(romeo.boundjid.bare)
    romeo.send_message(juliet.boundjid.bare, "and now?", mtype="chat")
    await juliet.body("and now?")
    assert juliet.count("message", lambda m: m["body"] == "hear me") == 0


async def test_carbons_show_one_device_what_the_other_does(server, slix):
    account = server.account("juliet")
    desk = await slix(account, resource="desk")
    phone = await slix(account, resource="phone")
    romeo = await slix(server.account("romeo"))
    await phone.plugin["xep_0280"].enable()

    desk.send_message(romeo.boundjid, "from the desk", mtype="chat")
    sent = await phone.wait("carbon_sent")
    assert sent["carbon_sent"]["body"] == "from the desk"
    assert sent["from"] == account.jid

    romeo.send_message(desk.boundjid, "to the desk", mtype="chat")
    received = await phone.wait("carbon_received")
    assert received["carbon_received"]["body"] == "to the desk"


# Stream management


async def test_resumes_after_the_socket_was_cut(server, slix):
    romeo = await slix(server.account("romeo"))
    juliet = await slix(server.account("juliet"))
    await juliet.wait("sm_enabled")
    full = str(juliet.boundjid)
    juliet.abort()
    await juliet.wait("disconnected")
    romeo.send_message(full, "while you were away", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)

    juliet.reach()
    await juliet.wait("session_resumed")
    await juliet.body("while you were away")
    assert str(juliet.boundjid) == full
    romeo.send_message(full, "and now live", mtype="chat")
    await juliet.body("and now live")
    assert romeo.count("presence_unavailable", lambda p: str(p["from"]) == full) == 0


async def test_every_sent_message_is_acknowledged(server, slix):
    romeo = await slix(server.account("romeo"))
    juliet = server.account("juliet")
    await romeo.wait("sm_enabled")
    for number in range(5):
        romeo.send_message(juliet.jid, f"{number}", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    romeo.plugin["xep_0198"].request_ack()
    for number in range(5):
        await romeo.wait("stanza_acked", lambda s, n=number: s.xml.tag.endswith("message")
                         and s["body"] == f"{n}")


async def test_sixty_logins_at_once(server):
    """Not a load test: a small stampede that must neither fail nor disturb its neighbour."""
    accounts = [server.account("crowd") for _ in range(10)]
    clients = [Slix(server, accounts[n % 10], f"r{n}") for n in range(60)]
    await asyncio.gather(*(client.login() for client in clients))
    await asyncio.gather(*(client.leave() for client in clients))
