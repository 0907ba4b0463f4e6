"""Classes 13-23: before a session exists."""

import asyncio
import base64
import contextlib
import ssl

from harness.raw import Client, Closed, Scram

from steps import (Do, Hears, Row, Send, VictimNeverHears, auth, b64, body, closes, plain, response,
                   scram)

STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
REFUSED = Hears("<failure.*?(not-authorized|malformed-request|invalid-authzid|incorrect-encoding|"
                "invalid-mechanism|aborted)")
NOBODY_HEARS = VictimNeverHears("evil-text")


def never_in():
    """No form of this row may have ended in a success."""

    async def check(peer, stage):
        assert b"<success" not in peer.received, peer.story()

    return Do(check)


async def _none_offered(peer, stage):
    assert b"<mechanism>" not in peer.received and b"starttls" in peer.received, peer.story()


async def _what_follows_starttls(peer, stage):
    """The octets behind <starttls/> must not be read as if they had come under TLS."""
    await peer.send(STARTTLS + auth("PLAIN", b64("\0x\0y")) + "<evil/>")
    with contextlib.suppress(Closed, AssertionError):
        await peer.hear("proceed|stream:error", timeout=5)
    assert b"failure" not in peer.received and b"success" not in peer.received, peer.story()
    peer.writer.close()


async def _handshake(stage, minimum, maximum, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version, context.maximum_version = minimum, maximum
    if ciphers:
        context.set_ciphers(ciphers)
    host, port = stage.server.tls
    return await asyncio.open_connection(host, port, ssl=context, server_hostname="encke.test")


def _old_tls(version):
    async def run(peer, stage):
        try:
            _, writer = await _handshake(stage, version, version, "ALL:@SECLEVEL=0")
        except (ssl.SSLError, ConnectionError):
            return
        writer.close()
        raise AssertionError(f"the server spoke {version.name}")

    return Do(run)


async def _garbage_for_a_handshake(peer, stage):
    host, port = stage.server.tls
    for octets in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"A" * 70_000,
                   b"\x80\x2e\x01\x00\x02", b"\0" * 5_000):
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.suppress(OSError):
            writer.write(octets)
            await writer.drain()
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def _many_wrong_passwords(peer, stage):
    """A stream gets a handful of attempts, then it ends."""
    # Nobody of the other rows: who fails often has to wait.
    fumbler = stage.server.account("fumbler")
    try:
        for attempt in range(25):
            await peer.send(plain(f"\0{fumbler.name}\0wrong{attempt}"))
            await peer.next()
    except Closed:
        assert attempt <= 6, f"{attempt} attempts were allowed"
        return
    raise AssertionError("25 wrong passwords on one stream")


async def _unknown_and_known_sound_alike(peer, stage):
    """The whole SCRAM exchange, and PLAIN, for a name that exists and one that does not."""
    heard = {}
    for name in (stage.server.victim.name, "nobody-at-all"):
        answers = []
        for mechanism, digest in (("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-1", "sha1")):
            probe = Client(stage.server, stage.server.victim)
            async with probe:
                await probe.connect(direct_tls=True)
                await probe.open()
                exchange = Scram(name, "wrong", digest)
                await probe.send(auth(mechanism, exchange.first()))
                challenge = await probe.next()
                fields = base64.b64decode(challenge.text).decode().split(",")
                answers.append([f"{field[:2]}{len(field)}" for field in fields[:2]]
                               + [fields[2]])
                await probe.send(response(exchange.final(challenge.text)))
                failure = await probe.next()
                answers.append(sorted(child.tag for child in failure))
        heard[name] = answers
    first, second = heard.values()
    assert first == second, f"{first}\n{second}"


async def _the_salt_of_nobody_stays(peer, stage):
    """A salt that changes with each try says: there is no such user."""
    salts = set()
    for _ in range(2):
        probe = Client(stage.server, stage.server.victim)
        async with probe:
            await probe.connect(direct_tls=True)
            await probe.open()
            await probe.send(auth("SCRAM-SHA-256", Scram("nobody-at-all", "x").first()))
            challenge = base64.b64decode((await probe.next()).text).decode()
            salts.add(challenge.split(",")[1])
    assert len(salts) == 1


async def _identifiers_are_long_and_new(peer, stage):
    stream_ids, session_ids = set(), set()
    for number in range(5):
        client = await stage.person(stage.server.hostile, f"r{number}", managed=True)
        session_ids.add(client.resumption)
        stream_ids.add(client._root.get("id"))
    assert len(stream_ids) == len(session_ids) == 5
    assert all(len(ident) >= 20 for ident in session_ids | stream_ids), (stream_ids, session_ids)


async def _no_renegotiation(peer, stage):
    """TLS 1.2 with a client that asks again: the library knows no such thing; the link may end."""
    _, writer = await _handshake(stage, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"{stage.server.tls[0]}:{stage.server.tls[1]}",
        "-tls1_2", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(b"R\nR\nR\n"), 20)
    writer.close()
    assert said.count(b"RENEGOTIATING") <= 1 or b"no renegotiation" in said, said[-500:]


def _unauthenticated(stanza):
    return [stanza, closes("not-authorized", "policy-violation", "unsupported-stanza-type"),
            NOBODY_HEARS]


STANZAS = (
    ("a message", body("evil-text")),
    ("a message from an admin", "<message from='admin@{domain}' to='{victim}'><body>evil-text"
     "</body></message>"),
    ("presence", "<presence to='{victim}'><status>evil-text</status></presence>"),
    ("an iq", "<iq type='get' id='1' to='{domain}'><query "
     "xmlns='http://jabber.org/protocol/disco#info'/></iq>"),
    ("bind", "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"),
    ("resume", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"),
)

ROWS = [
    Row(13, "a login in the segment of <starttls/>", "clear", [Do(_what_follows_starttls)]),

    Row(14, "no password in clear", "clear", [
        plain("\0{name}\0{password}"),
        Hears("(encryption-required|invalid-mechanism|not-authorized|policy-violation)"),
        never_in()]),
    Row(14, "no SCRAM in clear", "clear", [
        auth("SCRAM-SHA-256", b64("n,,n=x,r=abcdefghijkl")),
        Hears("(encryption-required|invalid-mechanism|not-authorized|policy-violation)"),
        never_in()]),
    Row(14, "no mechanism is offered in clear", "clear", [Do(_none_offered)]),
    Row(14, "TLS 1.0", "tcp", [_old_tls(ssl.TLSVersion.TLSv1)]),
    Row(14, "TLS 1.1", "tcp", [_old_tls(ssl.TLSVersion.TLSv1_1)]),
    Row(14, "a handshake of garbage", "tcp", [Do(_garbage_for_a_handshake)]),
    Row(15, "renegotiation", "tcp", [Do(_no_renegotiation)]),

    Row(16, "another's name as authorization identity", "tls",
        [Send(lambda w: plain(f"{w['victim_bare']}\0{w['name']}\0{w['password']}")), REFUSED,
         never_in()]),
    Row(16, "another's local part as authorization identity", "tls",
        [Send(lambda w: plain(f"{w['victim_name']}\0{w['name']}\0{w['password']}")), REFUSED,
         never_in()]),
    Row(16, "another's name in SCRAM's a=", "tls",
        [Send(lambda w: auth("SCRAM-SHA-256", b64(
            f"n,a={w['victim_bare']},n={w['name']},r=abcdefghijklmnop"))), REFUSED, never_in()]),

    *[
        Row(17, title, "tls", [Send(lambda w, secret=secret: plain(
            secret.replace("NAME", w["name"]).replace("PASSWORD", w["password"]))), REFUSED,
            never_in()])
        for title, secret in (
            ("PLAIN with a fourth part", "\0NAME\0PASSWORD\0x"),
            ("PLAIN with one part", "NAME"), ("PLAIN with two parts", "NAME\0PASSWORD"),
            ("PLAIN with an empty name", "\0\0PASSWORD"),
            ("PLAIN with an empty password", "\0NAME\0"),
        )
    ],
    Row(17, "PLAIN in octets that are no UTF-8", "tls", [plain(b"\0\xff\xfe\0\xff"), REFUSED]),
    Row(17, "what is no base64", "tls", [auth("PLAIN", "###"), REFUSED]),
    Row(17, "base64 with junk behind its padding", "tls", [auth("PLAIN", "AGEAYg==AGEAYg=="),
                                                           REFUSED]),
    Row(17, "a mechanism that does not exist", "tls", [auth("EVIL-5", ""), REFUSED]),
    Row(17, "a response without a challenge", "tls", [
        response("AAAA"), Hears("failure|stream:error"), never_in()]),
    *[
        Row(17, f"SCRAM: {title}", "tls", [Send(lambda w, first=first: auth(
            "SCRAM-SHA-256", b64(first.replace("NAME", w["name"])))), REFUSED, never_in()])
        for title, first in (
            ("the mandatory extension m=", "n,,m=x,n=NAME,r=abcdefghijkl"),
            ("p= on a mechanism without PLUS", "p=tls-exporter,,n=NAME,r=abcdefghijkl"),
            ("an empty nonce", "n,,n=NAME,r="), ("an empty name", "n,,n=,r=abcdefghijkl"),
            ("no gs2 header", "n=NAME,r=abcdefghijkl"), ("a bad escape", "n,,n=a=XX,r=abcdefgh"),
            ("an unknown gs2 flag", "z,,n=NAME,r=abcdefghijkl"),
            ("a nonce with a control character", "n,,n=NAME,r=abc\x01def"),
            ("parts out of order", "n,,r=abcdefghijkl,n=NAME"),
        )
    ],
    Row(17, "SCRAM: an empty first message", "tls", [auth("SCRAM-SHA-256", "="), REFUSED,
                                                     never_in()]),
    Row(17, "SCRAM: the nonce cut short", "tls", [scram(nonce="abc"), REFUSED, never_in()]),
    Row(17, "SCRAM: an honest login with an extension still works", "tls",
        [scram(extra=",x=1"), Hears("<success|not-authorized|malformed")]),

    Row(18, "y although PLUS was offered", "tls", [scram(header="y,,"), REFUSED, never_in()]),
    Row(18, "the gs2 header changes between the messages", "tls",
        [scram(gs2="y,,"), REFUSED, never_in()]),
    Row(18, "PLUS bound to another connection", "tls",
        [scram("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", binding=b"\0" * 32), REFUSED, never_in()]),
    Row(18, "PLUS with a binding nobody knows", "tls",
        [scram("SCRAM-SHA-256-PLUS", "p=tls-evil,,"), REFUSED, never_in()]),
    Row(18, "PLUS without a binding", "tls",
        [scram("SCRAM-SHA-256-PLUS", "n,,"), REFUSED, never_in()]),

    Row(20, "an unknown user sounds like a wrong password", "tcp",
        [Do(_unknown_and_known_sound_alike)]),
    Row(20, "the salt of nobody stays the same", "tcp", [Do(_the_salt_of_nobody_stays)]),

    Row(21, "25 wrong passwords on one stream", "tls", [Do(_many_wrong_passwords)]),

    Row(22, "stream and resumption ids cannot be guessed", "tcp", [Do(_identifiers_are_long_and_new)]),

    *[Row(23, f"{title} before TLS", "clear", _unauthenticated(stanza)) for title, stanza in STANZAS],
    *[Row(23, f"{title} before login", "tls", _unauthenticated(stanza)) for title, stanza in STANZAS],
    *[Row(23, f"{title} before bind", "authenticated", _unauthenticated(stanza))
      for title, stanza in STANZAS[:3]],
    Row(23, "an iq to somebody before bind", "authenticated", _unauthenticated(
        "<iq type='get' id='1' to='{victim}'><query xmlns='evil-text'/></iq>")),
    # RFC 6120 section 7.1 lets the server answer what is for itself.
    Row(23, "an iq to the server before bind", "authenticated", [
        STANZAS[3][1], Hears("type=.error|not-authorized")]),
]
