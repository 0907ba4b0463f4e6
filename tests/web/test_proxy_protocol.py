"""Behind proxies that pass on octets and say whose they are (PROXY protocol)."""

import pytest

from clients.bosh import WAIT, fumble, post, verdict, wrap
from clients.frames import RawSocket
from clients.http import Hangup, Talk, request
from clients.nginx import Relay
from clients.websocket import PATH

# Wrong passwords: far more than cost nothing, so that the next attempt has long to wait.
WRONG = 12
ELSEWHERE, NEARBY = "203.0.113.7", "203.0.113.8"


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"http.proxies": ["127.0.0.0/8"], "http.proxy_protocol": True}


@pytest.fixture(scope="module")
def relay(server, tmp_path_factory):
    """Makes nginx in front of an address of the server's."""
    made = []

    def new(upstream, **how):
        made.append(Relay(tmp_path_factory.mktemp("relay"), upstream, **how))
        return made[-1].address

    yield new
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def clear(server, relay):
    return relay(server.http)


@pytest.fixture(scope="module")
def sealed(server, relay):
    return relay(server.https)


@pytest.fixture(scope="module")
def strangers(server, relay):
    """nginx that serves whoever another proxy names, which here is the test itself."""
    return relay(server.http, listens_for_it=True)


def named(address):
    return f"PROXY TCP4 {address} 192.0.2.1 4711 443\r\n".encode()


async def ask(address, octets, before=b""):
    async with Talk(address) as talk:
        await talk.send(before)
        return await talk.ask(octets)


async def test_a_login_through_tls_that_the_proxy_does_not_open(server, sealed, web):
    """The client sees the server's own certificate, on whatever port."""
    url = "wss://{}:{}{}".format(*sealed, PATH)
    juliet = await web(server.account("juliet"), url=url, direct_tls=True)
    await juliet.message(juliet.jid, "𝄞" * 20_000, "1")
    await juliet.body("𝄞" * 20_000)
    await juliet.close()
    assert juliet.close_code == 1000


async def test_a_login_from_this_machine_in_clear(server, clear, web):
    juliet = await web(server.account("juliet"), url="ws://{}:{}{}".format(*clear, PATH))
    await juliet.message(juliet.jid, "hello", "1")
    await juliet.body("hello")


@pytest.mark.parametrize("way", ["bosh", "websocket"])
async def test_a_login_from_elsewhere_in_clear_is_refused(server, strangers, way):
    """c2s.require_tls, whatever the client writes itself."""
    lies = ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https")
    for fields in ((), lies):
        octets = {
            "bosh": post(server.http, wrap(to=server.domain, rid=1000, wait=5, ver="1.11"),
                         *fields),
            "websocket": RawSocket(server).request(add=[field.split(": ") for field in fields]),
        }[way]
        answer = await ask(strangers, octets, named(ELSEWHERE))
        assert (answer.status, answer.code) == (403, "tls-required"), answer
        answer = await ask(strangers, octets, named("127.0.0.1"))
        assert answer.status in (101, 200), answer


async def test_nobody_reads_the_counters_through_it(server, clear, sealed):
    octets = request(server.http, "GET /metrics HTTP/1.1")
    answer = await ask(clear, octets)
    assert answer.status == 403 and b"encke_" not in answer.body


@pytest.fixture(params=["http", "https"])
def unrelayed(request, server):
    return getattr(server, request.param)


async def test_who_does_not_say_it_is_not_answered(server, unrelayed):
    for octets in (request(server.http), b"PROXY TCP4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11\0\0\0"):
        with pytest.raises(Hangup):
            await ask(unrelayed, octets)


async def test_wrong_passwords_count_for_the_client_that_is_named(new_server, server_options,
                                                                  tmp_path):
    """Both come through the same proxy; only who was wrong has to wait."""
    options = server_options | {"c2s.require_tls": False, "shards.count": 2}
    server = new_server(options=options).start()
    account = server.account("juliet")
    relay = Relay(tmp_path, server.http, listens_for_it=True)

    there = {"address": relay.address, "before": named(ELSEWHERE)}
    try:
        await fumble(server, account, WRONG, **there)
        assert await verdict(server, account, address=relay.address, before=named(NEARBY)) is None
        assert await verdict(server, account, **there) == WAIT
    finally:
        relay.close()
    assert server.panics() == 0 and server.stop() == 0
