"""What a hostile HTTP peer sends, and what it must get; the numbers are the classes of SECURITY.

To be read like lists. `{host}` is the server's address; every line ends with CR LF unless the row
is about line ends. Behind whatever a row sends come octets of another request: where the row says
that the server hangs up, nobody may ever answer them.
"""

import dataclasses

SMUGGLED = "GET /readyz HTTP/1.1\r\nHost: {host}\r\n\r\n"
HEAD_OCTETS_MAX = 16_384
FIELDS_MAX = 100


@dataclasses.dataclass(frozen=True)
class Row:
    number: int
    title: str
    status: int | tuple  # of the only answer
    octets: str | bytes
    code: str | None = None  # of its problem document, where that matters
    closes: bool = True

    def __str__(self):
        return f"{self.number} {self.title}"


def get(path="/healthz", fields=""):
    return f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\n{fields}\r\n"


def post(fields, body=""):
    return f"POST /http-bind HTTP/1.1\r\nHost: {{host}}\r\n{fields}\r\n{body}"


def refused(title, octets, code=None, status=400, number=45):
    return Row(number, title, status, octets, code)


CHUNKED = "Transfer-Encoding: chunked\r\n"
HIDDEN = "0\r\n\r\n" + SMUGGLED

SMUGGLING = [
    # Two lengths.
    refused("two lengths of nothing", post("Content-Length: 0\r\nContent-Length: 0\r\n"),
            "content-length-twice"),
    refused("two lengths, the second one hides a request",
            post(f"Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n"),
            "content-length-twice"),
    refused("two lengths in one line", post("Content-Length: 5, 5\r\n", "aaaaa"), "content-length"),
    refused("two lengths, in other cases of letters",
            post("content-length: 5\r\nCONTENT-LENGTH: 6\r\n", "aaaaa"), "content-length-twice"),
    *(refused(f"a length of {length!r}", post(f"Content-Length: {length}\r\n", "aaaaa"),
              "content-length")
      for length in ("", "+5", "-5", "0x5", "5 5", "5.0", "5,", "1e1", "five", "\u0665",
                     "99999999999999999999999")),
    refused("a vertical tab before a length", post("Content-Length: \x0b5\r\n", "aaaaa")),
    # A length and chunks.
    refused("a length and chunks", post(f"Content-Length: 5\r\n{CHUNKED}", HIDDEN),
            "length-and-encoding"),
    refused("chunks and a length", post(f"{CHUNKED}Content-Length: 5\r\n", HIDDEN),
            "length-and-encoding"),
    refused("chunks and a length of nothing", post(f"{CHUNKED}Content-Length: 0\r\n", HIDDEN),
            "length-and-encoding"),
    # Names of encodings that one party knows and another does not.
    *(refused(f"an encoding of {name!r}", post(f"Transfer-Encoding: {name}\r\n", HIDDEN))
      for name in ("identity", "xchunked", "chunked, identity", "gzip, chunked", "chunked,",
                   '"chunked"', "chunked;q=1", "\x0bchunked", "chunked\x00", "", "chunke\u017f",
                   "chunked chunked")),
    refused("two encodings", post(CHUNKED + CHUNKED, HIDDEN)),
    refused("two encodings, one of them unknown", post(CHUNKED + "transfer-encoding: x\r\n",
                                                       HIDDEN)),
    refused("chunks in an old HTTP",
            f"POST /http-bind HTTP/1.0\r\nHost: {{host}}\r\n{CHUNKED}\r\n{HIDDEN}",
            "transfer-encoding-too-old"),
    # Names and lines that are not what they seem.
    refused("a space before a colon", post("Content-Length : 5\r\n", "aaaaa"), "field-name"),
    refused("a tab before a colon", post("Transfer-Encoding\t: chunked\r\n", HIDDEN),
            "field-name"),
    refused("a space before a name", post(" Content-Length: 5\r\n", "aaaaa")),
    refused("a name that ends within", post("Content\0-Length: 5\r\n", "aaaaa"), "field-name"),
    refused("no name", post(": 5\r\n"), "field-name"),
    refused("no colon", post("Content-Length\r\n"), "field-name"),
    refused("a folded line", post("X: a\r\n Content-Length: 5\r\n", "aaaaa")),
    refused("a folded value", post("Transfer-Encoding:\r\n chunked\r\n", HIDDEN)),
    refused("a lone CR in a value", post("X: a\rContent-Length: 5\r\n", "aaaaa")),
    refused("a lone LF in a value", post("X: a\nContent-Length: 5\r\n", "aaaaa"),
            "bare-line-feed"),
    refused("NUL in a value", post("X: a\0b\r\n"), "field-value"),
    refused("a head that ends with LF LF", "GET /healthz HTTP/1.1\nHost: {host}\n\n",
            "bare-line-feed"),
    refused("a head that ends with CR LF LF", "GET /healthz HTTP/1.1\r\nHost: {host}\r\n\n",
            "bare-line-feed"),
    refused("a head that ends with LF CR LF", "GET /healthz HTTP/1.1\r\nHost: {host}\n\r\n",
            "bare-line-feed"),
    # The first line.
    refused("two spaces behind a method", "GET  /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    refused("a tab behind a method", "GET\t/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    refused("words behind a version", "GET /healthz HTTP/1.1 x\r\nHost: {host}\r\n\r\n"),
    refused("a space in a target", "GET /health z HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    refused("no version", "GET /healthz\r\nHost: {host}\r\n\r\n"),
    refused("a version in small letters", "GET /healthz http/1.1\r\nHost: {host}\r\n\r\n"),
    refused("a version of two digits", "GET /healthz HTTP/1.10\r\nHost: {host}\r\n\r\n"),
    refused("a version to come", "GET /healthz HTTP/2.0\r\nHost: {host}\r\n\r\n", status=505),
    refused("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=(400, 501, 505)),
    refused("two empty lines before it", "\r\n\r\n" + get()),
    refused("a space before a method", " " + get()),
    refused("TLS on the clear port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("an unknown method", "BREW /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n", status=501),
    refused("a method in small letters", "get /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n",
            status=501),
    refused("CONNECT", "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", status=501),
    Row(45, "TRACE", 405, "TRACE /healthz HTTP/1.1\r\nHost: {host}\r\nCookie: a\r\n\r\n",
        closes=False),
    # Whose request it is.
    refused("no host", "GET /healthz HTTP/1.1\r\n\r\n", "host-missing"),
    refused("two hosts", get(fields="Host: evil.test\r\n"), "host-twice"),
    refused("another host in the target", get("http://evil.test/healthz"), "target-form"),
    refused("a host with a name before it in the target", get("http://{host}@evil.test/healthz"),
            "target-form"),
    refused("a target of another scheme", get("ftp://{host}/healthz"), "target-form"),
    refused("a target without a slash", get("healthz"), "target-form"),
    refused("a star for a path", get("*"), "target-form"),
    # Chunks.
    *(refused(f"a chunk of {size!r} octets", post(CHUNKED, f"{size}\r\naaaaa\r\n{HIDDEN}"))
      for size in ("", "g", "-5", "+5", "0x5", " 5", "5 ", "\t5", "5_0", "00000000000000005")),
    refused("chunks whose lines end with LF", post(CHUNKED, f"5\naaaaa\n{HIDDEN}")),
    refused("a chunk that is longer than it says", post(CHUNKED, f"3\r\naaaaa\r\n{HIDDEN}"),
            "chunk-end"),
    refused("a chunk that ends with LF", post(CHUNKED, f"5\r\naaaaa\n{HIDDEN}"), "chunk-end"),
    refused("a line end within the extension of a chunk",
            post(CHUNKED, f"5;a\nb\r\naaaaa\r\n{HIDDEN}"), "chunk-extension"),
    refused("extensions without end", post(CHUNKED, "5;" + "a" * 5_000 + f"\r\naaaaa\r\n{HIDDEN}"),
            "chunk-extension"),
    refused("a length in the trailer", post(CHUNKED, "0\r\nContent-Length: 5\r\n\r\n"), "trailer"),
    refused("an encoding in the trailer", post(CHUNKED, f"0\r\n{CHUNKED}\r\n"), "trailer"),
    refused("a host in the trailer", post(CHUNKED, "0\r\nHost: evil.test\r\n\r\n"), "trailer"),
    refused("trailers without end", post(CHUNKED, "0\r\n" + "X: aaaaaaaa\r\n" * 1_000),
            status=431),
    refused("chunks beyond a stanza", post(CHUNKED, "40001\r\n"), "body-too-long", status=413),
    refused("a chunk of 2^60", post(CHUNKED, "1000000000000000\r\n"), status=(400, 413)),
    refused("another expectation", post("Expect: 200-ok\r\nContent-Length: 5\r\n"), status=417),
]

LIMITS = [
    Row(46, "a head of 1 MB in one field", 431, get(fields="X: " + "a" * (1 << 20) + "\r\n")),
    Row(46, "a name of 1 MB", 431, get(fields="a" * (1 << 20))),
    Row(46, "a target of 1 MB", 414, get("/" + "a" * (1 << 20))),
    Row(46, "a method of 1 MB", (400, 414), "A" * (1 << 20)),
    Row(46, "50,000 fields", 431, get(fields="X: y\r\n" * 50_000)),
    Row(46, "one field too many", 431, get(fields="X: y\r\n" * FIELDS_MAX), "too-many-fields"),
    Row(46, "as many fields as may be", 200, get(fields="X: y\r\n" * (FIELDS_MAX - 1)),
        closes=False),
    Row(46, "a head without end", 431, get()[:-2] + "X: a\r\n" * 10_000),
    Row(46, "the first octet of 1 GB", 413, post("Content-Length: 1000000000\r\n", "<"),
        "body-too-long"),
    Row(46, "the first octet of 2^64 - 1", 413, post("Content-Length: 18446744073709551615\r\n"),
        "body-too-long"),
    Row(46, "1 GB that would wait to be asked for", 413,
        post("Expect: 100-continue\r\nContent-Length: 1000000000\r\n"), "body-too-long"),
    Row(46, "empty lines between requests", 200, "\r\n" + get(), closes=False),
]

# Ways to write `..`; each is tried before and behind names that exist.
DOTS = ["..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae",
        "%f0%80%80%ae%f0%80%80%ae", "..%2f", "..%5c", "..\\", "..;", "%u002e%u002e", "..%00",
        "%ef%bc%8e%ef%bc%8e", "....", "..%c0%af", "..%252f", "%2e%2e%2f%2e%2e"]
TRAVERSALS = [
    Row(47, f"{pattern.replace('/', ' ').strip()} with {dots}", (400, 404),
        get(pattern.replace("DOTS", dots)), closes=None)
    for dots in DOTS for pattern in ("/DOTS/metrics", "/healthz/DOTS/metrics")
] + [
    Row(47, f"a path like {path}", (400, 404), get(path), closes=None)
    for path in ("//metrics", "/metrics/", "/metrics/.", "/./metrics", "/metrics//", "/METRICS",
                 "/metrics%20", "/metrics%00", "/metrics;x", "/metrics%2f", "/metrics%3f",
                 "/%2fmetrics", "\\metrics", "/metrics%0d%0aX:%20y", "/metrics.", "/.well-known",
                 "/.well-known/host-meta.", "/.well-known//host-meta", "/etc/passwd",
                 "/ws/../metrics", "/http-bind/metrics")
]

MARK = "<script>evil(1)</script>"
QUOTED = "evil\"'/><evil "
MARKUP = [
    Row(49, "in a path", 400, get(f"/{MARK}"), closes=None),
    Row(49, "escaped in a path", 404, get("/%3Cscript%3Eevil(1)%3C%2fscript%3E".replace(
        "%2f", "")), closes=None),
    Row(49, "in a query", (200, 400), get(f"/healthz?{MARK}"), closes=None),
    Row(49, "escaped in a query", 200, get("/healthz?%3Cscript%3Eevil"), closes=None),
    Row(49, "in a method", (400, 501), f"{MARK} / HTTP/1.1\r\nHost: {{host}}\r\n\r\n"),
    Row(49, "in a version", (400, 505), f"GET / {MARK}\r\nHost: {{host}}\r\n\r\n"),
    Row(49, "in the name of a field", 400, get(fields=f"{MARK}: x\r\n")),
    Row(49, "in an origin", 403, post(f"Origin: {MARK}\r\nContent-Length: 0\r\n"), closes=None),
    Row(49, "in the origin of a WebSocket", (400, 403, 426), get(
        "/ws", f"Origin: {MARK}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), closes=None),
    Row(49, "in a subprotocol", 400, get(
        "/ws", f"Sec-WebSocket-Protocol: {MARK}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        closes=None),
    Row(49, "in all that proxies say", (200, 403), get(
        "/metrics", f"X-Forwarded-For: {MARK}\r\nX-Forwarded-Proto: {MARK}\r\n"
        f"Forwarded: for={MARK}\r\nX-Forwarded-Host: {MARK}\r\n"), closes=None),
    Row(49, "in what browsers say of themselves", 404, get(
        "/nothing", f"User-Agent: {MARK}\r\nReferer: {MARK}\r\nCookie: {MARK}\r\n"
        f"Accept: {MARK}\r\n"), closes=None),
    Row(49, "in a request of BOSH", 200, post(
        f"Content-Length: {len(MARK)}\r\n", MARK), closes=False),
    *(Row(49, f"a host of {host!r}", 400,
          f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
      for host in (MARK, QUOTED, "evil&amp;", "evil/x", "evil@evil", "evil:80:80", "evil:-1",
                   "evil:99999", "evil\\x", "[::1", "[evil]", "evil?x", "evil#x", "evil,evil",
                   "ev\u0131l", "e%76il", "evil\tx", "")
      for path in ("/.well-known/host-meta", "/.well-known/host-meta.json")),
]

TABLE = SMUGGLING + LIMITS + TRAVERSALS + MARKUP
