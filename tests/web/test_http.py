"""What the HTTP side says to browsers, balancers and Prometheus; read by Python's own library."""

import json
import os
import re
import socket
import urllib.error
import urllib.request
from xml.etree import ElementTree

import pytest
from prometheus_client.openmetrics import parser

from clients.websocket import PATH

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own resources"
)
XRD = "{http://docs.oasis-open.org/ns/xri/xrd-1.0}"
RELATION = "urn:xmpp:alt-connections:websocket"


def fetch(server, path, scheme="http", method="GET", **headers):
    """The answer: status, headers and body, also if it is a refusal."""
    host, port = getattr(server, scheme)
    context = server.trust() if scheme == "https" else None
    request = urllib.request.Request(f"{scheme}://{host}:{port}{path}", method=method,
                                     headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        answer = urllib.request.urlopen(request, timeout=10, context=context)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        return answer.status, answer.headers, answer.read()


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


def families(server):
    status, headers, body = fetch(server, "/metrics")
    assert status == 200
    assert headers.get_content_type() == "application/openmetrics-text"
    assert headers.get_param("version") == "1.0.0"
    assert body.endswith(b"# EOF\n")
    return {family.name: family for family in parser.text_string_to_metric_families(body.decode())}


def total(family, **labels):
    fits = [sample.value for sample in family.samples if labels.items() <= sample.labels.items()]
    assert fits, f"{family.name} has no sample with {labels}"
    return sum(fits)


async def test_metrics_count_sessions_by_transport_and_messages(server, web, slix):
    def now():
        found = families(server)
        sessions = [total(found["encke_sessions"], transport=name) for name in ("tcp", "websocket")]
        return [*sessions, total(found["encke_messages_delivered"])]

    before = now()
    romeo = await slix(server.account("romeo"))
    juliet = await web(server.account("juliet"))
    romeo.send_message(juliet.jid, "count me", mtype="chat")
    await juliet.body("count me")
    assert now() == [before[0] + 1, before[1] + 1, before[2] + 1]
    await juliet.close()
    await romeo.leave()


def test_metrics_are_for_this_machine_only(server):
    for headers in ({"X_Forwarded_For": "203.0.113.5"}, {"Forwarded": "for=203.0.113.5"}):
        status, _, body = fetch(server, "/metrics", **headers)
        assert status == 403 and b"encke_" not in body


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
