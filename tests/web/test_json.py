"""People who speak JSON among people who speak XMPP: nobody notices the difference."""

import asyncio
import json
import os
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from clients.bosh import Bosh
from clients.cable import Cable
from clients.chat import Api, User, page, problem
from clients.http import Talk
from clients.people import raw, say, settle, user  # noqa: F401
from harness.raw import CLIENT, DEADLINE, condition

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
CARBONS = "urn:xmpp:carbons:2"
RECEIPTS = "urn:xmpp:receipts"
TOPIC, KEY = "weather", "sesame-open-sesame"
READERS = ["socket", "stream", "polls"]


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"limits.json_poll_timeout": 2, "http.topics": [f"{TOPIC}:{KEY}"]}


@pytest.fixture
def hasty(new_server, server_options):
    """A server with a short grace time, for those who wait for its end."""
    server = new_server(options=server_options | {"limits.json_grace": 1}).start()
    yield server
    assert server.panics() == 0 and server.stop() == 0, server.log_tail()


async def befriend(juliet, romeo, reader):
    """Juliet speaks JSON, Romeo is slixmpp; each asks, each agrees, and they see each other."""
    bare, his = juliet.account.jid, romeo.boundjid.bare
    await juliet.do("POST", "/v1/subscriptions", {"to": his, "action": "subscribe"}, 204)
    await romeo.wait("presence_subscribe", lambda p: p["from"].bare == bare)
    romeo.send_presence(pto=bare, ptype="subscribed")
    await reader.wait("subscription", lambda event: event["action"] == "subscribed")
    romeo.send_presence_subscription(bare)
    await reader.wait("subscription", lambda event: event["action"] == "subscribe")
    await juliet.do("POST", "/v1/subscriptions", {"to": his, "action": "subscribed"}, 204)
    await romeo.wait("presence_subscribed", lambda p: p["from"].bare == bare)
    await romeo.wait("presence_available", lambda p: p["from"] == juliet.jid)
    await reader.wait("presence", lambda event: event["from"] == str(romeo.boundjid))


# Sessions.

async def test_a_session_begins_with_a_password(server, user):
    juliet = await user(resource="balcony")
    assert juliet.jid == f"{juliet.account.jid}/balcony"
    assert await juliet.do("GET", "/v1/session") == {
        "jid": juliet.jid, "cursor": await juliet.now()}
    epoch = juliet.cursor.partition("-")[0]
    assert juliet.cursor == f"{epoch}-0"
    await juliet.do("DELETE", "/v1/session", status=204)
    answer = await juliet.ask("GET", "/v1/session", token=juliet.token)
    assert problem(answer) == (404, "no-session")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
async def test_a_session_begins_with_scram(server, people, mechanism):
    """The client has a proof that the server knows the password too."""
    juliet = User(server, server.account("juliet"))
    people.push_async_callback(juliet.leave)
    answer, verifier = await juliet.login_by_scram(mechanism=mechanism)
    assert answer.status == 201, answer
    juliet.opened(answer)
    assert json.loads(answer.body)["success"] == verifier
    await (await juliet.socket()).wait("roster")


async def test_a_wrong_password_is_refused(server):
    juliet = User(server, server.account("juliet"))
    answer = await juliet.ask("POST", "/v1/session", juliet.opening(password="rosaline"))
    assert problem(answer) == (401, "not-authorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    answer, _ = await juliet.login_by_scram("rosaline")
    assert problem(answer) == (401, "not-authorized")


async def test_who_is_there_and_who_is_not_are_refused_alike(server):
    juliet = User(server, server.account("juliet"))
    answers = []
    for name in (juliet.account.jid, f"nobody@{server.domain}"):
        answers.append(await juliet.ask("POST", "/v1/session", {"user": name, "password": "x"}))
    assert answers[0].body == answers[1].body and answers[0].headers == answers[1].headers


async def test_scram_of_one_user_is_no_login_of_another(server):
    """Who names one user and proves to be another gets neither session."""
    juliet, mallory = (User(server, server.account(name)) for name in ("juliet", "mallory"))
    mallory.opening = lambda **opening: User.opening(juliet, **opening)
    answer, _ = await mallory.login_by_scram()
    assert problem(answer) == (401, "wrong-account")


async def test_two_sessions_of_one_user_are_two(user, raw):
    """Events, cursors and ends of one are not those of the other."""
    juliet = await user(resource="first")
    second = await user(juliet.account, resource="second")
    assert juliet.token != second.token
    mine, hers = await settle(await juliet.socket()), await settle(await second.socket())
    romeo = await raw()
    await say(romeo, juliet.jid, ["for the first"])
    await say(romeo, second.jid, ["for the second"])
    await mine.body("for the first")
    await hers.body("for the second")
    assert "for the second" not in mine.bodies("message")
    assert "for the first" not in hers.bodies("message")
    answer = await second.poll(await juliet.now())
    assert page(answer)[0][0]["type"] == "gap", "a cursor of another session"
    await juliet.do("POST", "/v1/requests", {"type": "close"}, 204)
    assert (await mine.wait("closed"))["problem"]["code"] == "no-session"
    assert (await mine.ended()).code == 1000
    await second.do("POST", "/v1/requests", {"type": "ping"}, 204)


async def test_the_token_counts_not_the_connection(server, user):
    """One connection carries requests of several sessions and of none."""
    one, two = await user(), await user()
    async with Talk(server.http) as talk:
        for who, jid in ((one, one.jid), (two, two.jid), (one, one.jid)):
            answer = await talk.ask(who.request("GET", "/v1/session", token=who.token))
            assert json.loads(answer.body)["jid"] == jid
        answer = await talk.ask(one.request("GET", "/v1/session"))
        assert problem(answer) == (401, "no-token")


# Readers.

async def test_a_poll_is_held_until_something_comes(user, raw):
    juliet = await user()
    cursor = (await settle(await juliet.socket())).last
    romeo = await raw()
    for conditional in (False, True):
        poll = asyncio.create_task(juliet.poll(cursor, conditional))
        # Everything that was asked for before is answered when this is.
        await juliet.do("POST", "/v1/requests", {"type": "ping"})
        await say(romeo, juliet.jid, ["wake up"])
        events, cursor = page(await poll)
        assert [event["body"] for event in events] == ["wake up"]


async def test_a_poll_without_news_is_answered_all_the_same(user):
    juliet = await user()
    cursor = (await settle(await juliet.socket())).last
    assert page(await juliet.poll(cursor)) == ([], cursor)
    answer = await juliet.poll(cursor, conditional=True)
    assert (answer.status, answer.headers["etag"]) == (304, f'"{cursor}"')


async def test_a_stream_goes_on_after_the_network_was_away(server, user, raw):
    """The cable is pulled again and again; with `Last-Event-ID` nothing is missing and nothing
    comes twice.
    """
    juliet = await user()
    cursor = (await settle(await juliet.socket())).last
    romeo = await raw()
    heard, texts = [], [f"{number}" for number in range(60)]
    async with Cable(lambda: server.http) as cable:
        for turn in range(6):
            stream = await juliet.stream(seen=cursor, address=cable.address)
            assert (await stream.begin())["type"] == "ready"
            mine = texts[turn * 10:turn * 10 + 10]
            await say(romeo, juliet.jid, mine[:5], len(heard))
            await stream.body(mine[2 if turn % 2 else 4])
            cable.hold("down")
            await say(romeo, juliet.jid, mine[5:], len(heard) + 5)
            cable.cut(server_notices=turn % 3 != 0)
            await stream.ended()
            heard += stream.bodies("message")
            cursor = stream.last
        last = await juliet.stream(seen=cursor, address=cable.address)
        await last.body(texts[-1])
        heard += last.bodies("message")
    assert heard == texts


@pytest.mark.parametrize("kind", READERS)
async def test_what_is_kept_is_replayed_exactly(user, raw, kind):
    """From every cursor, what is behind it, in order."""
    juliet = await user()
    first = await settle(await juliet.socket())
    romeo = await raw()
    await say(romeo, juliet.jid, [f"{number}" for number in range(10)])
    await juliet.send(romeo.jid, "and this")
    await first.wait("sent")
    events = [event for event in first.all if event["type"] != "ready"]
    cursors = [juliet.cursor, *(event["id"] for event in events)]
    for number, cursor in enumerate(cursors[:-1]):
        reader = await getattr(juliet, kind)(cursor)
        await reader.wait("sent")
        assert [e for e in reader.all if e["type"] != "ready"] == events[number:]
        await reader.close()
    # Who has no cursor gets all of it; who has the last one, nothing but where it is.
    everything = await getattr(juliet, kind)()
    await everything.wait("sent")
    assert [e for e in everything.all if e["type"] != "ready"] == events
    if kind != "polls":
        nothing = await getattr(juliet, kind)(cursors[-1])
        assert (await nothing.begin())["id"] == cursors[-1]


@pytest.mark.parametrize("kind", READERS)
async def test_a_gap_is_said(user, raw, kind):
    """256 events are kept; whoever lacks an older one is told so, and goes on without a hole."""
    juliet = await user()
    first = await settle(await juliet.socket())
    romeo = await raw()
    await say(romeo, juliet.jid, [f"{number}" for number in range(300)])
    await first.body("299")
    stranger = "ffffffff-3" if not juliet.cursor.startswith("ffffffff") else "0-3"
    epoch, _, offset = first.last.partition("-")
    for cursor in (juliet.cursor, stranger, f"{epoch}-{int(offset) + 5}"):
        reader = await getattr(juliet, kind)(cursor)
        gap = await reader.begin()
        assert (gap["type"], gap["after"]) == ("gap", cursor)
        await reader.body("299")
        missed = int(gap["id"].partition("-")[2])
        assert len(reader.all) - 1 == int(offset) - missed <= 256
        texts = reader.bodies("message")
        assert texts == [f"{number}" for number in range(300)][-len(texts):]
        await reader.close()


async def test_tabs_share_a_session(user, raw):
    """Each sees all, also what another one sent, in one order."""
    juliet = await user()
    romeo = await raw()
    tabs = [await juliet.socket(juliet.cursor), await juliet.stream(juliet.cursor),
            await juliet.socket(juliet.cursor, by="subprotocol"),
            await juliet.polls(juliet.cursor)]
    for number in range(5):
        await romeo.message(juliet.jid, f"from Romeo {number}", f"r{number}")
        await tabs[number % 3 and 2].say({
            "type": "message", "to": romeo.jid, "message_id": f"s{number}", "body": f"s {number}"})
        await juliet.send(romeo.jid, f"p {number}", f"p{number}")
    await romeo.ping()
    for tab in tabs:
        await tab.body("from Romeo 4")
        await tab.body("s 4", "sent")
        await tab.body("p 4", "sent")
    stories = [[event for event in tab.all if event["type"] != "ready"] for tab in tabs]
    longest = max(stories, key=len)
    assert all(story == longest[:len(story)] for story in stories)
    assert tabs[0].bodies("message") == [f"from Romeo {number}" for number in range(5)]
    assert [text for text in tabs[0].bodies("sent") if text[0] == "p"] == [
        f"p {number}" for number in range(5)]
    mine = {event["type"] for event in tabs[1].all}
    assert "answer" not in mine, "answers are for who asked"


async def test_a_reader_too_many_is_refused(user, raw):
    """The others do not notice, and when one goes there is room."""
    juliet = await user()
    readers = [await juliet.stream(juliet.cursor) for _ in range(31)]
    readers.append(await juliet.socket(juliet.cursor))
    for reader in readers:
        await reader.begin()
    late = await juliet.stream()
    assert (late.head.status, late.head.kind) == (429, "application/problem+json")
    assert problem(await juliet.poll()) == (429, "too-many")
    romeo = await raw()
    await say(romeo, juliet.jid, ["to all of you"])
    for reader in readers:
        await reader.body("to all of you")
    await readers[0].close()

    # The server has to hear of the closed connection first.
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while (reader := await juliet.stream()).head.status == 429:
        assert asyncio.get_running_loop().time() < deadline, "there is no room after one has gone"
        await reader.close()
    await reader.body("to all of you")


@pytest.mark.parametrize("kind", READERS)
async def test_readers_that_go_make_room(user, kind):
    """A tab that is closed or loaded again says so by the end of its connection."""
    juliet = await user()
    cursor = (await settle(await juliet.socket())).last
    for _ in range(40):
        if kind == "polls":
            async with Talk(juliet.address) as talk:
                await talk.send(juliet.request("GET", "/v1/events", token=juliet.token,
                                               query={"cursor": cursor}))
                await juliet.do("POST", "/v1/requests", {"type": "ping"})
        else:
            reader = await getattr(juliet, kind)(cursor)
            await reader.begin()
            await reader.close()
        await juliet.do("POST", "/v1/requests", {"type": "ping"})
    assert page(await juliet.poll(cursor)) == ([], cursor)


async def test_requests_behind_a_held_poll_wait_for_it(server, user, raw):
    """HTTP answers in order. What is pipelined costs the session nothing, and all of it comes."""
    juliet = await user()
    cursor = (await settle(await juliet.socket())).last
    romeo = await raw()
    async with Talk(server.http) as talk:
        ping = juliet.request("POST", "/v1/requests", {"type": "ping"}, token=juliet.token)
        await talk.send(juliet.request("GET", "/v1/events", token=juliet.token,
                                       query={"cursor": cursor}))
        await talk.send(ping * 100)
        await talk.send(juliet.request("GET", "/v1/session", token=juliet.token))
        await juliet.do("POST", "/v1/requests", {"type": "ping"})
        await say(romeo, juliet.jid, ["at last"])
        events, _ = page(await talk.answer())
        assert [event["body"] for event in events] == ["at last"]
        for _ in range(100):
            assert (await talk.answer()).status == 204
        assert json.loads((await talk.answer()).body)["jid"] == juliet.jid


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


async def test_what_is_said_to_be_stored_is(new_server, server_options, user):
    """The server is killed behind the last answer; the one who was away gets all of it, in order.
    """
    server = new_server(options=server_options).start()
    juliet, romeo = await user(place=server), server.account("romeo")
    for number in range(20):
        answer = await juliet.send(romeo.jid, f"{number}", f"m{number}")
        assert answer["state"] == "stored"
    server.kill()
    server.start()
    juliet.token = None
    back = await user(romeo, place=server)
    reader = await back.socket(back.cursor)
    await reader.body("19")
    assert reader.bodies("message") == [f"{number}" for number in range(20)]
    await back.leave()
    assert server.stop() == 0


@pytest.mark.parametrize("kind", READERS)
async def test_a_backlog_waits_whole(user, raw, kind):
    """More than a session keeps for a replay: while nobody reads, the stream has the rest."""
    juliet, romeo = await user(), await raw()
    texts = [f"{number} {'x' * 1_000}" for number in range(400)]
    await say(romeo, juliet.jid, texts)
    reader = await getattr(juliet, kind)(juliet.cursor)
    await reader.body(texts[-1])
    assert reader.bodies("message") == texts


async def test_a_language_is_said(user, raw):
    juliet, romeo = await user(lang="it"), await raw()
    await juliet.send(romeo.jid, "Ahimè")
    message = await romeo.body("Ahimè")
    assert message.get("{http://www.w3.org/XML/1998/namespace}lang") == "it"


async def test_a_name_in_capitals_is_the_same(server, user):
    account = server.account("juliet")
    juliet = await user(account, user=account.jid.upper())
    assert juliet.jid == f"{account.jid}/tab"
    await settle(await juliet.socket())


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


# The end of sessions.

@pytest.mark.parametrize("kind", READERS)
async def test_within_the_grace_time_nobody_notices(user, raw, slix, kind):
    juliet, romeo = await user(), await slix()
    socket = await settle(await juliet.socket())
    await befriend(juliet, romeo, socket)
    friend = await raw()
    await socket.close()
    cursor, heard = socket.last, []
    for turn in range(3):
        reader = await getattr(juliet, kind)(cursor)
        await say(friend, juliet.jid, [f"{turn} while she reads"])
        await reader.body(f"{turn} while she reads")
        reader.cut()
        await reader.ended()
        await say(friend, juliet.jid, [f"{turn} while she is away"])
        heard += reader.bodies("message")
        cursor = reader.last
    last = await getattr(juliet, kind)(cursor)
    await last.body("2 while she is away")
    heard += last.bodies("message")
    assert heard == [f"{turn} while she {what}" for turn in range(3)
                     for what in ("reads", "is away")]
    # Presence comes in order: there was none between this and the first.
    await juliet.do("POST", "/v1/presence", {"show": "away"}, 204)
    await romeo.wait("presence_away", lambda p: p["from"] == juliet.jid)
    assert romeo.count("presence_unavailable") == 0


async def test_after_the_grace_time_she_is_gone_and_nothing_is_lost(hasty, user, raw):
    """What nobody read in time, and what came later, comes with the next session."""
    account = hasty.account("juliet")
    juliet = await user(account, place=hasty)
    socket = await settle(await juliet.socket())
    romeo = await raw(place=hasty)
    await juliet.do("POST", "/v1/presence", {"to": romeo.jid}, 204)
    await say(romeo, account.jid, ["she read this"])
    read = await socket.body("she read this")
    await socket.ask("ack", cursor=read["id"])
    await socket.close()
    await say(romeo, account.jid, ["nobody read this"])
    gone = await romeo.expect(f"{{{CLIENT}}}presence", where=lambda p: p.get("from") == juliet.jid
                              and p.get("type") == "unavailable")
    assert gone is not None
    assert problem(await juliet.poll()) == (404, "no-session")
    await say(romeo, account.jid, ["she was away"])

    again = await user(account, place=hasty)
    reader = await again.socket(again.cursor)
    late = await reader.body("she was away")
    assert reader.bodies("message") == ["nobody read this", "she was away"]
    assert late["delay"]["stamp"] and late["stanza_id"]["by"] == account.jid


@pytest.mark.parametrize("end", ["logs out", "is conflicted"])
async def test_what_was_not_confirmed_comes_again_under_its_own_name(user, raw, end):
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    await say(romeo, juliet.account.jid, ["confirmed", "read", "unread"])
    confirmed = await socket.body("confirmed")
    read = await socket.body("read")
    await socket.ask("ack", cursor=confirmed["id"])
    if end == "logs out":
        await juliet.do("DELETE", "/v1/session", status=204)
    else:
        await raw(juliet.account, juliet.resource, presence=False)
    await socket.wait("closed")
    await socket.ended()
    if end == "is conflicted":
        return  # the one who came has it
    again = await user(juliet.account)
    reader = await again.socket(again.cursor)
    await reader.body("unread")
    came = {event["body"]: event for event in reader.all if event["type"] == "message"}
    assert list(came) == ["read", "unread"]
    assert came["read"]["stanza_id"] == read["stanza_id"]


async def test_a_restart_of_the_server_is_survived(new_server, server_options, user, raw):
    """Readers are told, requests do not find the session, and what was not confirmed comes."""
    server = new_server(options=server_options).start()
    account = server.account("juliet")
    juliet = await user(account, place=server)
    socket = await settle(await juliet.socket())
    stream = await juliet.stream(juliet.cursor)
    romeo = await raw(place=server)
    await say(romeo, account.jid, ["before"])
    before = await socket.body("before")
    await stream.body("before")
    assert await asyncio.to_thread(server.stop) == 0
    for reader in (socket, stream):
        assert (await reader.wait("closed"))["problem"]["code"] == "stopping"
        await reader.ended()
    server.start()
    juliet.address = server.http
    assert problem(await juliet.ask("GET", "/v1/session", token=juliet.token)) == (
        404, "no-session")
    again = await user(account, place=server)
    came = await (await again.socket(again.cursor)).body("before")
    assert came["stanza_id"] == before["stanza_id"]
    await again.leave()
    assert server.stop() == 0


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


async def test_sessions_of_an_account_are_bounded(new_server, server_options, user):
    """The one too many is told so, and the others live."""
    server = new_server(options=server_options | {"limits.sessions_per_account_max": 3}).start()
    account = server.account("juliet")
    sessions = [await user(account, resource=f"tab {n}", place=server) for n in range(3)]
    late = User(server, account, "late")
    answer = await late.ask("POST", "/v1/session", late.opening())
    assert problem(answer) == (503, "resource-constraint")
    await sessions[0].do("DELETE", "/v1/session", status=204)
    await user(account, resource="late", place=server)
    for session in sessions[1:]:
        await session.do("POST", "/v1/requests", {"type": "ping"}, 204)
    for session in sessions:
        await session.leave()
    assert server.stop() == 0


async def test_a_name_that_is_bound_anew_ends_the_session(user):
    """The last one who wants a resource has it; readers of the other are told."""
    juliet = await user()
    readers = [await juliet.socket(), await juliet.stream()]
    for reader in readers:
        await settle(reader)
    poll = asyncio.create_task(juliet.poll(readers[0].last))
    await juliet.do("POST", "/v1/requests", {"type": "ping"})
    again = await user(juliet.account)
    assert again.jid == juliet.jid and again.token != juliet.token
    assert problem(await poll) == (409, "conflict")
    for reader in readers:
        assert (await reader.wait("closed"))["problem"]["code"] == "conflict"
        await reader.ended()
