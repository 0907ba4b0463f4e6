"""Classes 1-12, 57-59: what is not XML as RFC 6120 section 11 allows it, too big, or odd text."""

from steps import (Hears, Lives, Row, Send, VictimHears, VictimNeverHears, Vanishes, body, closes,
                   iq, message)

RESTRICTED = closes("restricted-xml")
MALFORMED = closes("not-well-formed")
TOO_BIG = closes("policy-violation")
BAD_TEXT = closes("not-well-formed", "restricted-xml", "unsupported-encoding", "bad-format")
NOBODY_HEARS = VictimNeverHears("evil-text")
HEADER = (
    "<?xml version='1.0'?>{0}<stream:stream to='{{domain}}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
LAUGHS = (
    "<!DOCTYPE lolz [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]>"
)
QUADRATIC = "<!DOCTYPE x [<!ENTITY a '" + "A" * 5000 + "'>]>"
EXTERNAL = "<!DOCTYPE x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
OUTSIDE_DTD = "<!DOCTYPE x SYSTEM 'http://127.0.0.1:1/evil.dtd'>"
PARAMETER = "<!DOCTYPE x [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>"


def octets(raw):
    """A message whose body is these raw octets."""
    return Send(
        lambda words: f"<message to='{words['victim']}'><body>evil-text".encode()
        + raw + b"</body></message>"
    )


def attribute(raw):
    """A message with these raw octets in an attribute."""
    return Send(
        lambda words: f"<message to='{words['victim']}' id='evil-text".encode()
        + raw + b"'><body>x</body></message>"
    )


def nested(depth):
    return message("<body>evil-text</body><d xmlns='test'>" + "<a>" * depth + "</a>" * depth + "</d>")


def arrives(text, written=None):
    """A text that must reach the other side octet by octet."""
    import re

    return [body(f"evil{written or text}text"), VictimHears("evil" + re.escape(text) + "text"), Lives()]


def everywhere(number, title, doctype, use="&a;"):
    """A document type in each place where one could be smuggled in."""
    return [
        Row(number, f"{title}, before the stream header", "tcp",
            [HEADER.format(doctype), RESTRICTED]),
        Row(number, f"{title}, after the header", "clear", [doctype, RESTRICTED]),
        Row(number, f"{title}, between stanzas", "bound",
            [doctype + body(f"evil-text {use}"), RESTRICTED, NOBODY_HEARS]),
        Row(number, f"{title}, inside a stanza", "bound",
            [message(f"{doctype}<body>evil-text {use}</body>"), closes("restricted-xml",
             "not-well-formed"), NOBODY_HEARS]),
    ]


ROWS = [
    *everywhere(1, "billion laughs", LAUGHS, "&c;"),
    *everywhere(2, "quadratic blow-up", QUADRATIC),
    *everywhere(3, "external entity", EXTERNAL, "&x;"),
    *everywhere(3, "external document type", OUTSIDE_DTD),
    *everywhere(3, "parameter entity", PARAMETER),

    Row(4, "comment between stanzas", "bound", ["<!-- evil-text -->", RESTRICTED]),
    Row(4, "comment in a stanza", "bound",
        [message("<!-- x --><body>evil-text</body>"), RESTRICTED, NOBODY_HEARS]),
    Row(4, "comment before login", "clear", ["<!-- x -->", RESTRICTED]),
    Row(4, "processing instruction", "bound",
        [message("<?php system('id') ?><body>evil-text</body>"), RESTRICTED, NOBODY_HEARS]),
    Row(4, "processing instruction before login", "clear", ["<?xml-stylesheet href='x'?>",
                                                             RESTRICTED]),
    Row(4, "undeclared entity", "bound",
        [body("evil-text &xxe;"), closes("restricted-xml", "not-well-formed"), NOBODY_HEARS]),
    Row(4, "second XML declaration", "bound",
        ["<?xml version='1.0'?>", closes("restricted-xml", "not-well-formed")]),

    *[
        Row(5, f"{title} in text", "bound", [octets(raw), BAD_TEXT, NOBODY_HEARS])
        for title, raw in (
            ("reference to NUL", b"&#0;"), ("reference to U+0001", b"&#x1;"),
            ("reference to a lone surrogate", b"&#xD800;"), ("reference to U+FFFF", b"&#xFFFF;"),
            ("reference beyond Unicode", b"&#x110000;"), ("endless reference", b"&#x1111111111;"),
            ("raw NUL", b"\0"), ("raw U+0001", b"\x01"), ("raw U+FFFE", b"\xef\xbf\xbe"),
            ("raw U+FFFF", b"\xef\xbf\xbf"), ("lone surrogate", b"\xed\xa0\x80"),
            ("overlong slash", b"\xc0\xaf"), ("overlong NUL", b"\xc0\x80"),
            ("overlong three", b"\xe0\x80\xaf"), ("five-octet form", b"\xf8\x88\x80\x80\x80"),
            ("beyond U+10FFFF", b"\xf4\x90\x80\x80"), ("stray continuation", b"\x80"),
            ("cut sequence", b"\xe2\x82"), ("octet FF", b"\xff"),
        )
    ],
    *[
        Row(5, f"{title} in an attribute", "bound", [attribute(raw), BAD_TEXT, NOBODY_HEARS])
        for title, raw in (
            ("reference to NUL", b"&#0;"), ("raw U+0001", b"\x01"), ("raw U+FFFF", b"\xef\xbf\xbf"),
            ("lone surrogate", b"\xed\xa0\x80"), ("overlong slash", b"\xc0\xaf"),
        )
    ],

    Row(6, "an id that tries to become a stanza", "bound", [
        message("<body>evil-text</body>",
                attributes='id="&apos;/&gt;&lt;message from=&apos;admin@{domain}&apos;/&gt;"'),
        VictimHears("evil-text"), VictimNeverHears("<message [^>]*from=.admin@"), Lives()]),
    Row(6, "quotes and ampersands in an id", "bound", [
        message("<body>evil-text</body>", attributes="id='a&quot;b&amp;c&lt;d'"),
        VictimHears("evil-text"), VictimNeverHears("id=.a\"b&c<d"), Lives()]),
    Row(6, "tabs and line ends in an id", "bound", [
        message("<body>evil-text</body>", attributes="id='a&#9;b&#10;c&#13;d'"),
        VictimHears("evil-text"), VictimNeverHears("id=.a\tb"), Lives()]),
    Row(6, "markup in a status shown to others", "bound", [
        "<presence to='{victim}'><status>&lt;/status&gt;&lt;x/&gt;evil-text</status></presence>",
        VictimHears("evil-text"), VictimNeverHears("<x/>evil-text"), Lives()]),

    Row(7, "CDATA that looks like the end of a stanza", "bound", [
        body("<![CDATA[</body></message><message from='admin@{domain}'><body>]]>evil-text"),
        VictimHears("evil-text"), VictimNeverHears("(?<!CDATA\\[</body></message>)<message "
                                                   "from='admin@"), Lives()]),
    Row(7, "greater-than inside an attribute", "bound", [
        message("<body>evil-text</body><x xmlns='test' a='/&gt;>]]>'/>"),
        VictimHears("evil-text"), Lives()]),
    Row(7, "the stream's closing tag inside a stanza", "bound",
        [message("<body>evil-text</stream:stream>"), MALFORMED, NOBODY_HEARS]),
    Row(7, "a second root after the end", "bound", ["</stream:stream>" + body("evil-text"),
                                                   NOBODY_HEARS]),

    *[
        Row(8, title, "bound", [message(f"<body>evil-text</body>{xml}"), MALFORMED, NOBODY_HEARS])
        for title, xml in (
            ("]]> in text", "<x xmlns='t'>]]></x>"),
            ("less-than in an attribute", "<x xmlns='t' a='<'/>"),
            ("a doubled attribute", "<x xmlns='t' a='1' a='2'/>"),
            ("an attribute without a value", "<x xmlns='t' a/>"),
            ("an attribute without quotes", "<x xmlns='t' a=1/>"),
            ("no space between attributes", "<x xmlns='t'a='1'/>"),
            ("tags that cross", "<x xmlns='t'><y></x></y>"),
            ("a name that starts with a digit", "<1x xmlns='t'/>"),
            ("an ampersand alone", "<x xmlns='t'>a & b</x>"),
            ("a space before the name", "< x xmlns='t'/>"),
            ("an end tag with attributes", "<x xmlns='t'></x a='1'>"),
        )
    ],
    *[
        Row(8, title, "bound", [message(f"<body>evil-text</body>{xml}"),
            closes("not-well-formed", "bad-namespace-prefix", "invalid-namespace"), NOBODY_HEARS])
        for title, xml in (
            ("a prefix that nobody declared", "<u:x/>"),
            ("an attribute's prefix that nobody declared", "<x xmlns='t' u:a='1'/>"),
            ("xml bound to something else", "<x xmlns:xml='urn:evil'/>"),
            ("xmlns declared as a prefix", "<x xmlns:xmlns='urn:evil'/>"),
            ("a prefix bound to nothing", "<p:x xmlns:p=''/>"),
            ("the same attribute by two prefixes", "<x xmlns:p='t' xmlns:q='t' p:a='1' q:a='1'/>"),
            ("two colons in a name", "<a:b:c xmlns:a='t'/>"),
        )
    ],

    Row(9, "ten thousand levels to somebody online", "bound",
        [nested(10_000), TOO_BIG, NOBODY_HEARS]),
    Row(9, "ten thousand levels before login", "tls", ["<a>" * 10_000, TOO_BIG]),
    Row(9, "ten thousand levels in one's private storage", "bound",
        [iq("set", "<query xmlns='jabber:iq:private'>" + "<a>" * 10_000), TOO_BIG]),
    Row(9, "thirty levels are fine", "bound", [nested(30), VictimHears("evil-text"), Lives()]),

    *[
        Row(10, f"{title} without an end, before login", "tls",
            [Send(lambda w, start=start, fill=fill: start + fill * (12_000 // len(fill))), TOO_BIG])
        for title, start, fill in (
            ("an attribute", "<auth a='", "A"), ("a text", "<auth>", "A"), ("a name", "<", "a"),
        )
    ],
    Row(10, "attributes without an end, before login", "tls",
        [Send(lambda w: "<auth " + " ".join(f"a{n}=''" for n in range(2_000))), TOO_BIG]),
    Row(10, "a name without an end, in clear", "clear", [Send(lambda w: "<" + "a" * 12_000), TOO_BIG]),
    Row(10, "a stream header without an end", "tcp",
        [Send(lambda w: "<stream:stream a='" + "A" * 12_000), closes()]),
    Row(10, "a stanza over the bound", "bound",
        [Send(lambda w: f"<message to='{w['victim']}'><body>evil-text" + "A" * 300_000), TOO_BIG,
         NOBODY_HEARS]),
    Row(10, "an attribute over the bound", "bound",
        [Send(lambda w: f"<message to='{w['victim']}' id='evil-text" + "A" * 300_000), TOO_BIG,
         NOBODY_HEARS]),
    Row(10, "a thousand attributes", "bound",
        [Send(lambda w: f"<message to='{w['victim']}'><body>evil-text</body><x xmlns='t' "
              + " ".join(f"a{n}='1'" for n in range(1_000)) + "/></message>"), TOO_BIG,
         NOBODY_HEARS]),
    Row(10, "a thousand namespace declarations", "bound",
        [Send(lambda w: f"<message to='{w['victim']}'><body>evil-text</body><x "
              + " ".join(f"xmlns:a{n}='u{n}'" for n in range(1_000)) + "/></message>"), TOO_BIG,
         NOBODY_HEARS]),
    Row(10, "fifty thousand elements", "bound",
        [Send(lambda w: f"<message to='{w['victim']}'><body>evil-text</body><x xmlns='t'>"
              + "<a/>" * 50_000 + "</x></message>"), TOO_BIG, NOBODY_HEARS]),
    Row(10, "a megabyte of white space between stanzas is nothing", "bound", [" " * 1_000_000,
                                                                             Lives()]),
    Row(10, "a large stanza below the bound arrives", "bound",
        [Send(lambda w: f"<message to='{w['victim']}'><body>" + "A" * 200_000
              + "evil-text</body></message>"), VictimHears("evil-text"), Lives()]),

    Row(11, "compression is not offered and not begun", "clear", [
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        closes()]),
    Row(11, "compression after login", "authenticated", [
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        closes()]),

    Row(12, "half a header, then gone", "tcp", ["<?xml version='1.0'?><stream:str", Vanishes()]),
    Row(12, "a stream, then gone", "clear", [Vanishes()]),
    Row(12, "half a stanza, then gone", "bound", ["<message to='{victim}'><bo", Vanishes()]),
    Row(12, "a login that never goes on", "tls", [closes()]),
    Row(12, "a connection that says nothing", "tcp", [closes()]),

    Row(57, "an account in capitals is the same account", "bound", [
        message("<body>evil-text</body>", to="VICTIM1@{domain}"), VictimHears("evil-text"),
        Lives()]),
    Row(57, "a domain in capitals is the same domain", "bound", [
        message("<body>evil-text</body>", to="{victim_name}@ENCKE.TEST"), VictimHears("evil-text"),
        Lives()]),
    Row(57, "a zero-width space is mapped to nothing", "bound", [
        message("<body>evil-text</body>", to="{victim_name}\u200b@{domain}"),
        VictimHears("evil-text"), Lives()]),
    *[
        Row(57, f"{title} is not the victim", "bound",
            [message("<body>evil-text</body>", to=jid), Hears("type=.error"), NOBODY_HEARS, Lives()])
        for title, jid in (
            ("a Cyrillic letter", "v\u0456ctim1@{domain}"),
            ("an address with a quote", "vic&apos;tim1@{domain}"),
            ("a local part of 2000 octets", "v" * 2000 + "@{domain}"),
            ("U+FDFA, which grows to 33 octets, 341 times", "\ufdfa" * 341 + "@{domain}"),
            ("an empty local part", "@{domain}"),
            ("an empty resource", "{victim_bare}/"),
            ("two at signs", "a@b@{domain}"),
        )
    ],

    *[
        Row(58, f"{title} arrives octet by octet", "bound", arrives(text))
        for title, text in (
            ("a joined emoji", "👩\u200d👩\u200d👧"), ("right-to-left", "\u202eabc\u202c"),
            ("a letter in two parts", "e\u0301"), ("a noncharacter", "\ufdd0"),
            ("beyond the first plane", "𝄞"), ("a last noncharacter of plane 1", "\U0001fffe"),
            ("a private character", "\ue000"), ("a byte order mark", "\ufeff"),
        )
    ],

    Row(59, "a delay from the year 99999", "bound", [
        message("<body>evil-text</body><delay xmlns='urn:xmpp:delay' from='{domain}' "
                "stamp='99999-99-99T99:99:99Z'/>"), VictimHears("evil-text"), Lives()]),
    Row(59, "presence with a delay that is no time", "bound", [
        "<presence to='{victim}'><delay xmlns='urn:xmpp:delay' stamp='-1'/></presence>", Lives()]),
]
