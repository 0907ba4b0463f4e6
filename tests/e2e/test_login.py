"""Logging in with channel binding, which few clients can: SCRAM by hand over OpenSSL."""

import base64
import hashlib
import re
import socket

import pytest
from OpenSSL import SSL

from harness.raw import SASL, Client, Scram

DIGESTS = {"SCRAM-SHA-256-PLUS": "sha256", "SCRAM-SHA-1-PLUS": "sha1"}


class BoundLink:
    """A blocking link by pyOpenSSL, which hands out keying material as RFC 9266 needs it."""

    def __init__(self, server, version=None):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(server.authority.file))
        context.set_verify(SSL.VERIFY_PEER, lambda *args: bool(args[-1]))
        if version:
            context.set_max_proto_version(version)
        plain = socket.create_connection(server.tls, timeout=10)
        plain.setblocking(True)
        self.tls = SSL.Connection(context, plain)
        self.tls.set_tlsext_host_name(server.domain.encode())
        self.tls.set_connect_state()
        self.tls.do_handshake()
        self.heard = b""

    def binding(self, kind):
        if kind == "tls-exporter":
            return self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        from cryptography.hazmat.primitives.serialization import Encoding

        certificate = self.tls.get_peer_certificate().to_cryptography()
        return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()

    def say(self, text, pattern):
        """Sends and reads until the answer matches."""
        self.tls.sendall(text.encode())
        while not (found := re.search(pattern, self.heard.decode())):
            self.heard += self.tls.recv(65536)
        self.heard = b""
        return found


def log_in(server, account, mechanism, kind, binding=None):
    link = BoundLink(server)
    exchange = Scram(account.name, account.password, DIGESTS[mechanism], f"p={kind},,",
                     binding or link.binding(kind))
    link.say(Client(server, account).header(), "</stream:features>|</features>")
    challenge = link.say(
        f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{exchange.first()}</auth>",
        "<challenge[^>]*>([^<]*)<",
    )
    answer = link.say(
        f"<response xmlns='{SASL}'>{exchange.final(challenge.group(1))}</response>",
        "<success[^>]*>([^<]*)<|<failure.*</failure>",
    )
    link.tls.close()
    return exchange, answer


@pytest.mark.parametrize("kind", ["tls-exporter", "tls-server-end-point"])
@pytest.mark.parametrize("mechanism", list(DIGESTS))
def test_a_login_is_bound_to_its_channel(server, mechanism, kind):
    if server.kind != "encke":
        pytest.skip("Prosody 0.12 has no such channel binding under TLS 1.3")
    exchange, answer = log_in(server, server.account("bound"), mechanism, kind)
    assert answer.group(1), answer.group(0)
    verifier = base64.b64decode(answer.group(1)).decode()
    assert verifier == f"v={exchange.verifier}", "the server proves that it knows the password too"


def test_a_login_bound_to_another_channel_is_refused(server):
    if server.kind != "encke":
        pytest.skip("Prosody 0.12 has no such channel binding under TLS 1.3")
    _, answer = log_in(server, server.account("bound"), "SCRAM-SHA-256-PLUS", "tls-exporter",
                       binding=b"\x01" * 32)
    assert answer.group(0).startswith("<failure")
