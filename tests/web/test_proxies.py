"""Who asks, when proxies are between: who is believed, and what for (classes 14, 21 and 47).

Everybody here is on loopback, so a proxy is whoever the options call one.
"""

import pytest
import pytest_asyncio

from clients import bosh
from clients.bosh import WAIT, post, wrap
from clients.frames import RawSocket
from clients.http import Talk, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Wrong passwords at once: far more than cost nothing, so that the next attempt has long to wait.
WRONG = 12


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"http.proxies": ["127.0.0.0/8"], "shards.count": 2}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def untrusting(new_server, server_options):
    """The same server, to which nobody is a proxy."""
    server = new_server(options=server_options | {"http.proxies": []}).start()
    yield server
    assert server.panics() == 0 and server.stop() == 0


def told(address, *more):
    """The fields of a request that a proxy passes on."""
    return (f"X-Forwarded-For: {address}", *more)


async def fumble(server, account, *fields):
    await bosh.fumble(server, account, WRONG, fields=fields)


async def verdict(server, account, *fields):
    return await bosh.verdict(server, account, fields=fields)


async def test_wrong_passwords_of_one_client_do_not_slow_another(server, unnoticed):
    """Both come through the same proxy; only who was wrong has to wait."""
    account = server.account("juliet")
    await fumble(server, account, *told("203.0.113.7"))
    assert await verdict(server, account, *told("203.0.113.8")) is None
    assert await verdict(server, account) is None, "nor the proxy's own host"
    assert await verdict(server, account, *told("203.0.113.7")) == WAIT


@pytest.mark.parametrize("title, first, second", [
    ("what stands left of a stranger is the stranger's own word",
     "198.51.100.1, 203.0.113.9", "198.51.100.2, 203.0.113.9"),
    ("nor do more lines help", "a, b, 203.0.113.10", "x\r\nX-Forwarded-For: 203.0.113.10"),
    ("proxies behind proxies", "203.0.113.11, 127.0.0.9, 127.0.0.8", "203.0.113.11"),
    ("ports do not count", "203.0.113.12:1000", "203.0.113.12:2000"),
    ("IPv4 in IPv6", "::ffff:203.0.113.13", "203.0.113.13"),
    ("a network of IPv6", "2001:db8::1", "[2001:db8::2]:443"),
    ("what is no address is the proxy", "unknown", "evil"),
    ("a stranger in front of what is no address", "203.0.113.14, evil", "203.0.113.15, evil"),
], ids=lambda value: value if " " in value else "")
async def test_who_it_is(server, unnoticed, title, first, second):
    """Both are the same client, so the second one has to wait too."""
    account = server.account("juliet")
    await fumble(server, account, *told(first))
    assert await verdict(server, account, *told(second)) == WAIT, title


async def test_strangers_are_not_believed(untrusting, unnoticed):
    """Who is no proxy may write what it likes: it has one address, and has to wait."""
    account = untrusting.account("juliet")
    await fumble(untrusting, account, *told("203.0.113.7"))
    for fields in (told("203.0.113.8"), ("Forwarded: for=203.0.113.8",), ()):
        assert await verdict(untrusting, account, *fields) == WAIT, fields


async def test_the_other_field_is_not_read(server, unnoticed):
    """`http.proxy_header` says which one the proxy writes; the other is the client's word."""
    account = server.account("juliet")
    await fumble(server, account, *told("203.0.113.20", "Forwarded: for=198.51.100.1"))
    fields = told("203.0.113.20", "Forwarded: for=198.51.100.2")
    assert await verdict(server, account, *fields) == WAIT


async def test_forwarded(new_server, server_options, unnoticed):
    """RFC 7239; the address inside of it may be written in several ways."""
    server = new_server(options=server_options | {"http.proxy_header": "forwarded"}).start()
    account = server.account("juliet")
    await fumble(server, account, 'Forwarded: for="[2001:db8::1]:80";proto=https')
    for lines, expected in ((("Forwarded: for=203.0.113.1",), None),
                            (("X-Forwarded-For: 2001:db8::1",), None),
                            (('Forwarded: For="[2001:DB8::1]";by=x', "X-Forwarded-For: a"), WAIT),
                            (("Forwarded: for=a", 'Forwarded: b=c;for="[2001:db8::2]"'), WAIT)):
        assert await verdict(server, account, *lines) == expected, lines
    assert server.panics() == 0 and server.stop() == 0


def ways_in(server, *fields):
    return {
        "bosh": post(server.http, wrap(to=server.domain, rid=1000, wait=5, ver="1.11"), *fields),
        "websocket": RawSocket(server).request(add=[field.split(": ") for field in fields]),
    }


async def ask(server, octets):
    async with Talk(server.http) as talk:
        return await talk.ask(octets)


@pytest.mark.parametrize("way", ["bosh", "websocket"])
async def test_a_login_that_went_in_clear_is_refused(server, unnoticed, way):
    """The proxy says that the client's own connection to it had no TLS (c2s.require_tls)."""
    octets = ways_in(server, *told("203.0.113.7", "X-Forwarded-Proto: http"))[way]
    answer = await ask(server, octets)
    assert answer.status == 403 and answer.code == "tls-required", answer


@pytest.mark.parametrize("way", ["bosh", "websocket"])
@pytest.mark.parametrize("fields", [
    told("203.0.113.7", "X-Forwarded-Proto: https"), told("203.0.113.7"),
    told("127.0.0.1", "X-Forwarded-Proto: http"), ("X-Forwarded-Proto: http",),
], ids=["by TLS", "unsaid", "this machine", "the proxy's machine"])
async def test_other_logins_are_not(server, unnoticed, way, fields):
    answer = await ask(server, ways_in(server, *fields)[way])
    assert answer.status in (101, 200), answer


@pytest.mark.parametrize("way", ["bosh", "websocket"])
async def test_a_stranger_s_word_about_tls_is_nothing(untrusting, unnoticed, way):
    for scheme in ("http", "https"):
        octets = ways_in(untrusting, *told("203.0.113.7", f"X-Forwarded-Proto: {scheme}"))[way]
        assert (await ask(untrusting, octets)).status in (101, 200)


@pytest.mark.parametrize("fields", [
    told("203.0.113.5"), told("127.0.0.1"), told(""), told("evil"),
    told("127.0.0.1", "X-Forwarded-For: 203.0.113.5"), ("Forwarded: for=127.0.0.1",),
    ("Forwarded: evil",), ("x-forwarded-for: 127.0.0.1",),
], ids=str)
async def test_counters_are_not_passed_on(server, untrusting, unnoticed, fields):
    for each in (server, untrusting):
        answer = await ask(each, request(each.http, "GET /metrics HTTP/1.1", *fields))
        assert answer.status == 403 and b"encke_" not in answer.body, answer


async def test_the_scheme_of_a_page_is_what_the_proxy_says(server, unnoticed):
    """A page of this very host, by TLS as far as the proxy, is no foreign page."""
    host = "{}:{}".format(*server.http)
    for scheme, status in (("https", 200), ("http", 403)):
        fields = told("203.0.113.7", f"X-Forwarded-Proto: {scheme}", f"Origin: https://{host}")
        assert (await ask(server, ways_in(server, *fields)["bosh"])).status == status


async def test_host_meta_behind_a_proxy(server, untrusting, unnoticed):
    fields = told("203.0.113.7", "X-Forwarded-Proto: https")
    for each, scheme in ((server, b"wss://"), (untrusting, b"ws://")):
        answer = await ask(each, request(each.http, "GET /.well-known/host-meta HTTP/1.1",
                                         *fields))
        assert b"'" + scheme in answer.body, answer
