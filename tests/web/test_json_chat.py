"""People who speak JSON among people who speak XMPP: nobody notices the difference."""

import asyncio
import json
import os
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from clients.bosh import Bosh
from clients.chat import Api, problem
from clients.http import Talk
from clients.people import befriend, raw, say, settle, user  # noqa: F401
from harness.raw import CLIENT, DEADLINE, condition

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
CARBONS = "urn:xmpp:carbons:2"
RECEIPTS = "urn:xmpp:receipts"
TOPIC, KEY = "weather", "sesame-open-sesame"
READERS = ["socket", "stream", "polls"]


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"http.topics": [f"{TOPIC}:{KEY}"]}


# Sending.

async def test_a_message_that_is_sent_twice_is_one(user, raw):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    document = {"type": "message", "to": romeo.jid, "message_id": "m1", "body": "once"}
    for _ in range(2):
        await socket.say(document)
    answers = await asyncio.gather(*(juliet.send(romeo.jid, "once", "m1") for _ in range(8)))
    assert {(answer["message_id"], answer["state"]) for answer in answers} == {("m1", "stored")}
    await socket.wait("sent")
    answer = await socket.ask("message", to=romeo.jid, message_id="m1", body="another text")
    assert (answer["status"], answer["state"]) == (200, "stored")
    await juliet.send(romeo.jid, "the end")
    first = await romeo.next()
    last = await romeo.next()
    assert [first.findtext(f"{{{CLIENT}}}body"), last.findtext(f"{{{CLIENT}}}body")] == [
        "once", "the end"]
    await socket.body("the end", "sent")
    assert socket.bodies("sent") == ["once", "the end"]


async def test_the_order_of_what_is_sent_is_kept(user, raw):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    for number in range(200):
        # No more than the session may have unanswered.
        if number >= 64:
            await socket.wait("sent")
        await socket.say({"type": "message", "to": romeo.jid, "body": f"{number}"})
    wanted = [f"{number}" for number in range(200)]
    assert [(await romeo.expect(f"{{{CLIENT}}}message")).findtext(f"{{{CLIENT}}}body")
            for _ in wanted] == wanted
    await socket.body("199", "sent")
    assert socket.bodies("sent") == wanted


@pytest.mark.parametrize("to, code", [
    ("nobody@{domain}", "service-unavailable"), ("a@elsewhere.test", "remote-server-not-found")])
async def test_what_cannot_be_delivered_comes_back(server, user, to, code):
    juliet = await user()
    socket = await settle(await juliet.socket())
    await juliet.send(to.format(domain=server.domain), "is there anybody?", "lost")
    failure = await socket.wait("failure")
    assert (failure["of"], failure["message_id"]) == ("message", "lost")
    assert failure["problem"]["code"] == code


async def test_receipts_go_both_ways(user, raw):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    await juliet.send(romeo.jid, "did you get it?", "m1", wants_receipt=True)
    message = await romeo.body("did you get it?")
    assert message.find(f"{{{RECEIPTS}}}request") is not None and message.get("id") == "m1"
    await romeo.send_stanza(f"<message to='{juliet.jid}' id='r1'><received xmlns='{RECEIPTS}' "
                            "id='m1'/></message>")
    receipt = await socket.wait("receipt")
    assert (receipt["received"], receipt["from"]) == ("m1", romeo.jid)
    await romeo.send_stanza(f"<message to='{juliet.jid}' id='r2' type='chat'><body>and you?"
                            f"</body><request xmlns='{RECEIPTS}'/></message>")
    assert (await socket.body("and you?"))["wants_receipt"] is True
    await socket.say({"type": "message", "to": romeo.jid, "received": "r2"})
    heard = await romeo.expect(f"{{{CLIENT}}}message")
    assert heard.find(f"{{{RECEIPTS}}}received").get("id") == "r2"


async def test_typing_goes_both_ways(user, raw):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    await socket.say({"type": "message", "to": romeo.jid, "state": "composing"})
    heard = await romeo.expect(f"{{{CLIENT}}}message")
    assert heard.find("{http://jabber.org/protocol/chatstates}composing") is not None
    await romeo.send_stanza(f"<message to='{juliet.jid}' type='chat'>"
                            "<paused xmlns='http://jabber.org/protocol/chatstates'/></message>")
    assert (await socket.wait("typing"))["state"] == "paused"


PAYLOADS = [
    "<x xmlns='urn:example:a'/>",
    "<x xmlns='urn:example:a' b='1' c='&quot;&amp;&lt;'>te&lt;xt<y/><z xmlns='urn:example:b'/></x>",
    "<x xmlns='urn:example:a' xmlns:p='urn:example:b' p:c='1'><p:y/></x>",
    "<ü xmlns='urn:example:ü'>𝄞</ü>",
    "<x xmlns='urn:example:a' xml:lang='de'> \n\t </x>",
    "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'><key rid='2'>AAAA</key>"
    "</header><payload>BBBB</payload></encrypted>",
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_nobody_knows_survives_both_ways(user, raw, payload):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    wanted = ElementTree.canonicalize(payload, rewrite_prefixes=True)
    await romeo.send_stanza(f"<message to='{juliet.jid}' id='r1'><body>x</body>{payload}"
                            "</message>")
    (came,) = (await socket.body("x"))["xml"]
    assert ElementTree.canonicalize(came, rewrite_prefixes=True) == wanted
    # What came can be sent on as it is.
    await juliet.send(romeo.jid, "y", xml=[came])
    message = await romeo.body("y")
    (element,) = [child for child in message
                  if child.tag not in (f"{{{CLIENT}}}body", "{urn:xmpp:sid:0}stanza-id")]
    element.tail = None
    sent = ElementTree.canonicalize(ElementTree.tostring(element, "unicode"),
                                    rewrite_prefixes=True)
    assert sent == wanted
    await socket.say({"type": "presence", "to": romeo.jid, "xml": [payload]})
    presence = await romeo.expect(f"{{{CLIENT}}}presence")
    assert len(presence) == 1


def allowed():
    """Every character that XML can carry, in pieces that fit into a message."""
    characters = [chr(code) for first, last in (
        (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)) for code in range(first, last + 1)]
    characters = ["\t", "\n", "\r", *characters]
    return ["".join(characters[at:at + 16_384]) for at in range(0, len(characters), 16_384)]


async def test_all_of_unicode_goes_both_ways(user, raw):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    for number, text in enumerate(allowed()):
        await romeo.message(juliet.jid, escape(text, {"\r": "&#13;"}), f"r{number}")
        heard = await socket.wait("message")
        assert heard["body"] == text, f"into JSON, piece {number}"
        # As it is, or with an escape for each.
        await socket.say(json.dumps({"type": "message", "to": romeo.jid, "body": text},
                                    ensure_ascii=number % 2 == 0))
        sent = await socket.wait("sent")
        assert sent["body"] == text
        message = await romeo.expect(f"{{{CLIENT}}}message")
        assert message.findtext(f"{{{CLIENT}}}body") == text, f"out of JSON, piece {number}"


@pytest.mark.parametrize("where", ["away", "there", "reading"])
async def test_what_is_said_to_be_stored_is(new_server, server_options, user, where):
    """The server is killed behind the last answer. Romeo gets all of it, in order, wherever he was;
    what he had comes under the same name.
    """
    server = new_server(options=server_options).start()
    juliet, account = await user(place=server), server.account("romeo")
    romeo = None if where == "away" else await user(account, place=server)
    before = await romeo.socket() if where == "reading" else None
    names = {}
    for number in range(20):
        answer = await juliet.send(account.jid, f"{number}", f"m{number}")
        assert answer["state"] == "stored"
        if before and number < 10:
            names[number] = (await before.body(f"{number}"))["stanza_id"]
    server.kill()
    server.start()
    for gone in (juliet, romeo):
        if gone:
            gone.token = None
    back = await user(account, place=server)
    reader = await back.socket(back.cursor)
    await reader.body("19")
    assert reader.bodies("message") == [f"{number}" for number in range(20)]
    again = [event["stanza_id"] for event in reader.all if event["type"] == "message"]
    assert all(again[number] == name for number, name in names.items())
    await back.leave()
    assert server.stop() == 0


async def test_topics_reach_all_who_subscribed(server, user):
    """Of any account, over any reader, in order, in one line; and nobody else."""
    people = [await user() for _ in range(4)]
    readers = [await people[0].socket(people[0].cursor), await people[1].stream(people[1].cursor),
               await people[2].polls(people[2].cursor), await people[3].socket(people[3].cursor)]
    for one in people[:3]:
        await one.do("POST", "/v1/requests", {"type": "subscribe", "topic": TOPIC}, 204)
    publisher = Api(server.http)

    async def publish(talk, *bodies):
        for body in bodies:
            answer = await talk.ask(
                publisher.request("POST", f"/v1/topics/{TOPIC}", body, token=KEY))
            assert answer.status == 202 and not answer.body, answer

    values = [{"number": number, "text": "\u2028 ]]>", "more": [None, 1.5, True]}
              for number in range(20)]
    # Over one connection, as the order is kept there.
    async with Talk(server.http) as talk:
        await publish(talk, *(json.dumps(value, indent=4) for value in values))
    for reader in readers[:3]:
        await reader.wait("topic", lambda event: event["data"] == values[-1])
        topics = [event for event in reader.all if event["type"] == "topic"]
        assert [event["data"] for event in topics] == values
        assert {event["topic"] for event in topics} == {TOPIC}
    await people[0].do("POST", "/v1/requests", {"type": "unsubscribe", "topic": TOPIC}, 204)
    async with Talk(server.http) as talk:
        await publish(talk, "null")
    await readers[1].wait("topic", lambda event: event["data"] is None)
    # A round trip: what was published before would have come before this.
    for one, reader in ((people[0], readers[0]), (people[3], readers[3])):
        await one.send(one.account.jid, "to myself")
        await reader.body("to myself")
    assert all(event.get("data", 0) is not None for event in readers[0].all)
    assert not [event for event in readers[3].all if event["type"] == "topic"]
    for token, body, refusal in ((KEY[:-1], "1", (404, "no-topic")), (None, "1", (401, "no-token")),
                                 (people[0].token, "1", (404, "no-topic")),
                                 (KEY, "", (400, "not-json")), (KEY, "{} {}", (400, "not-json")),
                                 (KEY, '"' + "x" * 16_384 + '"', (413, "too-large"))):
        answer = await publisher.ask("POST", f"/v1/topics/{TOPIC}", body, token=token)
        assert problem(answer) == refusal
    answer = await publisher.ask("POST", "/v1/topics/gossip", "1", token=KEY)
    assert problem(answer) == (404, "no-topic")


async def test_a_language_is_said(user, raw):
    juliet, romeo = await user(lang="it"), await raw()
    await juliet.send(romeo.jid, "Ahimè")
    message = await romeo.body("Ahimè")
    assert message.get("{http://www.w3.org/XML/1998/namespace}lang") == "it"


# Rosters and presence.

async def test_rosters_are_edited_both_ways(server, user, slix):
    """What JSON writes, slixmpp is pushed, and back."""
    account = server.account("juliet")
    juliet, desk = await user(account), await slix(account, "desk")
    socket = await juliet.socket()
    await socket.wait("roster", lambda event: event.get("whole"))
    contact = f"nurse@{server.domain}"

    await juliet.do("POST", "/v1/roster", {"jid": contact, "name": "Nurse", "groups": ["House"]},
                    204)
    pushed = await desk.wait("roster_update", lambda r: contact in map(str, r["roster"]["items"]))
    item = next(i for jid, i in pushed["roster"]["items"].items() if str(jid) == contact)
    assert (item["name"], item["groups"]) == ("Nurse", ["House"])
    assert (await socket.wait("roster"))["items"] == [
        {"jid": contact, "name": "Nurse", "subscription": "none", "groups": ["House"]}]

    await desk.update_roster(contact, name="Angelica", groups=["House", "<&>"])
    (item,) = (await socket.wait("roster"))["items"]
    assert (item["name"], sorted(item["groups"])) == ("Angelica", ["<&>", "House"])
    (item,) = (await juliet.do("GET", "/v1/roster"))["items"]
    assert item["name"] == "Angelica"

    await juliet.do("DELETE", "/v1/roster", query={"jid": contact}, status=204)
    (item,) = (await socket.wait("roster"))["items"]
    assert (item["jid"], item["subscription"]) == (contact, "remove")
    await desk.wait("roster_update", lambda r: "remove" in str(r))
    assert await juliet.do("GET", "/v1/roster") == {"items": []}
    answer = await juliet.ask("DELETE", "/v1/roster", token=juliet.token, query={"jid": contact})
    assert problem(answer) == (404, "item-not-found")


async def test_presence_and_subscriptions_go_both_ways(user, slix):
    juliet, romeo = await user(), await slix()
    socket = await settle(await juliet.socket())
    await befriend(juliet, romeo, socket)
    full = str(romeo.boundjid)

    romeo.send_presence(pshow="away", pstatus="at the mask", ppriority=7)
    heard = await socket.wait("presence", lambda event: event["show"] == "away")
    assert (heard["from"], heard["status"], heard["priority"]) == (full, "at the mask", 7)
    await juliet.do("POST", "/v1/presence", {"show": "away", "status": "on the balcony"}, 204)
    away = await romeo.wait("presence_away", lambda p: p["from"] == juliet.jid)
    assert away["status"] == "on the balcony"

    # A tab that comes later asks who is there.
    (present,) = (await juliet.do("GET", "/v1/presence"))["presences"]
    assert (present["from"], present["show"]) == (full, "away")
    (item,) = (await juliet.do("GET", "/v1/roster"))["items"]
    assert (item["jid"], item["subscription"]) == (romeo.boundjid.bare, "both")

    await juliet.do("POST", "/v1/presence", {"show": "offline"}, 204)
    await romeo.wait("presence_unavailable", lambda p: p["from"] == juliet.jid)
    await juliet.do("POST", "/v1/presence", {}, 204)
    await romeo.wait("presence_available", lambda p: p["from"] == juliet.jid)

    await romeo.leave()
    await socket.wait("presence", lambda event: (event["from"], event["show"]) == (full, "offline"))
    assert (await juliet.do("GET", "/v1/presence"))["presences"] == []

    await juliet.do("POST", "/v1/subscriptions",
                    {"to": romeo.boundjid.bare, "action": "unsubscribe"}, 204)
    (item,) = (await socket.wait("roster", lambda event: event["items"][0]["subscription"]
                                 == "from"))["items"]
    assert item["jid"] == romeo.boundjid.bare


async def test_a_silent_session_is_not_seen(user, slix):
    juliet, romeo = await user(), await slix()
    socket = await settle(await juliet.socket())
    await befriend(juliet, romeo, socket)
    hidden = await user(juliet.account, resource="hidden", silent=True)
    assert await hidden.do("GET", "/v1/roster")
    await hidden.do("POST", "/v1/presence", {"show": "away"}, 204)
    # She is seen when she says so, and was not before.
    await romeo.wait("presence_away", lambda p: p["from"] == hidden.jid)
    assert romeo.count("presence_available", lambda p: p["from"] == hidden.jid) == 0


# Everybody at once.

async def test_one_account_on_six_transports(server, user, slix, web, people):
    """TCP, XMPP over WebSocket, BOSH, and JSON over WebSocket, event stream and long poll: each
    sees what all get, and what each of the others sends.
    """
    account = server.account("juliet")
    romeo = await slix(server.account("romeo"), "tcp")
    desk = await slix(account, "desk")
    await desk.plugin["xep_0280"].enable()
    phone = await web(account, resource="phone")
    await phone.iq("set", f"<enable xmlns='{CARBONS}'/>")
    bosh = Bosh(server, account, "bosh")
    await people.enter_async_context(bosh)
    await bosh.login()
    enabled = await bosh.ask(f"<iq xmlns='{CLIENT}' type='set' id='c'><enable xmlns='{CARBONS}'/>"
                             "</iq>")
    await bosh.until(enabled, f"{{{CLIENT}}}iq")
    users = {kind: await user(account, resource=kind) for kind in READERS}
    readers = {kind: await getattr(one, kind)(one.cursor) for kind, one in users.items()}

    elements, owed = [], []

    async def see_at(name, text):
        if name in readers:
            await readers[name].next(lambda event: text in (
                event.get("body"), event.get("message", {}).get("body")))
        elif name == "desk":
            await wait_any(desk, text)
        elif name == "phone":
            await phone.expect(where=lambda element: in_it(element, text))
        else:
            while not any(in_it(element, text) for element in elements):
                # The answer to what it sent last comes with what it hears next.
                answer = await (bosh.hear() if owed else bosh.ask())
                owed.clear()
                elements.extend(answer.element)

    senders = {
        "desk": lambda text: desk.send_message(romeo.boundjid, text, mtype="chat"),
        "phone": lambda text: phone.message(romeo.boundjid, text, "p1"),
        "bosh": lambda text: bosh.send(bosh.message(romeo.boundjid, text)),
        **{kind: lambda text, one=one: one.send(romeo.boundjid, text)
           for kind, one in users.items()},
    }
    romeo.send_message(account.jid, "to all of you", mtype="chat")
    for name in senders:
        await see_at(name, "to all of you")
    for name, send in senders.items():
        text = f"from {name}"
        result = send(text)
        if asyncio.iscoroutine(result):
            await result
        await romeo.body(text)
        if name == "bosh":
            owed.append(text)
        for other in senders:
            if other != name:
                await see_at(other, text)


def in_it(element, text):
    return any(body.text == text for body in element.iter(f"{{{CLIENT}}}body"))


async def wait_any(client, text):
    """As a message of one's own, or as a copy of either kind."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while loop.time() < deadline:
        for index, (name, value) in enumerate(client.heard):
            if name in ("message", "carbon_received", "carbon_sent") and in_it(value.xml, text):
                del client.heard[index]
                return
        client._fresh.clear()
        await asyncio.wait_for(client._fresh.wait(), deadline - loop.time())


async def test_what_others_ask_is_answered_by_the_session(user, raw):
    """Pings are answered, other requests refused, and a roster of a stranger is not believed."""
    juliet, mallory = await user(), await raw()
    socket = await settle(await juliet.socket())
    await mallory.iq("get", "<ping xmlns='urn:xmpp:ping'/>", to=juliet.jid)
    for kind, payload in (("get", "<odd xmlns='urn:example:odd'/>"),
                          ("set", "<query xmlns='jabber:iq:roster'><item jid='evil@evil.test'/>"
                                  "</query>")):
        answer = await mallory.iq(kind, payload, to=juliet.jid, expect="error")
        assert condition(answer) == "service-unavailable"
    await say(mallory, juliet.jid, ["and now?"])
    await socket.body("and now?")
    assert [event["type"] for event in socket.all].count("roster") == 1


async def test_carbons_go_both_ways(user, raw):
    account = (await user(resource="first")).account
    juliet, romeo = await user(account, resource="second"), await raw()
    tablet = await raw(account, "tablet")
    await tablet.iq("set", f"<enable xmlns='{CARBONS}'/>")
    socket = await settle(await juliet.socket())
    await tablet.message(romeo.jid, "from the tablet", "t1")
    carbon = await socket.wait("carbon")
    assert (carbon["direction"], carbon["message"]["body"], carbon["message"]["from"]) == (
        "sent", "from the tablet", tablet.jid)
    await juliet.send(romeo.jid, "from JSON", "j1")
    copy = await tablet.expect(f"{{{CLIENT}}}message")
    inner = copy.find(f"{{{CARBONS}}}sent//{{{CLIENT}}}message")
    assert (inner.findtext(f"{{{CLIENT}}}body"), inner.get("from")) == ("from JSON", juliet.jid)
    await say(romeo, tablet.jid, ["to the tablet"])
    carbon = await socket.wait("carbon")
    assert (carbon["direction"], carbon["message"]["body"]) == ("received", "to the tablet")
