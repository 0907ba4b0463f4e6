"""Hostile and careless clients of the JSON protocol: every row gets its answer, and the session lives.
"""

import base64
import json
import os

import pytest

import rows_json
from clients.chat import COOKIE, Api, User, problem
from clients.frames import TEXT, frame
from clients.http import Talk
from clients.people import raw, settle, user  # noqa: F401
from harness.raw import CLIENT

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")


@pytest.fixture(scope="module")
def crowd(server):
    """Accounts that all rows share."""
    return server.account("juliet"), server.account("romeo")


async def try_row(row, juliet, romeo, site):
    host = "{}:{}".format(*juliet.address)
    last = juliet.token[-1]
    words = {"{romeo}": romeo.jid, "{own}": juliet.token, "{OWN}": "A" * 52, "{host}": host,
             "{nearly}": juliet.token[:-1] + ("0" if last != "0" else "1"),
             "{tail}": juliet.token[1:], "{site}": site.origin}

    def live(text):
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    body = row.body
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = live(body).encode("utf-8", "surrogatepass")
    fields = [live(field) for field in row.fields]
    token = juliet.token if row.token == "own" else live(row.token)
    if row.token == "cookie":
        fields.append(f"Cookie: {COOKIE}={juliet.token}")
        token = None
    answer = await Api(juliet.address).ask(row.method, live(row.path), body, token=token,
                                           fields=fields)
    wanted = (row.status, row.code)
    if row.code is None:
        assert answer.status == row.status, answer
    else:
        assert problem(answer) == wanted, answer
    assert await juliet.do("GET", "/v1/session"), "the session lives"
    return answer


@pytest.mark.parametrize("row", [*rows_json.BODIES, *rows_json.PATHS, *rows_json.TOKENS,
                                 *rows_json.PAGES], ids=str)
async def test_a_row(row, crowd, user, site):
    juliet = await user(crowd[0], resource=None)
    answer = await try_row(row, juliet, crowd[1], site)
    listed = "Origin: {site}" in row.fields
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (site.origin if listed and answer.status < 400 else None)


@pytest.mark.parametrize("row", [row for row in rows_json.BODIES if row.path != "/v1/requests"
                                 and isinstance(row.body, dict)
                                 and "the path" not in row.title], ids=str)
async def test_a_row_over_a_socket(row, crowd, user):
    """The same is refused with the same code, and the socket lives."""
    kinds = {"/v1/messages": "message", "/v1/presence": "presence", "/v1/acks": "ack",
             "/v1/subscriptions": "subscription"}
    juliet = await user(crowd[0], resource=None)
    socket = await juliet.socket()
    document = {"type": kinds[row.path]} | row.body
    text = json.dumps(document).replace("{romeo}", crowd[1].jid)
    await socket.say(text)
    answer = await socket.wait("answer")
    assert (answer["status"], answer["problem"]["code"]) == (row.status, row.code)
    assert (await socket.ask("ping"))["status"] == 204


@pytest.mark.parametrize("said, code", [
    (b"{}", 1003), ("x" * 300_000, 1009), (b"\0" * 300_000, (1003, 1009))],
    ids=["octets", "too much text", "too many octets"])
async def test_a_socket_that_says_something_else_is_closed(user, said, code):
    """And the session goes on for its other readers."""
    juliet = await user()
    socket, other = await juliet.socket(), await juliet.stream()
    await socket.begin()
    await socket.say(said)
    assert (await socket.ended()).code in (code if isinstance(code, tuple) else (code,))
    await other.begin()
    await juliet.do("POST", "/v1/requests", {"type": "ping"}, 204)


@pytest.mark.parametrize("row", rows_json.OPENINGS, ids=str)
async def test_an_opening(row, crowd, server):
    account = crowd[0]
    juliet = User(server, account, None)
    plain = f"\0{account.name}\0{account.password}"
    words = {"{user}": account.jid, "{password}": account.password,
             "{plain}": base64.b64encode(plain.encode()).decode(),
             "{authzid}": base64.b64encode((crowd[1].jid + plain).encode()).decode()}
    text = json.dumps(juliet.opening(**row.body))
    for word, value in words.items():
        text = text.replace(word, value)
    answer = await juliet.ask("POST", "/v1/session", text)
    if row.code is None:
        assert answer.status == row.status, answer
        return await juliet.opened(answer).leave()
    status, code = problem(answer)
    assert status in (row.status if isinstance(row.status, tuple) else (row.status,)), answer
    assert code in (row.code if isinstance(row.code, tuple) else (row.code,)), answer


async def test_a_socket_in_pieces(user):
    """Fragments, pings between them, and pongs that nobody asked for."""
    juliet = await user()
    socket = await juliet.socket()
    await socket.link.send(iter(['{"type":"ping",', '"request_', 'id":"ü"}']))
    assert (await socket.wait("answer"))["request_id"] == "ü"
    await (await socket.link.ping(b"x" * 125))
    await socket.link.pong(b"unasked")
    assert (await socket.ask("ping"))["status"] == 204


async def test_a_response_is_for_one_challenge(server):
    """After a proof that is wrong the login is over; a second one finds no session."""
    juliet = User(server, server.account("juliet"))
    answer = await juliet.ask("POST", "/v1/session", juliet.opening(
        password=None, mechanism="SCRAM-SHA-256",
        initial=base64.b64encode(f"n,,n={juliet.account.name},r=abc".encode()).decode()))
    token = json.loads(answer.body)["session"]
    for how in ({"type": "ping"}, {"type": "close"}):
        answer = await juliet.ask("POST", "/v1/requests", how, token=token)
        assert problem(answer) == (409, "not-ready")
    assert problem(await juliet.ask("GET", "/v1/events", token=token)) == (409, "not-ready")
    proof = {"response": base64.b64encode(b"c=biws,r=abc,p=AAAA").decode()}
    answer = await juliet.ask("POST", "/v1/session/respond", proof, token=token)
    assert answer.status == 401, answer
    answer = await juliet.ask("POST", "/v1/session/respond", proof, token=token)
    assert problem(answer) == (404, "no-session")


async def test_words_that_are_no_request_are_answered(user):
    juliet = await user()
    socket = await juliet.socket()
    for text in ("", "hello", "[]", "{", "null", '"ping"'):
        await socket.say(text)
        assert (await socket.wait("answer"))["problem"]["code"] == "not-json", text
    assert (await socket.ask("ping"))["status"] == 204


async def test_a_page_of_a_listed_site_may_ask_first(server, site):
    """CORS: what a browser asks before a page of another site may, for each path that it may."""
    asks = ("Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type")
    for path in ("/v1/session", "/v1/session/respond", "/v1/events", "/v1/requests",
                 "/v1/messages", "/v1/presence", "/v1/subscriptions", "/v1/roster", "/v1/iq",
                 "/v1/acks"):
        api = Api(server.http)
        answer = await api.ask("OPTIONS", path, fields=(f"Origin: {site.origin}", *asks))
        assert answer.status == 204, (path, answer)
        assert answer.headers["access-control-allow-origin"] == site.origin
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert "POST" in answer.headers["access-control-allow-methods"]
        answer = await api.ask("OPTIONS", path, fields=("Origin: https://evil.test", *asks))
        assert problem(answer) == (403, "origin")
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("by, origin", [
    ("bearer", None), ("subprotocol", None), ("subprotocol", "site"), ("cookie", "own"),
    ("cookie", "site")])
async def test_a_socket_is_opened_in_each_way(server, user, site, by, origin):
    juliet = await user()
    own = "http://{}:{}".format(*server.http)
    socket = await juliet.socket(by=by, origin={"site": site.origin, "own": own}.get(origin))
    assert (await socket.begin())["jid"] == juliet.jid


async def test_the_cookie_is_for_browsers_only(server, user):
    """No script reads it, no other site sends it, and over TLS it never goes out in clear."""
    juliet = User(server, server.account("juliet"))
    answer = await juliet.ask("POST", "/v1/session", juliet.opening(cookie=True))
    juliet.opened(answer)
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name == f"{COOKIE}={juliet.token}"
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/v1/"}
    own = "Origin: http://{}:{}".format(*server.http)
    answer = await juliet.ask("DELETE", "/v1/session", fields=(f"Cookie: {name}", own))
    assert answer.status == 204 and answer.headers["set-cookie"].startswith(f"{COOKIE}=;")
    assert "Max-Age=0" in answer.headers["set-cookie"]


async def test_requests_without_answers_are_bounded(user, raw):
    """64 of them, over all readers; what is refused had no effect, and then there is room again."""
    juliet, romeo = await user(), await raw()
    socket = await settle(await juliet.socket())
    ask = {"type": "iq", "kind": "get", "to": romeo.jid, "xml": ["<x xmlns='urn:example:x'/>"]}
    for number in range(65):
        await socket.say(ask | {"request_id": f"{number}"})
    refused = await socket.wait("answer")
    assert (refused["request_id"], refused["problem"]["code"]) == ("64", "too-many")
    asked = [await romeo.expect(f"{{{CLIENT}}}iq") for _ in range(64)]
    await romeo.send_stanza(f"<iq type='result' to='{juliet.jid}' id='{asked[5].get('id')}'/>")
    assert (await socket.wait("answer"))["request_id"] == "5"
    await socket.say(ask | {"request_id": "more"})
    await romeo.expect(f"{{{CLIENT}}}iq")


HANDSHAKE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: encke.v1")


async def test_frames_may_come_with_the_handshake(server, user):
    """Whichever shard the session is of: the link moves there with all that came behind it."""
    for _ in range(4):
        juliet = await user()
        async with Talk(server.http) as talk:
            await talk.send(
                juliet.request("GET", "/v1/socket", token=juliet.token, fields=HANDSHAKE)
                + frame(TEXT, '{"type":"ping","request_id":"at once"}'))
            assert (await talk.answer()).status == 101
            while b"at once" not in talk._heard:
                assert await talk._hear()


@pytest.mark.parametrize("reader", ["stream", "poll", "socket"])
async def test_what_a_reader_sends_is_bounded(server, user, raw, reader):
    """Megabytes that nobody asked for, behind a request that is not answered yet or never ends, or
    in a socket whose requests are not answered: no memory, and the session lives.
    """
    juliet, romeo = await user(), await raw()
    first = await settle(await juliet.socket())
    fields = {"stream": ["Accept: text/event-stream"], "poll": [], "socket": HANDSHAKE}[reader]
    path = "/v1/socket" if reader == "socket" else "/v1/events"
    ask = json.dumps({"type": "iq", "kind": "get", "to": romeo.jid,
                      "xml": [f"<x xmlns='u'>{'y' * 10_000}</x>"]})
    piece = {"stream": b"\0" * 65_536, "socket": frame(TEXT, ask) * 6,
             "poll": juliet.request("POST", "/v1/requests", ask, token=juliet.token) * 6}[reader]
    async with Talk(server.http) as talk:
        await talk.send(juliet.request("GET", path, token=juliet.token, fields=fields,
                                       query={"cursor": first.last}))
        before = server.pss()
        taken = stuck = 0
        while taken < 32 << 20 and stuck < 100:
            try:
                now = talk.send_at_once(piece[taken % len(piece):])
            except ConnectionError:
                break  # it has enough of it
            taken += now
            stuck = 0 if now else stuck + 1
            await juliet.do("POST", "/v1/requests", {"type": "ping"})
        assert server.pss() - before < 16 << 20
    await juliet.do("POST", "/v1/requests", {"type": "ping"}, 204)
    assert (await first.ask("ping"))["status"] == 204
