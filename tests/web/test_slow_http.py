"""Classes 46 and 54: peers that are slow on purpose, and many of them.

Every wait is for what the server does at the end of its patience, which is a second here.
"""

import asyncio

import pytest
import pytest_asyncio

from clients.bosh import Bosh, Wrapper, post, wrap
from clients.http import Talk, request
from harness.raw import DEADLINE

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOOD = 600
# No more than limits.sessions_per_account_max.
CROWD = 30


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"limits.http_request_timeout": 1, "limits.http_idle_timeout": 1,
                             "limits.login_timeout": 5}


HEAD = "POST /http-bind HTTP/1.1\r\nHost: x\r\n"
# What is sent, and the statuses of what is answered before the server hangs up.
SLOW = [
    ("nothing", "", []),
    ("one octet", "G", [408]),
    ("half a line", "GET /heal", [408]),
    ("half a head", "GET /healthz HTTP/1.1\r\nHost: x\r\n", [408]),
    ("half an empty line", "\r", [408]),
    ("half a name of a field", "GET /healthz HTTP/1.1\r\nHo", [408]),
    ("one octet of a body", HEAD + "Content-Length: 200000\r\n\r\n<", [408]),
    ("all but one octet of a body", HEAD + "Content-Length: 10000\r\n\r\n" + "x" * 9_999, [408]),
    ("no octet of a body", HEAD + "Content-Length: 5\r\n\r\n", [408]),
    ("half the size of a chunk", HEAD + "Transfer-Encoding: chunked\r\n\r\n1", [408]),
    ("half a chunk", HEAD + "Transfer-Encoding: chunked\r\n\r\n5\r\naa", [408]),
    ("a body without its end", HEAD + "Transfer-Encoding: chunked\r\n\r\n5\r\naaaaa\r\n", [408]),
    ("half a trailer", HEAD + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", [408]),
    ("a body that was asked for", HEAD + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
     [100, 408]),
    ("nothing more", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
    ("half of the next request", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET", [200, 408]),
    ("an empty line behind a request", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\n", [200]),
]


async def test_who_stops_in_the_middle_is_sent_away(server, unnoticed):
    """All at once: the time of one is not the time of another."""
    wrong = {}

    async def run(title, octets, wanted):
        async with Talk(server.http) as talk:
            await talk.send(octets)
            heard = []
            try:
                for _ in wanted:
                    heard.append((await talk.answer()).status)
                rest = await talk.ended()
            except Exception as error:
                rest = error
            # An empty line may count as the beginning of a request.
            if heard != wanted or rest and not (title.startswith("an empty") and b" 408 " in rest):
                wrong[title] = heard, rest

    await asyncio.gather(*(run(*row) for row in SLOW))
    assert not wrong


@pytest.mark.parametrize("start", [
    "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", HEAD + "Content-Length: 250000\r\n\r\n",
    HEAD + "Transfer-Encoding: chunked\r\n\r\n30000\r\n"], ids=["head", "body", "chunk"])
async def test_who_comes_octet_by_octet_is_sent_away(server, unnoticed, start):
    """Each octet is a sign of life, but the time is for the whole request."""
    loop = asyncio.get_running_loop()
    async with Talk(server.http) as talk:
        await talk.send(start)
        answer = loop.create_task(talk.answer())
        deadline = loop.time() + DEADLINE
        while not answer.done() and loop.time() < deadline:
            await talk.send("a")
            await unnoticed.ping()
        assert (await answer).status == 408
        await talk.ended()


async def test_a_handshake_that_stops(server, unnoticed):
    """TLS is given no more time than anything else."""
    hello = bytes.fromhex("16030100c8010000c40303")
    for octets in (b"", hello[:1], hello, b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x00\x02"):
        async with Talk(server.https) as talk:
            await talk.send(octets)
            assert b"HTTP" not in await talk.ended()


async def test_a_poll_may_be_held_longer_than_a_request_may_take(server, unnoticed):
    """The bound is for what the peer must do, not for us."""
    async with Bosh(server, server.account("patient")) as bosh:
        await bosh.login(wait=2)
        answer = await bosh.ask()
        assert answer.type is None and len(answer.element) == 0, answer
        await bosh.lives()


async def test_many_who_say_nothing(server, unnoticed):
    """600 connections: others are served meanwhile, and then all of them are sent away."""
    idle = [Talk(server.http) for _ in range(FLOOD)]
    try:
        for talk in idle:
            await talk.__aenter__()
        await unnoticed.ping()
        async with Talk(server.http) as talk:
            assert (await talk.ask(request(server.http))).body == b"ok\n"
        assert set(await asyncio.gather(*(talk.ended() for talk in idle))) == {b""}
    finally:
        for talk in idle:
            await talk.__aexit__()


async def test_many_who_come_back_at_once(server, unnoticed):
    """After a restart all browsers come again together: every one of them gets in."""
    account = server.account("crowd")
    crowd = [Bosh(server, account, f"tab{number}") for number in range(CROWD)]

    async def come(bosh):
        await bosh.__aenter__()
        return (await bosh.login(presence=False)).jid

    try:
        assert len(set(await asyncio.gather(*(come(bosh) for bosh in crowd)))) == CROWD
        await unnoticed.ping()
    finally:
        for bosh in crowd:
            await bosh.__aexit__()


async def test_sessions_of_one_address_are_bounded(new_server, server_options):
    """A session of BOSH needs no connection, so it is counted by itself until somebody logs in."""
    server = new_server(options=server_options | {
        "limits.links_per_address_max": 8, "limits.http_idle_timeout": 60,
        "limits.login_timeout": 30}).start()
    account = server.account("web")
    async with Bosh(server, account) as friend:
        await friend.login()
        async with Talk(server.http) as talk:
            sids = []
            for rid in range(1, 1_000):
                answer = Wrapper(await talk.ask(post(server.http, wrap(
                    rid=rid, to=server.domain, wait=1, ver="1.11"))))
                if answer.condition is not None:
                    break
                sids.append((rid, answer.element.get("sid")))
            assert answer.condition == "policy-violation", answer
            assert 1 <= len(sids) <= 8
            # Who is in is not put out, and who leaves makes room.
            await friend.lives()
            rid, sid = sids[0]
            while Wrapper(await talk.ask(post(server.http, wrap(
                    rid=rid + 1, sid=sid, type="terminate")))).type is None:
                rid += 1
            answer = Wrapper(await talk.ask(post(server.http, wrap(
                rid=5_000, to=server.domain, wait=1, ver="1.11"))))
            assert answer.condition is None, answer
    assert server.panics() == 0 and server.stop() == 0


async def test_connections_of_one_address_are_bounded(new_server, server_options):
    server = new_server(options=server_options | {
        "limits.links_per_address_max": 8, "limits.http_idle_timeout": 60,
        "limits.http_request_timeout": 60}).start()
    flood = [Talk(server.http) for _ in range(50)]
    served = refused = 0
    try:
        for talk in flood:
            await talk.__aenter__()
            await talk.send(request(server.http))
        for talk in flood:
            try:
                served += (await talk.answer()).status == 200
            except Exception:
                assert await talk.ended() == b""
                refused += 1
    finally:
        for talk in flood:
            await talk.__aexit__()
    assert 1 <= served <= 8 and served + refused == 50
    assert server.panics() == 0 and server.stop() == 0
