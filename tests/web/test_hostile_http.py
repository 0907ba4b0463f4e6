"""Runs the rows of rows_http.py over raw sockets, and what no row can say.

A bystander on a connection of their own must notice nothing of it.
"""

import json
from xml.etree import ElementTree

import pytest
import pytest_asyncio

from clients.bosh import Wrapper, post, wrap
from clients.http import Talk, request
from rows_http import SMUGGLED, TABLE

# One event loop for the file, so that the bystander's connection lives through all of it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

READABLE = ["/.well-known/host-meta", "/.well-known/host-meta.json", "/healthz", "/readyz",
            "/metrics", "/"]
PATHS = [*READABLE, "/ws", "/http-bind", "/nothing", "/index.html"]
CORS = "access-control-"
ANSWERED = {f"{CORS}allow-credentials": "true",
            f"{CORS}expose-headers": "ETag, Location, Retry-After"}
PREFLIGHT = {
    f"{CORS}allow-credentials": "true",
    f"{CORS}allow-headers": "Accept, Authorization, Content-Type, If-None-Match, Last-Event-ID",
    f"{CORS}allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    f"{CORS}max-age": "86400",
}


@pytest_asyncio.fixture(loop_scope="module")
async def talk(server, unnoticed):
    """The hostile peer's connection."""
    async with Talk(server.http) as talk:
        yield talk


def cors(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith(CORS)}


def opening(server, **attributes):
    asked = {"to": server.domain, "rid": 1000, "wait": 5, "hold": 1, "ver": "1.11",
             "xmpp__version": "1.0"}
    return wrap(**asked | attributes)


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_withstands(row, talk, server):
    octets = row.octets
    if isinstance(octets, str):
        octets = octets.replace("{host}", "{}:{}".format(*server.http)).encode()
    await talk.send(octets + SMUGGLED.replace("{host}", "x").encode())
    answer = await talk.answer()
    assert answer.status in (row.status if isinstance(row.status, tuple) else (row.status,)), answer
    if row.code is not None:
        assert answer.code == row.code
    assert b"evil" not in answer.octets and b"<script" not in answer.octets, answer
    assert b"encke_" not in answer.octets or "all that proxies" not in row.title, answer
    closes = answer.headers.get("connection") == "close" if row.closes is None else row.closes
    if closes:
        assert answer.headers.get("connection") == "close", answer
        assert await talk.ended() == b"", "nothing behind a refusal is answered"
    else:
        assert (await talk.answer()).body == b"ready\n"


async def test_answers_come_in_the_order_of_1000_requests(talk, server):
    """Whatever each of them costs: some are for this thread, some for others, some are errors."""
    paths = ["/healthz", "/readyz", "/nothing", "/metrics", "/.well-known/host-meta", "/ws"]
    marks = [b"ok\n", b"ready\n", b"not-found", b"# EOF", b"<XRD", b"no-websocket"]
    asked = [(number * number) % len(paths) if number % 7 else 3 for number in range(1_000)]
    await talk.send(b"".join(request(server.http, f"GET {paths[n]} HTTP/1.1") for n in asked))
    for number, n in enumerate(asked):
        answer = await talk.answer()
        assert marks[n] in answer.body, f"request {number} of {paths[n]}: {answer}"


async def test_requests_octet_by_octet(talk, server):
    for octet in request(server.http) + post(server.http, opening(server)):
        await talk.send(bytes([octet]))
    assert (await talk.answer()).body == b"ok\n"
    assert Wrapper(await talk.answer()).element.get("sid")


async def test_a_request_behind_a_held_one_waits(talk, server):
    """Answers do not overtake each other, and the next request is not lost."""
    opened = Wrapper(await talk.ask(post(server.http, opening(server, wait=1))))
    sid = opened.element.get("sid")
    first = opened
    if not len(opened.element):
        first = Wrapper(await talk.ask(post(server.http, wrap(rid=1001, sid=sid))))
    held = 1001 if first is opened else 1002
    await talk.send(post(server.http, wrap(rid=held, sid=sid)) + request(server.http))
    assert Wrapper(await talk.answer()).type is None
    assert (await talk.answer()).body == b"ok\n"


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_body_in_chunks(talk, server, size):
    text = opening(server).encode()
    pieces = [text[at:at + size] for at in range(0, len(text), size)]
    chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = request(server.http, "POST /http-bind HTTP/1.1", "Transfer-Encoding: Chunked")
    answer = Wrapper(await talk.ask(head + chunks + b"000\r\nX-Trailer: y\r\n\r\n"))
    assert answer.element.get("sid"), answer
    assert (await talk.ask(request(server.http))).body == b"ok\n"


async def test_a_body_that_waits_to_be_asked_for(talk, server):
    text = opening(server).encode()
    head = request(server.http, "POST /http-bind HTTP/1.1", "Expect: 100-Continue", body=text)
    assert (await talk.ask(head[:-len(text)])).status == 100
    assert Wrapper(await talk.ask(text)).element.get("sid")
    # One that does not wait.
    answer = await talk.ask(head)
    answer = await talk.answer() if answer.status == 100 else answer
    assert Wrapper(answer).element.get("sid")
    # One that never heard of it.
    old = head.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert Wrapper(await talk.ask(old)).element.get("sid")
    assert await talk.ended() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_head_and_options(talk, server, path):
    """HEAD says what GET would have said and nothing more; OPTIONS and DELETE are refused alike."""
    known = await talk.ask(request(server.http, f"GET {path} HTTP/1.1"))
    head = await talk.ask(request(server.http, f"HEAD {path} HTTP/1.1"), "HEAD")
    if path in READABLE:
        assert known.status == head.status == 200
        varying = {"content-length"} if path == "/metrics" else set()
        assert set(head.headers) == set(known.headers)
        assert {(n, v) for n, v in head.headers.items() if n not in varying} <= \
            set(known.headers.items())
    else:
        assert head.status == (405 if path in ("/ws", "/http-bind") else 404)
    options = await talk.ask(request(server.http, f"OPTIONS {path} HTTP/1.1"))
    delete = await talk.ask(request(server.http, f"DELETE {path} HTTP/1.1"))
    if path == "/http-bind":
        assert options.status == 204 and delete.headers["allow"] == "POST, OPTIONS"
        assert cors(options) == {}, "who names no origin needs no permission"
    elif path in ("/nothing", "/index.html"):
        assert options.status == delete.status == 404
    else:
        assert options.status == delete.status == 405
        assert options.headers["allow"] == ("GET, HEAD" if path in READABLE else "GET")
    assert (await talk.ask(request(server.http))).body == b"ok\n", "no body of HEAD is left over"


async def test_options_of_all(talk, server):
    answer = await talk.ask(request(server.http, "OPTIONS * HTTP/1.1"))
    assert answer.status == 204 and cors(answer) == {}
    assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS, DELETE"


async def test_a_target_that_is_a_url(talk, server):
    host, port = server.http
    for line, body in ((f"GET http://{host}:{port}/healthz HTTP/1.1", b"ok\n"),
                       (f"GET HTTP://{host}:{port}/readyz HTTP/1.1", b"ready\n")):
        assert (await talk.ask(request(server.http, line))).body == body
    bare = await talk.ask(request(server.http, f"GET http://{host}:{port} HTTP/1.1"))
    assert bare.status == 200 and bare.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "[::1]:5280", "EVIL_1.test", "1"])
async def test_host_meta_for_any_host_is_well_formed(talk, server, host):
    """Who lies about the host is told the lie, in nobody's markup."""
    ask = f"GET /.well-known/host-meta{{}} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    xml = ElementTree.fromstring((await talk.ask(ask.format(""))).body)
    by_xml = [link.get("href") for link in xml]
    by_json = [link["href"] for link in json.loads((await talk.ask(ask.format(".json"))).body)[
        "links"]]
    assert by_xml == by_json == [f"ws://{host}/ws", f"http://{host}/http-bind"]


# CORS


def preflight(server, origin, path="/http-bind", method="POST"):
    return request(server.http, f"OPTIONS {path} HTTP/1.1", f"Origin: {origin}",
                   f"Access-Control-Request-Method: {method}",
                   "Access-Control-Request-Headers: content-type")


async def test_a_listed_page_may_ask(talk, server, site):
    answer = await talk.ask(preflight(server, site.origin))
    assert answer.status == 204
    assert cors(answer) == PREFLIGHT | {f"{CORS}allow-origin": site.origin}
    assert answer.headers["vary"] == "Origin"
    for text in (opening(server), wrap(rid=1, sid="0" * 32), "<no/>"):
        answer = await talk.ask(post(server.http, text, f"Origin: {site.origin}"))
        assert answer.status == 200
        assert cors(answer) == ANSWERED | {f"{CORS}allow-origin": site.origin}
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", [
    "https://evil.test", "null", "*", "{site}.evil.test", "{site}/", "{site}0", "{tls}",
    "http://evil.test:80@{own}", "HTTP://{own}", "{site} {site}", "{site}, https://evil.test",
    "file://", "",
])
async def test_no_other_page_may_ask(talk, server, site, origin):
    own = "{}:{}".format(*server.http)
    origin = origin.format(site=site.origin, own=own, tls=site.origin.replace("http:", "https:"))
    answer = await talk.ask(preflight(server, origin))
    assert answer.status == 403 and cors(answer) == {}, answer
    answer = await talk.ask(post(server.http, opening(server), f"Origin: {origin}"))
    assert answer.status == 403 and cors(answer) == {}, answer
    assert b"sid=" not in answer.body


async def test_two_origins_are_nobodys(talk, server, site):
    answer = await talk.ask(post(server.http, opening(server), f"Origin: {site.origin}",
                                 "Origin: https://evil.test"))
    assert answer.status == 400 and cors(answer) == {}


async def test_pages_of_the_server_need_no_permission(talk, server):
    own = "http://{}:{}".format(*server.http)
    answer = await talk.ask(preflight(server, own))
    assert answer.status == 204 and cors(answer) == {}
    answer = await talk.ask(post(server.http, opening(server), f"Origin: {own}"))
    assert answer.status == 200 and cors(answer) == {}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/ws", "/nothing"])
async def test_what_is_no_page_s_business(talk, server, site, path):
    """Not even of a listed one."""
    for octets in (preflight(server, site.origin, path, "GET"),
                   request(server.http, f"GET {path} HTTP/1.1", f"Origin: {site.origin}")):
        assert cors(await talk.ask(octets)) == {}
