"""Classes 24-29, 33-37, 51, 53, 54: a peer with an account and a session."""

import asyncio
import contextlib
import re

from harness.raw import CLIENT, SM, Client, Closed

from steps import (Do, Hears, Lives, Row, Send, VictimHears, VictimNeverHears, body, closes, iq,
                   message)

NOBODY_HEARS = VictimNeverHears("evil-text")
ERROR = Hears("type=.error")
CARBON = ("<{kind} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
          "<message xmlns='jabber:client' from='{bystander}' to='{victim}'>"
          "<body>evil-text</body></message></forwarded></{kind}>")
ROSTER = "<query xmlns='jabber:iq:roster'>{item}</query>"


class StanzaIdsAreTrue:
    """No stanza-id in the name of the server or of the victim that the peer wrote survives."""

    async def check(self, peer, stage):
        await stage.victim.hear("evil-text")
        await stage.victim.ping()
        assert b"FAKE" not in stage.victim.received, stage.victim.story()


async def _roster_has_no_nurse(peer, stage):
    answer = await stage.victim.iq("get", "<query xmlns='jabber:iq:roster'/>")
    items = [item.get("jid") for item in answer.iter("{jabber:iq:roster}item")]
    assert not any("nurse" in jid or "mallory" in jid for jid in items), items


async def _subscription_stays_none(peer, stage):
    answer = await peer.iq("get", "<query xmlns='jabber:iq:roster'/>")
    for item in answer.iter("{jabber:iq:roster}item"):
        assert item.get("subscription") in ("none", "to", None), item.attrib
        assert not (item.get("jid") == stage.server.victim.jid
                    and item.get("subscription") in ("both", "from", "to")), item.attrib


async def _no_presence_of_the_victim(peer, stage):
    await stage.victim.send("<presence><status>secret-status</status></presence>")
    await stage.victim.ping()
    await peer.ping()
    assert b"secret-status" not in peer.received, peer.story()


async def _one_owner(peer, stage):
    """The second of two sessions that ask for one resource: one of them ends, or gets another."""
    second = Client(stage.server, stage.server.hostile, "evil")
    stage.peers.append(second)
    await second.login()
    if second.jid == peer.jid:
        assert await peer.ended() == "conflict"
    await second.ping()


async def _too_many_sessions(peer, stage):
    """More sessions of an account than the bound: the next is refused, the old ones live."""
    refused = False
    for number in range(60):
        client = Client(stage.server, stage.server.hostile, f"many{number}")
        stage.peers.append(client)
        try:
            await client.authenticate()
            await client.send(
                "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
                f"<resource>many{number}</resource></bind></iq>"
            )
            answer = await client.expect(f"{{{CLIENT}}}iq")
            refused = answer.get("type") == "error"
        except Closed as closed:
            refused = closed.condition in ("resource-constraint", "policy-violation")
        if refused:
            break
    assert refused or stage.server.kind != "encke", "60 sessions of one account"
    await peer.ping()


async def _resume_twice(peer, stage):
    """The same session resumed from two links at once has one owner."""
    peer.cut()
    links = []
    for number in range(2):
        link = Client(stage.server, stage.server.hostile, name=f"link {number}")
        stage.peers.append(link)
        await link.authenticate()
        links.append(link)
    answers = await asyncio.gather(*(link.resume(peer) for link in links), return_exceptions=True)
    assert all(a.condition == "conflict" for a in answers if isinstance(a, Closed))
    resumed = [link for link, a in zip(links, answers)
               if not isinstance(a, Exception) and a.tag == f"{{{SM}}}resumed"]
    assert resumed
    alive = 0
    for link in resumed:
        with contextlib.suppress(Closed):
            await link.ping()
            alive += 1
    assert alive == 1


async def _steal(peer, stage):
    owner = await stage.person(stage.server.neighbour, "owned", managed=True)
    thief = Client(stage.server, stage.server.hostile)
    stage.peers.append(thief)
    await thief.authenticate()
    answer = await thief.resume(owner)
    assert answer.tag == f"{{{SM}}}failed"
    await owner.ping()


async def _never_acknowledges(peer, stage):
    """What waits for an acknowledgement is bounded in octets; what is over goes to the store."""
    before = stage.server.pss()
    lazy = Client(stage.server, stage.server.account("lazy"), "home")
    stage.peers.append(lazy)
    lazy.answers_requests = False
    await lazy.login(managed=True)
    await lazy.send(f"<r xmlns='{SM}'/>")
    text = "x" * 10_000
    for number in range(300):
        await peer.message(lazy.jid, text, f"lazy{number}")
        if number % 20 == 19:
            await peer.ping()
    await peer.ping()
    grown = stage.server.pss() - before
    # The queue, the journal, and what the store has not written out yet: 7 to 16 MB were seen.
    assert grown < 24e6, f"3 MB for a session that never acknowledged cost {grown / 1e6:.0f} MB"


async def _slow_reader(peer, stage):
    """A victim that never reads costs a bounded buffer, not 20 MB."""
    slow = Client(stage.server, stage.server.account("slow"), "home")
    stage.peers.append(slow)
    await slow.login(receive_buffer=4096)
    slow._pump.cancel()
    slow.writer.transport.pause_reading()
    before = stage.server.pss()
    text = "x" * 20_000
    for number in range(500):
        await peer.message(slow.jid, text, f"slow{number}")
        if number % 10 == 9:
            await peer.ping(timeout=30)
    grown = stage.server.pss() - before
    assert grown < 24e6, f"10 MB for somebody who does not read cost {grown / 1e6:.0f} MB"
    slow.cut()


async def _asks_and_never_reads(peer, stage):
    """60,000 questions whose answers are never read: the asker is no longer read, that is all."""
    peer._pump.cancel()
    peer.writer.transport.pause_reading()
    before = stage.server.pss()
    question = iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>",
                  stage.server.domain) * 100

    async def flood():
        for _ in range(600):
            await peer.send(question)

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(flood(), 4)
    grown = stage.server.pss() - before
    assert grown < 24e6, f"unread answers cost {grown / 1e6:.0f} MB"
    peer.cut()


async def _idle_flood(peer, stage):
    """600 connections that say nothing do not keep anybody out."""
    host, port = stage.server.clear
    links = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(600)),
                                 return_exceptions=True)
    await stage.all_is_well()
    for link in links:
        if not isinstance(link, BaseException):
            link[1].transport.abort()


async def _half_handshakes(peer, stage):
    """200 handshakes that begin and never go on."""
    host, port = stage.server.tls
    hello = bytes.fromhex("160301020001") + b"\0" * 40
    links = [await asyncio.open_connection(host, port) for _ in range(200)]
    for _, writer in links:
        writer.write(hello)
    await stage.all_is_well()
    for _, writer in links:
        writer.transport.abort()


async def _stampede(peer, stage):
    """120 logins at once are served."""
    account = [stage.server.account("herd") for _ in range(12)]
    herd = [Client(stage.server, account[n % 12], f"r{n}") for n in range(120)]
    await asyncio.gather(*(client.login() for client in herd))
    for client in herd:
        await client.close()


async def _distinct_keys(peer, stage):
    """Unlimited distinct names, namespaces and targets leave nothing behind."""
    before = stage.server.pss()
    for start in range(0, 20_000, 200):
        await peer.send("".join(
            f"<iq type='get' id='k{n}' to='user{n}@{stage.server.domain}'>"
            f"<name{n} xmlns='urn:evil:{n}'/></iq>" for n in range(start, start + 200)
        ))
        await peer.ping(timeout=30)
    grown = stage.server.pss() - before
    assert grown < 16e6, f"20,000 distinct names cost {grown / 1e6:.0f} MB"


async def _amplification(peer, stage):
    """Directed presence to very many is bounded: the goodbye may not be sent a thousandfold."""
    for start in range(0, 1_000, 100):
        await peer.send("".join(
            f"<presence to='user{n}@{stage.server.domain}'/>" for n in range(start, start + 100)
        ))
    await peer.ping(timeout=30)


async def _both_ask_for_errors(peer, stage):
    """Errors to people and resources that do not exist come to nothing."""
    await peer.send(
        "<message type='error' id='loop1' to='nobody@{0}'><error type='cancel'/></message>"
        "<message type='error' id='loop2' to='{0}'><error type='cancel'/></message>"
        "<iq type='error' id='loop3' to='nobody@{0}/x'><error type='cancel'/></iq>"
        "<iq type='result' id='loop4' to='{0}'/><iq type='result' id='loop5' to='nobody@{0}'/>"
        "<presence type='error' to='nobody@{0}'/>".format(stage.server.domain)
    )
    await peer.ping()
    assert b"loop" not in peer.received, peer.story()


def _spoof(words, claim):
    for name, value in words.items():
        claim = claim.replace("{" + name + "}", value)
    return (f"<message from='{claim}' to='{words['victim']}' type='chat'>"
            "<body>evil-text</body></message>")


async def _spoofed(peer, stage):
    """Either refused with invalid-from, or delivered under the true address."""
    heard = asyncio.ensure_future(_true_sender(peer, stage))
    ended = asyncio.ensure_future(peer.ended())
    done, waiting = await asyncio.wait({heard, ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if ended in done and heard not in done:
        assert ended.result() == "invalid-from"
    else:
        heard.result()


async def _true_sender(peer, stage):
    heard = await stage.victim.hear("<message[^>]*>(?:(?!<message ).)*?(?=evil-text|<forwarded)")
    head = heard.group(0).split(b">")[0].decode()
    assert re.search(rf"from=['\"]{re.escape(peer.jid)}['\"]", head), head


async def _push_carries_sender(peer, stage):
    """If the victim's client gets the forged push at all, it can see who sent it."""
    await stage.victim.ping()
    found = re.search(rb"<iq[^>]*>(?=<query[^>]*jabber:iq:roster[^>]*><item[^>]*nurse)",
                      bytes(stage.victim.received))
    assert not found or peer.jid.encode() in found.group(0), found.group(0)


async def _bystander_heard_nothing(peer, stage):
    await stage.bystander.ping()
    assert b"evil-text" not in stage.bystander.received


SPOOFED = ("{victim}", "{victim_bare}", "{domain}", "admin@{domain}", "{me}@elsewhere.test", "",
           "{bystander}", "not a jid", "@", "{me}/another")
SM_H = ("4294967295", "100")
SM_BAD = ("abc", "-1", "", "99999999999999999999", "1.5", " 0x1")

ROWS = [
    *[
        Row(24, f"from='{claim}'", "bound", [
            Send(lambda w, claim=claim: _spoof(w, claim)), Do(_spoofed)])
        for claim in SPOOFED
    ],

    Row(25, "a roster push to somebody else", "bound", [
        iq("set", ROSTER.format(item="<item jid='nurse@{domain}' name='evil-text'/>"), "{victim}"),
        Do(_roster_has_no_nurse), Do(_push_carries_sender)]),
    Row(25, "a roster set on another's account", "bound", [
        iq("set", ROSTER.format(item="<item jid='nurse@{domain}'/>"), "{victim_bare}"), ERROR,
        Do(_roster_has_no_nurse), Lives()]),
    Row(25, "reading another's roster", "bound", [
        iq("get", ROSTER.format(item=""), "{victim_bare}"), ERROR, Lives()]),

    Row(26, "a subscription one gives oneself", "bound", [
        iq("set", ROSTER.format(item="<item jid='{victim_bare}' subscription='both'/>")),
        Hears("id=.i1"), Do(_subscription_stays_none), Do(_no_presence_of_the_victim)]),
    Row(26, "subscribed without having been asked", "bound", [
        "<presence type='subscribed' to='{victim_bare}'/>", Do(_roster_has_no_nurse), Lives()]),
    Row(26, "a probe by a stranger", "bound", [
        "<presence type='probe' to='{victim_bare}'/>", Do(_no_presence_of_the_victim)]),

    *[
        Row(27, f"a forged carbon ({kind})", "bound", [
            message(CARBON.replace("{kind}", kind)), Do(_true_sender)])
        for kind in ("received", "sent")
    ],
    Row(27, "a forged archive result", "bound", [
        message("<result xmlns='urn:xmpp:mam:2' id='x'><forwarded xmlns='urn:xmpp:forward:0'>"
                "<message xmlns='jabber:client'><body>evil-text</body></message></forwarded>"
                "</result>"), Do(_true_sender)]),

    Row(28, "another's private storage", "bound", [
        iq("get", "<query xmlns='jabber:iq:private'><x xmlns='t'/></query>", "{victim_bare}"),
        ERROR, Lives()]),
    Row(28, "writing another's private storage", "bound", [
        iq("set", "<query xmlns='jabber:iq:private'><x xmlns='t'>e</x></query>", "{victim_bare}"),
        ERROR, Lives()]),
    Row(28, "writing another's vCard", "bound", [
        iq("set", "<vCard xmlns='vcard-temp'><FN>evil-text</FN></vCard>", "{victim_bare}"), ERROR,
        Lives()]),
    Row(28, "another's block list", "bound", [
        iq("get", "<blocklist xmlns='urn:xmpp:blocking'/>", "{victim_bare}"), ERROR, Lives()]),
    Row(28, "another's last activity", "bound", [
        iq("get", "<query xmlns='jabber:iq:last'/>", "{victim_bare}"), ERROR, Lives()]),
    Row(28, "another's archive", "bound", [
        iq("set", "<query xmlns='urn:xmpp:mam:2'/>", "{victim_bare}"), ERROR, Lives()]),

    *[
        Row(29, f"a forged stanza-id, {title}", "bound", [
            message(f"<body>evil-text</body>{xml}"), StanzaIdsAreTrue(), Lives()])
        for title, xml in (
            ("by the victim", "<stanza-id xmlns='urn:xmpp:sid:0' by='{victim_bare}' id='FAKE'/>"),
            ("by the server", "<stanza-id xmlns='urn:xmpp:sid:0' by='{domain}' id='FAKE'/>"),
            ("several", "<stanza-id xmlns='urn:xmpp:sid:0' by='{victim_bare}' id='FAKE'/>" * 5),
            ("in capitals", "<stanza-id xmlns='urn:xmpp:sid:0' by='VICTIM1@ENCKE.TEST' id='FAKE'/>"),
            ("with a prefix", "<p:stanza-id xmlns:p='urn:xmpp:sid:0' by='{victim_bare}' id='FAKE'/>"),
            ("with a reference in its namespace",
             "<stanza-id xmlns='urn:xmpp:sid&#58;0' by='{victim_bare}' id='FAKE'/>"),
            ("with a reference in its by",
             "<stanza-id xmlns='urn:xmpp:sid:0' by='&#118;ictim1@{domain}' id='FAKE'/>"),
            ("before the body",
             "<stanza-id xmlns='urn:xmpp:sid:0' by='{victim_bare}' id='FAKE'></stanza-id>"),
        )
    ],

    Row(33, "a thousand directed presences", "bound", [Do(_amplification)]),
    Row(34, "errors and results to nobody", "bound", [Do(_both_ask_for_errors)]),
    Row(35, "a wrapped stanza is not unwrapped", "bound", [
        message("<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' "
                "to='{bystander}' from='admin@{domain}'><body>evil-text</body></message>"
                "</forwarded>", to="{domain}"), NOBODY_HEARS, Do(_bystander_heard_nothing)]),
    Row(35, "privileges one does not have", "bound", [
        iq("set", "<privileged_iq xmlns='urn:xmpp:privilege:2'><iq type='set' "
           "xmlns='jabber:client'/></privileged_iq>", "{victim_bare}"), ERROR, Lives()]),

    Row(36, "the same resource twice", "bound", [Do(_one_owner)]),
    Row(36, "bind twice", "bound", [
        iq("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", ident="again"),
        Hears("type=.error|stream:error")]),
    Row(36, "sixty sessions of one account", "bound", [Do(_too_many_sessions)]),
    Row(36, "a resource of 2000 octets", "authenticated", [
        Send(lambda w: iq("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>"
                          + "r" * 2000 + "</resource></bind>")), Hears("type=.error|stream:error|"
                                                                       "<jid>")]),
    Row(36, "login twice", "bound", [
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>",
        Hears("failure|stream:error")]),

    *[Row(37, f"acknowledging {h} stanzas that nobody sent", "managed", [
        f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>", closes("undefined-condition", "policy-violation")])
      for h in SM_H],
    *[Row(37, f"h='{h}'", "managed", [
        f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>",
        closes("undefined-condition", "policy-violation", "bad-format", "invalid-xml")])
      for h in SM_BAD],
    Row(37, "an acknowledgement without h", "managed", [
        "<a xmlns='urn:xmpp:sm:3'/>",
        closes("undefined-condition", "policy-violation", "bad-format", "invalid-xml")]),
    Row(37, "enabled twice", "managed", ["<enable xmlns='urn:xmpp:sm:3'/>",
                                         Hears("urn:xmpp:sm:3.*failed|<failed|stream:error")]),
    Row(37, "resume when bound", "bound", [
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>", Hears("<failed|stream:error")]),
    Row(37, "a resumption id that nobody has", "authenticated", [
        "<resume xmlns='urn:xmpp:sm:3' previd='nobody' h='0'/>", Hears("<failed.*item-not-found")]),
    Row(37, "a resumption id that is no id", "authenticated", [
        Send(lambda w: "<resume xmlns='urn:xmpp:sm:3' previd='" + "A" * 5000 + "' h='0'/>"),
        Hears("<failed")]),
    Row(37, "another's session", "tcp", [Do(_steal)]),
    Row(37, "one session resumed twice", "managed", [Do(_resume_twice)]),
    Row(37, "a session that never acknowledges", "bound", [Do(_never_acknowledges)]),
    Row(37, "ten thousand requests for an acknowledgement", "managed", [
        "<r xmlns='urn:xmpp:sm:3'/>" * 10_000, Lives()]),

    Row(51, "a reader who never reads", "bound", [Do(_slow_reader)]),
    Row(51, "sixty thousand answers never read", "bound", [Do(_asks_and_never_reads)]),

    Row(53, "twenty thousand distinct names", "bound", [Do(_distinct_keys)]),

    Row(54, "six hundred silent connections", "tcp", [Do(_idle_flood)]),
    Row(54, "two hundred half handshakes", "tcp", [Do(_half_handshakes)]),
    Row(54, "a hundred and twenty logins at once", "tcp", [Do(_stampede)]),
]
