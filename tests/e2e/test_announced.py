"""The strings that clients gate on, where they look for them; and nothing that is not served.

A missing string switches off a feature in somebody's client without a word. What encke announces
is kept in snapshots/announced.txt: `TESTS_UPDATE=1 tests/all e2e` writes it anew, and the change
is then reviewed like any other.
"""

import base64
import hashlib
import os
from pathlib import Path

import pytest

from harness.raw import BIND, SASL, SM, STREAM, TLS, Client

SNAPSHOT = Path(__file__).parent / "snapshots" / "announced.txt"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"
CAPS = "http://jabber.org/protocol/caps"

ON_SERVER = {INFO, ITEMS, "urn:xmpp:carbons:2", "urn:xmpp:blocking", "urn:xmpp:ping",
             "jabber:iq:version", "jabber:iq:last", "urn:xmpp:time", "vcard-temp",
             "jabber:iq:private", "msgoffline"}
ON_ACCOUNT = {INFO, ITEMS, "urn:xmpp:sid:0", "vcard-temp"}
# Not served yet: clients would use them and fail.
ABSENT = {"urn:xmpp:mam:2", "http://jabber.org/protocol/muc", "jabber:iq:register",
          "urn:xmpp:http:upload:0", "urn:xmpp:push:0", "http://jabber.org/protocol/pubsub",
          "http://jabber.org/protocol/compress", "urn:xmpp:sasl:2"}


async def ask(client, namespace, to):
    answer = await client.iq("get", f"<query xmlns='{namespace}'/>", to)
    return answer.find(f"{{{namespace}}}query")


def features(query):
    return {feature.get("var") for feature in query.iter(f"{{{INFO}}}feature")}


def identities(query):
    return {(i.get("category"), i.get("type")) for i in query.iter(f"{{{INFO}}}identity")}


def names(stream_features):
    """The names of stream features, in Clark's notation."""
    return {element.tag for element in stream_features}


async def test_stream_features_before_tls(server):
    async with Client(server, server.account("client")) as client:
        await client.connect()
        offered = await client.open()
        assert names(offered) - {"{urn:xmpp:stream-limits:0}limits"} == {f"{{{TLS}}}starttls"}
        assert offered.find(f"{{{TLS}}}starttls/{{{TLS}}}required") is not None


async def test_stream_features_before_login(server):
    async with Client(server, server.account("client")) as client:
        await client.connect(direct_tls=True)
        offered = await client.open()
        mechanisms = {m.text for m in offered.iter(f"{{{SASL}}}mechanism")}
        assert {"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"} <= mechanisms
        if server.kind == "encke":
            assert {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"} <= mechanisms
            bindings = {b.get("type") for b in offered.iter("{urn:xmpp:sasl-cb:0}channel-binding")}
            assert bindings == {"tls-exporter", "tls-server-end-point"}


async def test_stream_features_after_login(server):
    async with Client(server, server.account("client")) as client:
        await client.authenticate()
        wanted = {f"{{{BIND}}}bind", f"{{{SM}}}sm", "{urn:xmpp:csi:0}csi",
                  "{urn:xmpp:features:rosterver}ver", f"{{{CAPS}}}c"}
        assert wanted <= names(client.features), client.story()


async def test_what_the_server_says_of_itself(server, connect):
    client = await connect(server.account("client"))
    query = await ask(client, INFO, server.domain)
    assert ("server", "im") in identities(query)
    if server.kind == "encke":
        assert ON_SERVER - features(query) == set()
        assert ABSENT & features(query) == set()


async def test_what_the_server_says_of_an_account(server, connect):
    client = await connect(server.account("client"))
    query = await ask(client, INFO, client.account.jid)
    assert ("account", "registered") in identities(query)
    if server.kind == "encke":
        assert ON_ACCOUNT - features(query) == set()
        assert ABSENT & features(query) == set()


async def test_a_stranger_learns_nothing_of_an_account(server, connect):
    client = await connect(server.account("client"))
    other = server.account("other")
    known = await client.iq("get", f"<query xmlns='{INFO}'/>", other.jid, expect=None)
    unknown = await client.iq("get", f"<query xmlns='{INFO}'/>", f"nobody@{server.domain}",
                              expect=None)
    assert known.get("type") == unknown.get("type") == "error"


async def test_the_list_of_items_is_answered(server, connect):
    client = await connect(server.account("client"))
    assert await ask(client, ITEMS, server.domain) is not None
    assert await ask(client, ITEMS, client.account.jid) is not None


async def test_the_hash_in_the_stream_features_is_that_of_the_answer(server, connect):
    """XEP-0115: a client that knows the hash does not ask, so it must be true."""
    client = await connect(server.account("client"))
    caps = client.features.find(f"{{{CAPS}}}c")
    node = f"{caps.get('node')}#{caps.get('ver')}"
    answer = await client.iq("get", f"<query xmlns='{INFO}' node='{node}'/>", server.domain)
    query = answer.find(f"{{{INFO}}}query")
    assert caps.get("hash") == "sha-1"
    assert verification(query) == caps.get("ver")


async def test_what_is_announced_is_what_was_agreed(server, connect):
    """The whole of it, against the snapshot."""
    if server.kind != "encke":
        pytest.skip("the snapshot is encke's")
    client = await connect(server.account("client"))
    lines = []
    for title, to in (("server", server.domain), ("account", client.account.jid)):
        query = await ask(client, INFO, to)
        lines += [f"{title} identity {'/'.join(i)}" for i in sorted(identities(query))]
        lines += [f"{title} feature {feature}" for feature in sorted(features(query))]
    lines += [f"stream feature {name}" for name in sorted(names(client.features))]
    text = "\n".join(lines) + "\n"
    if os.environ.get("TESTS_UPDATE"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(text)
    assert SNAPSHOT.exists(), "no snapshot yet: TESTS_UPDATE=1 tests/all e2e"
    assert text == SNAPSHOT.read_text()


def verification(query):
    """The verification string of XEP-0115, section 5.1."""
    parts = sorted(
        "/".join((i.get("category", ""), i.get("type", ""),
                  i.get("{http://www.w3.org/XML/1998/namespace}lang", ""), i.get("name", "")))
        for i in query.iter(f"{{{INFO}}}identity")
    )
    parts += sorted(features(query))
    forms = []
    for form in query.iter("{jabber:x:data}x"):
        fields = {
            f.get("var"): sorted(v.text or "" for v in f.iter("{jabber:x:data}value"))
            for f in form.iter("{jabber:x:data}field")
        }
        kind = fields.pop("FORM_TYPE", [""])[0]
        rest = [part for name in sorted(fields) for part in (name, *fields[name])]
        forms.append([kind, *rest])
    for form in sorted(forms):
        parts += form
    joined = "".join(part + "<" for part in parts)
    return base64.b64encode(hashlib.sha1(joined.encode()).digest()).decode()
