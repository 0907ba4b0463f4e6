"""What a hostile WebSocket peer sends, and what it must get: handshakes, frames, messages.

To be read like lists. A handshake is changed as `RawSocket.request` says; frames are octets or
functions of the socket; the codes are those of RFC 6455, section 7.4.1.
"""

import dataclasses

from clients.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, close, frame


@dataclasses.dataclass(frozen=True)
class Handshake:
    title: str
    status: int | tuple
    how: dict = dataclasses.field(default_factory=dict)
    headers: dict = dataclasses.field(default_factory=dict)  # of the answer; None: must be missing

    def __str__(self):
        return self.title


@dataclasses.dataclass(frozen=True)
class Frames:
    title: str
    code: int | tuple
    octets: tuple

    def __str__(self):
        return self.title


@dataclasses.dataclass(frozen=True)
class Message:
    title: str
    condition: str | tuple
    text: str

    def __str__(self):
        return self.title


XMPP = {"sec-websocket-protocol": "xmpp"}

HANDSHAKES = [
    Handshake("the usual", 101, {}, XMPP),
    Handshake("names in other cases", 101, {"drop": ["Upgrade", "Connection"], "add": [
        ("uPGRADE", "WebSocket"), ("CONNECTION", "keep-alive, upgrade")]}, XMPP),
    Handshake("several subprotocols", 101, {"Sec_WebSocket_Protocol": "mqtt, xmpp, chat"}, XMPP),
    Handshake("subprotocols in several lines", 101,
              {"add": [("Sec-WebSocket-Protocol", "mqtt")]}, XMPP),
    Handshake("an extension", 101, {"Sec_WebSocket_Extensions": "permessage-deflate"},
              XMPP | {"sec-websocket-extensions": None}),
    Handshake("the server's own origin", 101, {"Origin": "http://{host}"}, XMPP),
    Handshake("a listed origin", 101, {"Origin": "{site}"}, XMPP),
    Handshake("a foreign origin", 403, {"Origin": "https://evil.test"}),
    Handshake("an origin that begins as a listed one", 403, {"Origin": "{site}.evil.test"}),
    Handshake("an origin that ends as the host", (400, 403), {"Origin": "http://evil.test/{host}"}),
    Handshake("another scheme than the listed origin's", 403, {"Origin": "{site_by_tls}"}),
    Handshake("no origin to speak of", 403, {"Origin": "null"}),
    Handshake("two origins", (400, 403), {"Origin": "{site}", "add": [
        ("Origin", "https://evil.test")]}),
    Handshake("no subprotocol", 400, {"drop": ["Sec-WebSocket-Protocol"]}),
    Handshake("a wrong subprotocol", 400, {"Sec_WebSocket_Protocol": "mqtt"}),
    Handshake("a subprotocol that begins well", 400, {"Sec_WebSocket_Protocol": "xmpp2"}),
    Handshake("no key", 400, {"drop": ["Sec-WebSocket-Key"]}),
    Handshake("a short key", 400, {"Sec_WebSocket_Key": "dGhlIHNhbXBsZQ=="}),
    Handshake("a key that is no base64", 400, {"Sec_WebSocket_Key": "!" * 24}),
    Handshake("two keys", 400, {"add": [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]}),
    Handshake("an old version", 426, {"Sec_WebSocket_Version": "8"},
              {"sec-websocket-version": "13"}),
    Handshake("a version to come", 426, {"Sec_WebSocket_Version": "14"},
              {"sec-websocket-version": "13"}),
    Handshake("no version", (400, 426), {"drop": ["Sec-WebSocket-Version"]}),
    Handshake("no upgrade", (400, 426), {"drop": ["Upgrade"]}),
    Handshake("an upgrade to something else", (400, 426), {"Upgrade": "h2c"}),
    Handshake("no connection header", (400, 426), {"drop": ["Connection"]}),
    Handshake("another method", (400, 405), {"line": "POST /ws HTTP/1.1", "Content_Length": "0"}),
    Handshake("another path", 404, {"line": "GET /ws/ HTTP/1.1"}),
    Handshake("a path around the corner", (400, 404), {"line": "GET /x/../ws HTTP/1.1"}),
    Handshake("an old HTTP", (400, 426, 505), {"line": "GET /ws HTTP/1.0"}),
    Handshake("no host", 400, {"drop": ["Host"]}),
    Handshake("two hosts", 400, {"add": [("Host", "evil.test")]}),
    Handshake("two lengths", 400, {"Content_Length": "0", "add": [("Content-Length", "5")]}),
    Handshake("a length and chunks", 400, {"Content_Length": "5",
                                            "Transfer_Encoding": "chunked"}),
    Handshake("a folded header", 400, {"add": [("X-Fold", "a\r\n b")]}),
    Handshake("a space before the colon", 400, {"add": [("X-Space ", "a")]}),
]

# Octets: more than any stanza may have.
LARGE = 64 << 20
HELLO = "<x/>"

FRAMES = [
    Frames("text without mask", 1002, (frame(TEXT, HELLO, masked=False),)),
    Frames("ping without mask", 1002, (frame(PING, masked=False),)),
    Frames("close without mask", 1002, (frame(CLOSE, masked=False),)),
    *(Frames(f"reserved bit {bit}", 1002, (frame(TEXT, HELLO, rsv=bit),)) for bit in (1, 2, 4)),
    Frames("a reserved bit on a ping", 1002, (frame(PING, rsv=1),)),
    *(Frames(f"reserved opcode {opcode:#x}", 1002, (frame(opcode, HELLO),))
      for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)),
    Frames("a ping in fragments", 1002, (frame(PING, "a", fin=False),
                                         frame(CONTINUATION, "b"))),
    Frames("a close in fragments", 1002, (frame(CLOSE, fin=False),)),
    Frames("a ping of 126 octets", 1002, (frame(PING, "a" * 126),)),
    Frames("a close of 126 octets", 1002, (close(1000, b"a" * 124),)),
    Frames("a continuation of nothing", 1002, (frame(CONTINUATION, HELLO),)),
    Frames("a continuation of what is complete", 1002, (
        frame(PING), frame(CONTINUATION, HELLO, fin=False))),
    Frames("a message inside a message", 1002, (frame(TEXT, "<x", fin=False),
                                                frame(TEXT, HELLO))),
    Frames("5 octets with a length in 16 bits", 1002, (frame(TEXT, "<xx/>", form=2),)),
    Frames("5 octets with a length in 64 bits", 1002, (frame(TEXT, "<xx/>", form=8),)),
    Frames("a length above 2^63", 1002, (frame(TEXT, HELLO, announced=1 << 63),)),
    Frames("a length of 2^62", 1009, (frame(TEXT, HELLO, announced=1 << 62),)),
    Frames("more than a stanza may have, announced", 1009, (
        frame(TEXT, HELLO, announced=LARGE),)),
    Frames("more than a stanza may have, in fragments", (1009, 1008), (
        frame(TEXT, "<x>", fin=False),
        *[frame(CONTINUATION, "a" * 60_000, fin=False)] * 200)),
    Frames("fragments without end or content", (1008, 1009), (
        frame(TEXT, "<x>", fin=False), *[frame(CONTINUATION, fin=False)] * 100_000)),
    Frames("a binary message", 1003, (frame(BINARY, HELLO),)),
    Frames("an empty binary message", 1003, (frame(BINARY),)),
    Frames("text that is not UTF-8", 1007, (frame(TEXT, b"<x a='\xff'/>"),)),
    Frames("a surrogate in text", 1007, (frame(TEXT, b"<x a='\xed\xa0\x80'/>"),)),
    Frames("an overlong form in text", 1007, (frame(TEXT, b"<x a='\xc0\xaf'/>"),)),
    Frames("above U+10FFFF in text", 1007, (frame(TEXT, b"<x a='\xf4\x90\x80\x80'/>"),)),
    Frames("text that ends within a character", 1007, (frame(TEXT, b"<x a='\xe2\x82"),)),
    Frames("text that breaks in a later fragment", 1007, (
        frame(TEXT, b"<x a='\xe2", fin=False), frame(CONTINUATION, b"'/>"))),
    Frames("a close of one octet", 1002, (frame(CLOSE, b"\x03"),)),
    *(Frames(f"close code {code}", 1002, (close(code),))
      for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    Frames("a reason that is not UTF-8", 1007, (close(1000, b"\xff"),)),
    *(Frames(f"close code {code}, which is fine", (1000, code), (
        close(code, "schöner Abend".encode()),)) for code in (1000, 1001, 1011, 3000, 4999)),
    Frames("a close without code", (1000, 1005), (frame(CLOSE),)),
    Frames("a message behind the close", (1000,), (close(1000), frame(TEXT, HELLO), frame(PING))),
]

# Sent as one text message each, after the stream was opened and before anybody has logged in.
FORM = ("not-well-formed", "bad-format")
MESSAGES = [
    Message("two elements", FORM,
            "<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>"),
    Message("half an element", FORM, "<presence xmlns='jabber:client'>"),
    Message("an end", FORM, "</presence>"),
    Message("words", FORM, "hello"),
    Message("words behind an element", FORM, "<presence xmlns='jabber:client'/>hello"),
    Message("a stream as on TCP", (*FORM, "invalid-namespace", "unsupported-stanza-type"),
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
            "version='1.0'>"),
    Message("a document type", ("restricted-xml", *FORM), "<!DOCTYPE x><x/>"),
    Message("an entity", ("restricted-xml", *FORM), "<message xmlns='jabber:client'>&x;</message>"),
    Message("a comment", ("restricted-xml", *FORM), "<!-- x -->"),
    Message("an instruction", ("restricted-xml", *FORM), "<?x y?>"),
    Message("a prefix that nobody declared", ("bad-namespace-prefix", *FORM),
            "<stream:features/>"),
    Message("a stanza before the login", "not-authorized",
            "<message xmlns='jabber:client' to='a@{domain}'><body>x</body></message>"),
]
