"""The JSON protocol for who connects from another address than loopback (classes 14 and 47)."""

import asyncio
import json
import os
import re

import pytest

from clients.chat import COOKIE, User
from harness.namespace import network

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
TLS_REQUIRED = (403, "tls-required")
HANDSHAKE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: encke.v1")


@pytest.fixture(scope="module")
def there():
    with network() as network_of_its_own:
        yield network_of_its_own


@pytest.fixture(scope="module")
def server(new_server, server_options, there):
    everywhere = {name: ["0.0.0.0:0"] for name in ("listen.http", "listen.https", "listen.c2s")}
    server = new_server(options=server_options | everywhere, wrapper=there.words).start()
    yield server
    assert server.panics() == 0 and server.stop() == 0


def ask(there, server, host, octets, kind="http"):
    """The head and the document of one answer."""
    with there.connect((host, getattr(server, kind)[1])) as link:
        if kind == "https":
            link = server.trust().wrap_socket(link, server_hostname=server.domain)
        link.sendall(octets)
        heard = b""
        while True:
            head, end, body = heard.partition(b"\r\n\r\n")
            found = re.search(rb"\r\nContent-Length: (\d+)", head)
            length = int(found[1]) if found else 0
            if end and len(body) >= length:
                link.close()
                return head.decode(), json.loads(body[:length]) if length else {}
            piece = link.recv(4096)
            assert piece, heard
            heard += piece


def status(head):
    return int(head.split(" ")[1])


async def test_nothing_is_said_in_clear(server, there):
    """Neither a password nor a token, whatever the request says of itself; by TLS both may."""
    juliet = User(server, server.account("juliet"))
    opening = juliet.request("POST", "/v1/session", juliet.opening(cookie=True))
    head, said = await asyncio.to_thread(ask, there, server, there.ADDRESS, opening, "https")
    assert status(head) == 201
    juliet.token = said["session"]
    assert f"{COOKIE}={juliet.token};" in head and "; Secure" in head
    for fields in ((), ("X-Forwarded-For: 127.0.0.1",), ("X-Forwarded-Proto: https",)):
        for octets in (
            juliet.request("POST", "/v1/session", juliet.opening(), fields=fields),
            juliet.request("GET", "/v1/session", token=juliet.token, fields=fields),
            juliet.request("GET", "/v1/events", token=juliet.token, fields=fields),
            juliet.request("GET", "/v1/socket", token=juliet.token, fields=(*fields, *HANDSHAKE)),
            juliet.request("POST", "/v1/requests", {"type": "ping"}, token=juliet.token,
                           fields=fields),
            juliet.request("POST", "/v1/topics/weather", "1", token="x" * 16, fields=fields),
        ):
            head, said = await asyncio.to_thread(ask, there, server, there.ADDRESS, octets)
            assert (status(head), said["code"]) == TLS_REQUIRED, octets
    for method, path, fields in (("GET", "/v1/session", ()), ("GET", "/v1/socket", HANDSHAKE),
                                 ("DELETE", "/v1/session", ())):
        octets = juliet.request(method, path, token=juliet.token, fields=fields)
        head, _ = await asyncio.to_thread(ask, there, server, there.ADDRESS, octets, "https")
        assert status(head) in (101, 200, 204), head
