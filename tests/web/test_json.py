"""Sessions of the JSON protocol and their readers: how they begin, what they hear, how they end."""

import asyncio
import json
import os

import pytest

from clients.cable import Cable
from clients.chat import User, page, problem
from clients.http import Talk
from clients.people import befriend, raw, say, settle, user  # noqa: F401
from harness.raw import CLIENT, DEADLINE

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
READERS = ["socket", "stream", "polls"]


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"limits.json_poll_timeout": 2}


@pytest.fixture
def hasty(new_server, server_options):
    """A server with a short grace time, for those who wait for its end."""
    server = new_server(options=server_options | {"limits.json_grace": 1}).start()
    yield server
    assert server.panics() == 0 and server.stop() == 0, server.log_tail()


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


async def test_sessions_of_an_account_are_bounded(new_server, server_options, user):
    """The one too many is told so, and the others live."""
    server = new_server(options=server_options | {"limits.sessions_per_account_max": 3}).start()
    account = server.account("juliet")
    sessions = [await user(account, resource=f"tab {n}", place=server) for n in range(3)]
    for session in sessions:
        await (await session.stream()).begin()
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


async def test_a_name_in_capitals_is_the_same(server, user):
    account = server.account("juliet")
    juliet = await user(account, user=account.jid.upper())
    assert juliet.jid == f"{account.jid}/tab"
    await settle(await juliet.socket())


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
    """1,024 events are kept; whoever lacks an older one is told so, and goes on without a hole."""
    juliet = await user()
    first = await settle(await juliet.socket())
    romeo = await raw()
    for start in range(0, 1_200, 100):
        texts = [f"{number}" for number in range(start, start + 100)]
        await say(romeo, juliet.jid, texts, start)
        await first.body(texts[-1])
    stranger = "ffffffff-3" if not juliet.cursor.startswith("ffffffff") else "0-3"
    epoch, _, offset = first.last.partition("-")
    for cursor in (juliet.cursor, stranger, f"{epoch}-{int(offset) + 5}"):
        reader = await getattr(juliet, kind)(cursor)
        gap = await reader.begin()
        assert (gap["type"], gap["after"]) == ("gap", cursor)
        await reader.body("1199")
        missed = int(gap["id"].partition("-")[2])
        assert len(reader.all) - 1 == int(offset) - missed <= 1_024
        texts = reader.bodies("message")
        assert texts == [f"{number}" for number in range(1_200)][-len(texts):]
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


@pytest.mark.parametrize("kind", READERS)
async def test_a_backlog_waits_whole(user, raw, kind):
    """More than a session keeps for a replay: while nobody reads, the stream has the rest."""
    juliet, romeo = await user(), await raw()
    texts = [f"{number} {'x' * 1_000}" for number in range(400)]
    await say(romeo, juliet.jid, texts)
    reader = await getattr(juliet, kind)(juliet.cursor)
    await reader.body(texts[-1])
    assert reader.bodies("message") == texts


async def test_who_does_not_read_is_not_served(user, raw):
    """What is asked for would be told behind what nobody reads; when somebody does, all is well."""
    juliet, romeo = await user(), await raw()
    await (await settle(await juliet.socket())).close()
    texts = [f"{number} {'x' * 16_000}" for number in range(12)]
    await say(romeo, juliet.jid, texts)
    for path, body in (("/v1/messages", {"to": romeo.jid, "body": "x"}), ("/v1/presence", {}),
                       ("/v1/requests", {"type": "roster.get"})):
        answer = await juliet.ask("POST", path, body, token=juliet.token)
        assert problem(answer) == (429, "unread")
    reader = await juliet.stream(juliet.cursor)
    await reader.body(texts[-1])
    await juliet.send(romeo.jid, "at your service")
    assert reader.bodies("message") == texts


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


async def test_a_small_queue_is_enough_for_who_reads(new_server, server_options, user, raw):
    """What is kept for a replay does not count as unread, whatever the queue's bounds are."""
    server = new_server(options=server_options | {
        "limits.queue_stanzas_max": 20}).start()
    juliet, romeo = await user(place=server), await raw(place=server)
    reader = await settle(await juliet.socket())
    texts = [f"{number} {'x' * 1_000}" for number in range(200)]
    for number, text in enumerate(texts):
        await romeo.message(juliet.jid, text, f"r{number}")
        await reader.body(text)
    assert reader.bodies("message") == texts
    await juliet.leave()
    await romeo.close()
    assert server.stop() == 0
