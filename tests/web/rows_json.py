"""What a hostile or careless client of the JSON protocol sends, and what it must get.

To be read like lists. Every request has the token of a session that is open, unless a row says
otherwise, and the session lives after all of them.
"""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    status: int | tuple
    code: str | tuple | None
    path: str = "/v1/requests"
    body: object = None
    method: str = "POST"
    token: str = "own"
    fields: tuple = ()

    def __str__(self):
        return self.title


def refused(title, code, body, path="/v1/messages", status=400):
    return Row(title, status, code, path, body)


def message(**members):
    return {"to": "{romeo}", "body": "x"} | members


DEEP = "[" * 100_000
TO = '"to":"{romeo}"'

BODIES = [
    refused("nothing", "not-json", ""),
    refused("white space", "not-json", " \r\n\t"),
    refused("half an object", "not-json", "{" + TO),
    refused("a word", "not-json", "true"),
    refused("an array of the right values", "not-json", '["{romeo}","x"]'),
    refused("two objects", "not-json", "{" + TO + "}{}"),
    refused("words behind an object", "not-json", "{" + TO + "} and"),
    refused("a comma too many", "not-json", "{" + TO + ",}"),
    refused("a comment", "not-json", "{" + TO + " /* x */}"),
    refused("single quotes", "not-json", "{'to':'{romeo}'}"),
    refused("no quotes", "not-json", "{to:1}"),
    refused("a number that is none", "not-json", '{"priority":NaN}', "/v1/presence"),
    refused("a number with a zero before it", "not-json", '{"priority":01}', "/v1/presence"),
    refused("a byte order mark", "not-json", "\ufeff{" + TO + "}"),
    refused("an escape of nothing", "not-json", '{"to":"\\x"}'),
    refused("half a surrogate pair", "not-json", "{" + TO + ',"body":"\\ud83d"}'),
    refused("a surrogate pair in the wrong order", "not-json",
            "{" + TO + ',"body":"\\ude00\\ud83d"}'),
    refused("a line break in a string", "not-json", "{" + TO + ',"body":"a\nb"}'),
    refused("text that is not UTF-8", "not-json", b'{"to":"\xff"}'),
    refused("a surrogate as UTF-8", "not-json", b'{"to":"\xed\xa0\xbd"}'),
    refused("an overlong form", "not-json", b'{"to":"\xc0\xaf"}'),
    refused("UTF-16", "not-json", '{"to":"a"}'.encode("utf-16")),
    refused("a member twice", "wrong-member", "{" + TO + ',"body":"a","body":"b"}'),
    refused("a member that is unknown", "wrong-member", message(colour="red")),
    refused("a member of another request", "wrong-member", message(priority=1)),
    refused("a number for a text", "wrong-member", message(body=1)),
    refused("an object for a text", "wrong-member", message(body={"a": 1})),
    refused("a text for a list", "wrong-member", message(xml="<x xmlns='u'/>")),
    refused("a list of numbers", "wrong-member", message(xml=[1])),
    refused("a list of nothing", "wrong-member", message(xml=[None])),
    refused("a text for yes", "wrong-member", message(wants_receipt="true")),
    refused("a priority beyond", "wrong-member", {"priority": 128}, "/v1/presence"),
    refused("a priority with a fraction", "wrong-member", {"priority": 1.5}, "/v1/presence"),
    refused("a priority of many digits", "not-json",
            '{"priority":' + "9" * 100_000 + "}", "/v1/presence"),
    refused("arrays in arrays", "not-json", DEEP),
    refused("arrays in arrays in a member", "wrong-member", '{"body":' + DEEP + "}"),
    refused("objects in objects", "wrong-member", '{"body":' + '{"a":' * 50_000 + "}"),
    refused("nobody", "missing-member", {"body": "x"}),
    refused("null for somebody", "missing-member", message(to=None)),
    refused("no type", "missing-member", message(), "/v1/requests"),
    refused("an unknown type", "unknown-request", {"type": "sing"}, "/v1/requests"),
    refused("a type in capitals", "unknown-request", {"type": "PING"}, "/v1/requests"),
    refused("another type than the path's", "unknown-request", {"type": "presence"}),
    refused("an address without a domain", "wrong-address", message(to="romeo@")),
    refused("an empty address", "wrong-address", message(to="")),
    refused("an address with a space", "wrong-address", message(to="ro meo@example.net")),
    refused("an address with markup", "wrong-address", message(to="a@b'/><x y='")),
    refused("an address of a megabyte", "wrong-address", message(to="a" * 200_000 + "@b")),
    refused("an unknown kind", "wrong-value", message(kind="error")),
    refused("an unknown state", "wrong-value", message(state="sleeping")),
    refused("an unknown show", "wrong-value", {"show": "happy"}, "/v1/presence"),
    refused("an unknown action", "wrong-value", {"to": "{romeo}", "action": "probe"},
            "/v1/subscriptions"),
    refused("an empty name", "wrong-value", message(message_id="")),
    refused("a name with a line break", "wrong-value", message(message_id="a\nb")),
    refused("a name with NUL", "wrong-character", message(message_id="a\0b")),
    refused("a long name", "too-large", message(message_id="a" * 129), status=413),
    refused("a name of many octets", "too-large", message(message_id="ü" * 65), status=413),
    refused("a long list", "too-large", message(xml=["<x xmlns='u'/>"] * 33), status=413),
    refused("a cursor that is none", "wrong-value", {"cursor": "7"}, "/v1/acks"),
    refused("a cursor in capitals", "wrong-value", {"cursor": "E-7"}, "/v1/acks"),
    refused("a cursor that is too large", "wrong-value",
            {"cursor": "e-18446744073709551616"}, "/v1/acks"),
    *(refused(f"U+{code:04X} in a text", "wrong-character", message(body=chr(code)))
      for code in (0, 1, 8, 0xB, 0xC, 0xE, 0x1F, 0xFFFE, 0xFFFF)),
    *(refused(f"xml of {title}", "wrong-xml", message(xml=[xml])) for title, xml in (
        ("nothing", ""), ("words", "hello"), ("half an element", "<x xmlns='u'>"),
        ("an end", "</message>"), ("the end of the stream", "</stream:stream>"),
        ("two elements", "<x xmlns='u'/><y xmlns='u'/>"), ("words behind it", "<x xmlns='u'/>a"),
        ("an element without a namespace", "<x/>"),
        ("an element of an undeclared prefix", "<p:x xmlns='u'/>"),
        ("a prefix alone", "<p:x xmlns:p='u'/>"),
        ("a body", "<body xmlns='jabber:client'>x</body>"),
        ("a body of servers", "<body xmlns='jabber:server'>x</body>"),
        ("something of the stream", "<error xmlns='http://etherx.jabber.org/streams'/>"),
        ("something of stream management", "<a xmlns='urn:xmpp:sm:3' h='0'/>"),
        ("a document type", "<!DOCTYPE x><x xmlns='u'/>"),
        ("an entity", "<x xmlns='u'>&y;</x>"), ("a comment", "<!-- x --><x xmlns='u'/>"),
        ("an instruction", "<?x y?><x xmlns='u'/>"),
        ("depth", "<x xmlns='u'>" + "<x>" * 200 + "</x>" * 200 + "</x>"),
        ("attributes", "<x xmlns='u' " + " ".join(f"a{n}='b'" for n in range(200)) + "/>"),
        ("an attribute twice", "<x xmlns='u' a='b' a='c'/>"),
        ("an end tag that breaks out", "<x xmlns='u'/></message><message to='a@b'/>"),
    )),
    Row("a body beyond a stanza", 413, "body-too-long", "/v1/messages", " " * 262_145),
    Row("a body just below, of nothing", 400, "not-json", "/v1/messages", " " * 262_144),
    # What fits into a request and not into a stanza must not end the stream of the session.
    Row("a text as large as may be", 413, "too-large", "/v1/messages",
        json.dumps({"to": "a@b.test", "body": "x" * 262_108})),
    *(Row(f"a text that grows on its way, of {character!r}", 413, "too-large", "/v1/messages",
          json.dumps({"to": "a@b.test", "body": character * 100_000}))
      for character in ("<", "&", '"', "'", "\r")),
    Row("a subject, a body and a thread that grow", 413, "too-large", "/v1/messages",
        json.dumps({"to": "a@b.test", "subject": "&" * 30_000, "body": "&" * 30_000,
                    "thread": "&" * 30_000})),
    Row("many elements in several pieces", 413, "too-large", "/v1/messages",
        json.dumps({"to": "a@b.test", "xml": ["<x xmlns='u'>" + "<y/>" * 1_000 + "</x>"] * 5})),
    Row("a status that grows", 413, "too-large", "/v1/presence",
        json.dumps({"status": "<" * 100_000})),
    Row("a name in the roster that grows", 413, "too-large", "/v1/roster",
        json.dumps({"jid": "a@b.test", "name": "'" * 100_000})),
]

# What is asked with instead of the right words; `None` leaves a member out.
OPENINGS = [
    Row("a password of nothing", 401, "malformed-request", body={"password": ""}),
    Row("a password with NUL", 400, "wrong-value", body={"password": "a\0b"}),
    Row("a password with the right one behind NUL", 400, "wrong-value",
        body={"password": "\0{password}"}),
    Row("a password that is too large as base64", 403, "policy-violation",
        body={"password": "x" * 9_800}),
    Row("no user", 400, "missing-member", body={"user": None}),
    Row("a user with a resource", 400, "wrong-address", body={"user": "{user}/tab"}),
    Row("a domain", 400, "wrong-address", body={"user": "encke.test"}),
    Row("a user with markup", 400, "wrong-address", body={"user": "a'/><x@encke.test"}),
    Row("an unknown domain", 404, "host-unknown", body={"user": "a@elsewhere.test"}),
    Row("a resource with NUL", 400, "wrong-value", body={"resource": "\0"}),
    Row("a resource that is too long", 400, ("bad-request", "jid-malformed"),
        body={"resource": "x" * 1_024}),
    Row("a resource with a line break", 400, ("bad-request", "jid-malformed"),
        body={"resource": "a\nb"}),
    Row("a language with markup", 201, None, body={"lang": "'><x"}),
    Row("two ways at once", 400, "wrong-member", body={"token": "abc"}),
    Row("a mechanism besides the password", 400, "wrong-member",
        body={"mechanism": "PLAIN", "initial": ""}),
    Row("a mechanism in small letters", 400, "wrong-value",
        body={"password": None, "mechanism": "plain"}),
    Row("a mechanism with markup", 400, "wrong-value",
        body={"password": None, "mechanism": "A'/><X"}),
    *(Row(f"the mechanism {name}", 401, "invalid-mechanism",
          body={"password": None, "mechanism": name, "initial": "AA=="})
      for name in ("EXTERNAL", "ANONYMOUS", "X", "OAUTHBEARER")),
    Row("PLAIN by hand", 201, None,
        body={"password": None, "mechanism": "PLAIN", "initial": "{plain}"}),
    Row("PLAIN in the name of another", 401, ("invalid-authzid", "not-authorized"),
        body={"password": None, "mechanism": "PLAIN", "initial": "{authzid}"}),
    Row("a first message that is no base64", 400, "wrong-value",
        body={"password": None, "mechanism": "PLAIN", "initial": "<x/>"}),
    Row("a first message of half a character", 401, "incorrect-encoding",
        body={"password": None, "mechanism": "PLAIN", "initial": "A"}),
    Row("a first message of nothing", 401, "malformed-request",
        body={"password": None, "mechanism": "PLAIN", "initial": ""}),
    Row("a token with a space", 400, "wrong-value", body={"password": None, "token": "a b"}),
    Row("a show that is none", 400, "wrong-value", body={"show": "happy"}),
    Row("a status with NUL", 400, "wrong-character", body={"status": "\0"}),
    Row("a priority beyond", 400, "wrong-member", body={"priority": -129}),
    Row("a cookie that is no yes or no", 400, "wrong-member", body={"cookie": "yes"}),
    Row("more than a login may have", 413, "body-too-long", body={"status": "x" * 10_000}),
]

PATHS = [
    Row("a path that is not there", 404, "not-found", "/v1/nothing"),
    Row("the folder", 404, "not-found", "/v1/", method="GET"),
    Row("a slash too many", 404, "not-found", "/v1/messages/"),
    Row("another version", 404, "not-found", "/v2/messages"),
    Row("capitals", 404, "not-found", "/v1/Messages"),
    *(Row(f"{method} {path}", 405, "method-not-allowed", path, method=method)
      for method, path in (("GET", "/v1/messages"), ("PUT", "/v1/messages"),
                           ("DELETE", "/v1/presence"), ("POST", "/v1/events"),
                           ("POST", "/v1/socket"), ("PUT", "/v1/session"),
                           ("DELETE", "/v1/events"), ("PATCH", "/v1/roster"))),
    Row("a socket without an upgrade", 400, "no-websocket", "/v1/socket", method="GET"),
    Row("two cursors", 400, "wrong-value", "/v1/events?cursor=e-1&cursor=e-2", method="GET"),
    Row("a cursor in code", 400, "wrong-value", "/v1/events?cursor=%00", method="GET"),
    Row("an entity tag that is none", 400, "wrong-value", "/v1/events", method="GET",
        fields=('If-None-Match: "x"',)),
    Row("a last event that is none", 400, "wrong-value", "/v1/events", method="GET",
        fields=("Accept: text/event-stream", "Last-Event-ID: x")),
]

TOKENS = [
    Row("no token", 401, "no-token", body={"type": "ping"}, token=""),
    Row("an empty token", 401, "no-token", body={"type": "ping"}, token=" "),
    Row("a short token", 401, "no-token", body={"type": "ping"}, token="0" * 51),
    Row("a long token", 401, "no-token", body={"type": "ping"}, token="0" * 53),
    Row("a token in capitals", 401, "no-token", body={"type": "ping"}, token="{OWN}"),
    Row("a token of zeros", 404, "no-session", body={"type": "ping"}, token="0" * 52),
    Row("a token of another shard", 404, "no-session", body={"type": "ping"},
        token="ffff" + "0" * 48),
    Row("the token with another last digit", 404, "no-session", body={"type": "ping"},
        token="{nearly}"),
    Row("the token with another first digit", 404, "no-session", body={"type": "ping"},
        token="f{tail}"),
    Row("another scheme", 401, "no-token", body={"type": "ping"}, token="",
        fields=("Authorization: Basic YTpi",)),
    Row("another scheme and the cookie", 401, "no-token", body={"type": "ping"}, token="",
        fields=("Authorization: Basic YTpi", "Cookie: encke-session={own}",
                "Origin: http://{host}")),
    Row("the token in the query", 401, "no-token", "/v1/requests?token={own}",
        {"type": "ping"}, token=""),
    Row("the token as another cookie", 401, "no-token", body={"type": "ping"}, token="",
        fields=("Cookie: session={own}", "Origin: http://{host}")),
    Row("two cookies of two sessions", 401, "no-token", body={"type": "ping"}, token="",
        fields=("Cookie: encke-session=x; encke-session={own}", "Origin: http://{host}")),
]

# Who asks, and whether: the cookie alone, and what `Origin` says. 204 is a ping that was answered.
PAGES = [
    Row("the cookie alone", 403, "no-origin", body={"type": "ping"}, token="cookie"),
    Row("the cookie and an empty origin", 403, "origin", body={"type": "ping"}, token="cookie",
        fields=("Origin: ",)),
    Row("the cookie and no origin to speak of", 403, "origin", body={"type": "ping"},
        token="cookie", fields=("Origin: null",)),
    Row("the cookie and a foreign page", 403, "origin", body={"type": "ping"}, token="cookie",
        fields=("Origin: https://evil.test",)),
    Row("the cookie and a page whose origin begins as ours", 403, "origin",
        body={"type": "ping"}, token="cookie", fields=("Origin: http://{host}.evil.test",)),
    Row("the cookie and a page of another scheme", 403, "origin", body={"type": "ping"},
        token="cookie", fields=("Origin: https://{host}",)),
    Row("the cookie and our own page", 204, None, body={"type": "ping"}, token="cookie",
        fields=("Origin: http://{host}",)),
    Row("the cookie and a listed page", 204, None, body={"type": "ping"}, token="cookie",
        fields=("Origin: {site}",)),
    Row("the token and a foreign page", 403, "origin", body={"type": "ping"},
        fields=("Origin: https://evil.test",)),
    Row("the token and a listed page", 204, None, body={"type": "ping"},
        fields=("Origin: {site}",)),
    Row("reading with the cookie alone", 200, None, "/v1/session", method="GET", token="cookie"),
    Row("reading with the cookie, for a foreign page", 403, "origin", "/v1/session",
        method="GET", token="cookie", fields=("Origin: https://evil.test",)),
    Row("removing with the cookie alone", 403, "no-origin", "/v1/roster?jid=a@b.test",
        method="DELETE", token="cookie"),
    Row("ending with the cookie alone", 403, "no-origin", "/v1/session", method="DELETE",
        token="cookie"),
    Row("a socket with the cookie alone", 403, "no-origin", "/v1/socket", method="GET",
        token="cookie", fields=(
            "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: encke.v1")),
    Row("a socket with the cookie, for a foreign page", 403, "origin", "/v1/socket",
        method="GET", token="cookie", fields=(
            "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: encke.v1",
            "Origin: https://evil.test")),
]
