"""The JSON protocol over networks as they are: a browser whose network was away, proxies, TLS, and
readers that do not read.
"""

import asyncio
import json
import os
import random
import urllib.request

import pytest

from clients.chat import COOKIE, User, page
from clients.http import Talk
from clients.nginx import Nginx
from clients.people import raw, say, settle, user  # noqa: F401
from harness.raw import DEADLINE

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
LARGE = "x" * 50_000


@pytest.fixture(params=[True, False], ids=["buffered", "unbuffered"], scope="module")
def nginx(request, server, tmp_path_factory):
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), server.http, buffering=request.param)
    yield nginx
    nginx.close()


# What a page does with an event source; `tell` goes to the test.
LISTEN = """(async () => {
    const answer = await fetch('/v1/session', {method: 'POST', body: JSON.stringify(OPENING)})
    const session = await answer.json()
    const events = window.events = new EventSource('/v1/events?cursor=' + session.cursor)
    events.onmessage = event => tell('message', JSON.parse(event.data).body)
    events.addEventListener('ready', event => tell('ready', event.lastEventId))
    events.addEventListener('gap', event => tell('gap', event.lastEventId))
    return session
})()"""
# A page that has the token and no cookie.
SPEAK = """(async () => {
    const answer = await fetch('/v1/session', {method: 'POST', body: JSON.stringify(OPENING)})
    const session = await answer.json()
    const socket = window.socket = new WebSocket(
        `ws://${location.host}/v1/socket?cursor=${session.cursor}`,
        ['encke.v1', 'encke.session.' + session.session])
    socket.onmessage = message => tell('event', JSON.parse(message.data))
    await new Promise((opened, failed) => [socket.onopen, socket.onerror] = [opened, failed])
    return {...session, protocol: socket.protocol}
})()"""


async def start(window, server, account, script, address, **opening):
    page = await window(f"a page of {account.name}")
    await page.open("http://{}:{}/healthz".format(*address))
    words = {"user": account.jid, "password": account.password, "resource": "page"} | opening
    return page, await page.call("eval", script.replace("OPENING", json.dumps(words)))


async def test_a_browser_comes_back_by_itself(server, window, cable, raw):
    """Its network breaks twice; it says where it was, and the page hears each word once."""
    account = server.account("juliet")
    page, session = await start(window, server, account, LISTEN, cable.address, cookie=True)
    romeo = await raw()
    await page.wait("ready")
    for turn in range(2):
        await say(romeo, session["jid"], [f"{turn} heard {n}" for n in range(5)], turn * 20)
        while len(page.all("message")) < turn * 10 + 5:
            await asyncio.wait_for(page._fresh.wait(), DEADLINE)
            page._fresh.clear()
        cable.hold("down")
        await say(romeo, session["jid"], [f"{turn} missed {n}" for n in range(5)], turn * 20 + 5)
        cable.cut()
        await page.wait("ready")
    await say(romeo, session["jid"], ["the end"], 99)
    await page.wait("message", lambda body: body == "the end")
    assert page.all("message") == [f"{turn} {what} {n}" for turn in range(2)
                                   for what in ("heard", "missed") for n in range(5)]
    assert not page.all("gap")


async def test_a_page_without_a_cookie_uses_a_subprotocol(server, window, raw):
    account = server.account("juliet")
    page, session = await start(window, server, account, SPEAK, server.http)
    assert session["protocol"] == "encke.v1"
    romeo = await raw()
    await say(romeo, session["jid"], ["<script>alert(1)</script> 𝄞"])
    heard = await page.wait("event", lambda event: event["type"] == "message")
    assert heard["body"] == "<script>alert(1)</script> 𝄞"


async def test_a_listed_site_chats_with_the_token(server, site, window, raw):
    """Another origin: the browser asks first, and shows the page what comes."""
    account = server.account("juliet")
    page = await window()
    await page.open(f"{site.origin}/strophe.html")
    url = "http://{}:{}".format(*server.http)
    words = json.dumps({"user": account.jid, "password": account.password})
    tag = await page.call("eval", f"""(async () => {{
        const json = {{'Content-Type': 'application/json'}}
        const answer = await fetch('{url}/v1/session',
            {{method: 'POST', headers: json, body: JSON.stringify({words})}})
        const {{session}} = await answer.json()
        const headers = {{...json, Authorization: 'Bearer ' + session}}
        const sent = await fetch('{url}/v1/messages', {{method: 'POST', headers,
            body: JSON.stringify({{to: '{account.jid}', body: 'to myself'}})}})
        const poll = await fetch('{url}/v1/events', {{headers}})
        const {{events}} = await poll.json()
        events.filter(event => event.body).forEach(event => tell('said', event.body))
        return poll.headers.get('ETag')
    }})()""")
    assert await page.wait("said") == "to myself" and tag.startswith('"')


async def test_through_a_proxy(server, nginx, user, raw):
    """A stream is not kept back by a proxy that collects whole buffers."""
    juliet = await user(address=nginx.address)
    stream = await juliet.stream(juliet.cursor)
    socket = await juliet.socket(juliet.cursor)
    romeo = await raw()
    for number in range(10):
        await say(romeo, juliet.jid, [f"{number}"], number)
        await stream.body(f"{number}")
        await socket.body(f"{number}")
    await juliet.send(romeo.jid, LARGE)
    await stream.body(LARGE, "sent")
    events, _ = page(await juliet.poll(juliet.cursor))
    assert len(events) == len(stream.all) - 1
    await juliet.do("POST", "/v1/requests", {"type": "close"}, 204)
    await stream.wait("closed")
    await stream.ended()


async def test_a_stream_for_an_old_proxy(server, user, raw):
    """HTTP/1.0 has no chunks: the blocks come as they are, until the connection is closed."""
    juliet = await user()
    await settle(await juliet.socket())
    reader, writer = await asyncio.open_connection(*server.http)
    writer.write(juliet.request("GET", "/v1/events", token=juliet.token, fields=[
        "Accept: text/event-stream"]).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    assert b" 200 OK" in head and b"ransfer-" not in head and b"Connection: close" in head
    romeo = await raw()
    await say(romeo, juliet.jid, ["for old times' sake"])
    await asyncio.wait_for(reader.readuntil(b'"body":"for old times\' sake"'), DEADLINE)
    await juliet.do("DELETE", "/v1/session", status=204)
    rest = await asyncio.wait_for(reader.read(), DEADLINE)
    assert b"event: closed" in rest
    writer.close()


async def test_over_tls_the_cookie_is_for_tls(server, people):
    juliet = User(server, server.account("juliet"))
    people.push_async_callback(juliet.leave)
    context = server.trust()
    url = "https://{}:{}".format(*server.https)

    def ask(path, body=None, **headers):
        request = urllib.request.Request(url + path, body and json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=DEADLINE, context=context) as answer:
            return answer.headers, json.loads(answer.read())

    headers, said = await asyncio.to_thread(ask, "/v1/session", juliet.opening(cookie=True))
    juliet.token = said["session"]
    assert set(headers["Set-Cookie"].split("; ")) == {
        f"{COOKIE}={juliet.token}", "Secure", "HttpOnly", "SameSite=Strict", "Path=/v1/"}
    _, standing = await asyncio.to_thread(ask, "/v1/session", Cookie=f"{COOKIE}={juliet.token}")
    assert standing["jid"] == said["jid"]
    reader, writer = await asyncio.open_connection(
        *server.https, ssl=context, server_hostname=server.domain)
    writer.write(juliet.request("GET", "/v1/events", token=juliet.token, fields=[
        "Accept: text/event-stream"]))
    await asyncio.wait_for(reader.readuntil(b"event: ready"), DEADLINE)
    writer.transport.abort()


async def test_a_tab_that_does_not_read_is_left_behind(server, user, raw):
    """The others get everything, and the server's memory does not grow. When it reads again it is
    told of the gap, and goes on with what is kept.
    """
    juliet = await user()
    quick = await settle(await juliet.socket())
    romeo = await raw()
    slow = await juliet.stream(juliet.cursor, receive_buffer=65_536)
    await slow.begin()
    slow.hold()
    before = server.pss()
    for number in range(200):
        await romeo.message(juliet.jid, f"{number} {LARGE}", f"r{number}")
        await quick.body(f"{number} {LARGE}")
    assert server.pss() - before < 16 << 20
    assert len(quick.bodies("message")) == 200
    slow.release()
    await slow.body(f"199 {LARGE}")
    heard = slow.bodies("message")
    assert heard == [text for text in quick.bodies("message") if text in heard]
    assert "gap" in [event["type"] for event in slow.all] and len(heard) < 200


async def test_a_browser_that_comes_again_says_more_than_its_address(user, raw):
    """`Last-Event-ID` is newer than the cursor in an address that never changes."""
    juliet = await user()
    first = await settle(await juliet.stream(juliet.cursor))
    romeo = await raw()
    await say(romeo, juliet.jid, ["old"])
    seen = (await first.body("old"))["id"]
    await say(romeo, juliet.jid, ["new"])
    await first.body("new")
    again = await juliet.stream(cursor=juliet.cursor, seen=seen)
    await again.body("new")
    assert again.bodies("message") == ["new"]


@pytest.mark.parametrize("seed", range(3))
async def test_bad_networks(server, user, seed):
    """Four people write to each other while their networks break at random, with and without a
    word; they change between sockets, streams and polls. Everybody gets everything once, in the
    order of who wrote it.
    """
    dice = random.Random(seed)
    people = [await user(resource=f"rough {number}") for number in range(4)]
    heard = {one.jid: [] for one in people}
    wanted = {one.jid: [] for one in people}
    readers, cursors = {}, {one.jid: one.cursor for one in people}

    async def attach(one):
        kind = dice.choice(["socket", "stream", "polls"])
        readers[one.jid] = await getattr(one, kind)(cursors[one.jid])

    async def lose(one):
        reader = readers.pop(one.jid)
        if dice.random() < 0.5:
            reader.cut()
            await reader.ended()
        else:
            await reader.close()
        heard[one.jid] += [event for event in reader.all if event["type"] == "message"]
        cursors[one.jid] = reader.last or cursors[one.jid]

    for one in people:
        await attach(one)
    for number in range(200):
        writer, other = dice.sample(people, 2)
        name = f"{number} {'x' * dice.choice([0, 10, 2_000])}"
        wanted[other.jid].append((writer.jid, name))
        # Whoever is not sure says it again.
        for _ in range(dice.choice([1, 1, 2])):
            await writer.send(other.jid, name, f"m{number}")
        if dice.random() < 0.3:
            unlucky = dice.choice(people)
            if unlucky.jid in readers:
                await lose(unlucky)
        for one in people:
            if one.jid not in readers and dice.random() < 0.5:
                await attach(one)
    for one in people:
        if one.jid not in readers:
            await attach(one)
        await one.send(one.jid, "the end")
    for one in people:
        await readers[one.jid].body("the end")
        await lose(one)
    for one in people:
        came = [(event["from"], event["body"]) for event in heard[one.jid]]
        assert came[-1] == (one.jid, "the end")
        for writer in people:
            assert [text for who, text in came[:-1] if who == writer.jid] == [
                text for who, text in wanted[one.jid] if who == writer.jid]
