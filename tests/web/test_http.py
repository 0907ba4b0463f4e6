"""What the HTTP side says to browsers and balancers; read by Python's own library."""

import json
import os
import re
import socket
from xml.etree import ElementTree

import pytest

from clients.http import fetch
from clients.websocket import PATH

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own resources"
)
XRD = "{http://docs.oasis-open.org/ns/xri/xrd-1.0}"
RELATION = "urn:xmpp:alt-connections:websocket"


def links(server, scheme="http", **headers):
    """The links of host-meta as pairs, from both forms, which must agree."""
    status, head, body = fetch(server, "/.well-known/host-meta", scheme, **headers)
    assert (status, head.get_content_type()) == (200, "application/xrd+xml")
    assert head["Access-Control-Allow-Origin"] == "*", "XEP-0156, section 3"
    root = ElementTree.fromstring(body)
    assert root.tag == f"{XRD}XRD"
    by_xml = [(link.get("rel"), link.get("href")) for link in root.iter(f"{XRD}Link")]

    status, head, body = fetch(server, "/.well-known/host-meta.json", scheme, **headers)
    assert (status, head.get_content_type()) == (200, "application/json")
    assert head["Access-Control-Allow-Origin"] == "*"
    by_json = [(link["rel"], link["href"]) for link in json.loads(body)["links"]]
    assert by_xml == by_json
    return by_xml


@pytest.mark.parametrize("scheme, expected", [("http", "ws"), ("https", "wss")])
async def test_host_meta_says_where_the_websocket_is(server, web, scheme, expected):
    """And it is there: a client that goes where it is told logs in."""
    host, port = getattr(server, scheme)
    found = dict(links(server, scheme))
    assert found[RELATION] == f"{expected}://{host}:{port}{PATH}"
    juliet = await web(server.account("juliet"), url=found[RELATION],
                       direct_tls=scheme == "https")
    await juliet.ping()


def test_host_meta_says_the_public_address(new_server, server_options):
    server = new_server(options=server_options | {
        "http.public_url": "https://chat.example.org"}).start()
    assert dict(links(server))[RELATION] == f"wss://chat.example.org{PATH}"
    assert server.stop() == 0


def test_host_meta_cannot_be_made_to_say_markup(server):
    for host in ("a'><script>", 'a"b', "a b", "<x/>"):
        status, _, body = fetch(server, "/.well-known/host-meta", Host=host)
        assert status == 400, body


@pytest.mark.parametrize("path, said", [("/healthz", b"ok"), ("/readyz", b"ready")])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_balancers_are_told(server, path, said, scheme):
    status, headers, body = fetch(server, path, scheme)
    assert (status, body.strip()) == (200, said)
    assert headers.get_content_type() == "text/plain"
    status, headers, body = fetch(server, path, scheme, method="HEAD")
    assert (status, body) == (200, b"") and int(headers["Content-Length"]) == len(said) + 1
    status, headers, _ = fetch(server, path, scheme, method="DELETE")
    assert status == 405 and "GET" in headers["Allow"]


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/", "/healthz%2f", "/.well-known/",
                                  "/healthz/../metrics", "/%2e%2e/healthz", "//healthz"])
def test_what_is_not_there_is_not_there(server, path):
    status, headers, body = fetch(server, path)
    assert status in (400, 404), body
    if headers.get_content_type() == "application/problem+json":
        assert re.fullmatch("[a-z-]+", json.loads(body)["code"])


def test_the_certificate_is_the_servers(server):
    context = server.trust()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(server.https, timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=server.domain) as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
            assert tls.version() in ("TLSv1.2", "TLSv1.3")
