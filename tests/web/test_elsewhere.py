"""Who connects from another address than loopback and is no proxy (classes 14 and 47)."""

import re

import pytest

from clients.bosh import post, wrap
from clients.frames import RawSocket
from clients.http import request
from harness.namespace import network

TLS_REQUIRED = (403, "tls-required")


@pytest.fixture(scope="module")
def there():
    with network() as network_of_its_own:
        yield network_of_its_own


@pytest.fixture(scope="module", params=[1, 2], ids=["one shard", "two shards"])
def server(request, new_server, server_options, there):
    """It listens where everybody in its network can reach it, with and without TLS."""
    everywhere = {name: ["0.0.0.0:0"] for name in ("listen.http", "listen.https", "listen.c2s")}
    options = server_options | everywhere | {"shards.count": request.param}
    server = new_server(options=options, wrapper=there.words).start()
    yield server
    assert server.panics() == 0 and server.stop() == 0


def ask(there, server, host, octets, kind="http"):
    """The status of one answer and, if it is a problem, its code."""
    port = getattr(server, kind)[1]
    with there.connect((host, port)) as link:
        if kind == "https":
            link = server.trust().wrap_socket(link, server_hostname=server.domain)
        link.sendall(octets)
        heard = b""
        while b"\r\n\r\n" not in heard or b"problem" in heard and b"}" not in heard:
            piece = link.recv(4096)
            assert piece, heard
            heard += piece
        link.close()
    code = re.search(rb'"code":\s*"([^"]+)"', heard)
    return int(heard.split(b" ")[1]), code and code.group(1).decode()


def until(link, end):
    heard = b""
    while end not in heard:
        piece = link.recv(4096)
        assert piece, heard
        heard += piece
    return heard


def logins(server, *fields):
    """The first request of a login, for each way in."""
    return {
        "websocket": RawSocket(server).request(add=[field.split(": ") for field in fields]),
        "bosh": post(server.http, wrap(to=server.domain, rid=1000, wait=5, ver="1.11"), *fields),
    }


@pytest.mark.parametrize("way", ["websocket", "bosh"])
def test_no_login_in_clear(server, there, way):
    """Whatever it says of itself; by TLS it may, and this machine may in clear."""
    octets = logins(server)[way]
    assert ask(there, server, there.ADDRESS, octets) == TLS_REQUIRED
    for fields in (("X-Forwarded-For: 127.0.0.1",), ("X-Forwarded-Proto: https",),
                   ("Forwarded: for=127.0.0.1;proto=https",)):
        assert ask(there, server, there.ADDRESS, logins(server, *fields)[way]) == TLS_REQUIRED
    assert ask(there, server, there.ADDRESS, octets, "https")[0] in (101, 200)
    assert ask(there, server, "127.0.0.1", octets)[0] in (101, 200)


def test_no_login_on_tcp_without_starttls(server, there):
    """What it offers in clear is STARTTLS and nothing else, here and from there."""
    header = (f"<stream:stream to='{server.domain}' version='1.0' xmlns='jabber:client' "
              "xmlns:stream='http://etherx.jabber.org/streams'>")
    auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>"
    with there.connect((there.ADDRESS, server.clear[1])) as link:
        link.sendall(header.encode())
        heard = until(link, b"</stream:features>")
        assert b"<required/>" in heard and b"mechanism" not in heard, heard
        link.sendall(auth.encode())
        heard = until(link, b"</failure>")
    assert b"<encryption-required" in heard, heard


def test_the_counters_are_for_this_machine(server, there):
    octets = request(server.http, "GET /metrics HTTP/1.1")
    for kind in ("http", "https"):
        assert ask(there, server, there.ADDRESS, octets, kind) == (403, "forbidden")
        assert ask(there, server, "127.0.0.1", octets, kind) == (200, None)


def test_everybody_may_ask_for_the_rest(server, there):
    octets = request(server.http)
    assert ask(there, server, there.ADDRESS, octets) == (200, None)
