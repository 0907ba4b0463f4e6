"""Class 44: what hostile clients of BOSH do, and what broken ones do that mean well.

A bystander on a connection of their own must notice nothing of it.
"""

import asyncio
import hashlib
import random

import pytest
import pytest_asyncio

from clients.bosh import Bosh, Wrapper, post, wrap
from clients.cable import DOWN, Cable
from clients.http import Talk
from harness.raw import CLIENT, SASL

pytestmark = pytest.mark.asyncio(loop_scope="module")

RID_MAX = (1 << 53) - 1
PRESENCE = f"<presence xmlns='{CLIENT}'/>"
DOCTYPE = "<!DOCTYPE body [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
ATTRIBUTES = "<a " + " ".join(f"a{n}=''" for n in range(20_000)) + "/>"
FINE = {"rid": "77", "to": "{domain}", "ver": "1.11"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mallory(server):
    return server.account("mallory")


@pytest_asyncio.fixture(loop_scope="module")
async def new(server, unnoticed):
    """Makes sessions, or what is to become one; they are ended after the test."""
    made = []

    async def make(account=None, **how):
        bosh = Bosh(server, account or server.account("web"), **how)
        made.append(bosh)
        return await bosh.__aenter__()

    yield make
    for bosh in made:
        await bosh.__aexit__()


@pytest_asyncio.fixture(loop_scope="module")
async def peer(new, mallory):
    """The hostile peer, logged in."""
    return await (await new(mallory, resource="evil")).login()


async def refused(bosh, answer, condition):
    """The request ended its session, nobody finds it any more, and its client is gone."""
    assert answer.condition == condition, answer
    await bosh.is_gone()


# Requests for a session that none should get, or not as asked.

OPENINGS = [
    ("no rid", "bad-request", wrap(**FINE | {"rid": None})),
    *((f"a rid of {rid!r}", "bad-request", wrap(**FINE | {"rid": rid}))
      for rid in ("", "x", "-1", "0", "1.5", "1e3", "0x10", "\u0661", str(RID_MAX + 1),
                  "9" * 400)),
    *((f"{name} of {value!r}", "bad-request", wrap(**FINE | {name: value}))
      for name in ("wait", "hold", "ver", "ack") for value in ("", "x", "-1")),
    ("no domain", "improper-addressing", wrap(**FINE | {"to": None})),
    ("an empty domain", "improper-addressing", wrap(**FINE | {"to": ""})),
    ("an unknown domain", "host-unknown", wrap(**FINE | {"to": "evil.test"})),
    ("no namespace", "bad-request", wrap(**FINE | {"xmlns": None})),
    ("another namespace", "bad-request", wrap(**FINE | {"xmlns": "evil"})),
    ("a namespace by a prefix nobody declared", "bad-request",
     "<b:body rid='77' to='x'/>"),
    ("another element", "bad-request", wrap(**FINE).replace("body", "soul")),
    ("nothing", "bad-request", ""),
    ("white space", "bad-request", " \r\n "),
    ("words", "bad-request", "hello"),
    ("words inside", "bad-request", wrap("hello", **FINE)),
    ("two wrappers", "bad-request", wrap(**FINE) * 2),
    ("a wrapper in a wrapper that goes on", "bad-request", wrap(**FINE) + "<x/>"),
    ("half a wrapper", "bad-request", wrap(**FINE)[:-7]),
    ("half a tag", "bad-request", wrap(**FINE)[:20]),
    ("a document type", "bad-request", DOCTYPE + wrap(**FINE)),
    ("a document type behind a declaration", "bad-request",
     "<?xml version='1.0'?>" + DOCTYPE + wrap("<a>&x;</a>", **FINE)),
    ("a document type inside", "bad-request", wrap(DOCTYPE, **FINE)),
    ("a billion laughs", "bad-request",
     "<!DOCTYPE l [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
     + wrap("<a>&b;</a>", **FINE)),
    ("an entity", "bad-request", wrap("<a>&x;</a>", **FINE)),
    ("a comment", "bad-request", wrap("<!-- x -->", **FINE)),
    ("an instruction", "bad-request", wrap("<?x y?>", **FINE)),
    ("a section of CDATA between stanzas", "bad-request", wrap("<![CDATA[x]]>", **FINE)),
    ("NUL", "bad-request", wrap("<a>\0</a>", **FINE)),
    ("the reference of NUL", "bad-request", wrap("<a>&#0;</a>", **FINE)),
    ("an octet that is no UTF-8", "bad-request", wrap("<a>@</a>", **FINE).encode().replace(
        b"@", b"\xff")),
    ("a declaration of UTF-16", "bad-request",
     "<?xml version='1.0' encoding='utf-16'?>" + wrap(**FINE)),
    ("UTF-16", "bad-request", wrap(**FINE).encode("utf-16")),
    ("an attribute twice", "bad-request", wrap(**FINE).replace("rid=", "rid='5' rid=")),
    ("another end", "bad-request", wrap("<a></b>", **FINE)),
    ("a wrapper that closes early", "bad-request", wrap("</body><body>", **FINE)),
    ("the end of what is not there", "bad-request", wrap(**FINE | {"type": "terminate"})),
    ("a pause of what is not there", "bad-request", wrap(**FINE | {"pause": "60"})),
    ("a key that is none", "bad-request", wrap(**FINE | {"newkey": "zz"})),
    *((f"a sid like {sid[:40]!r}", "item-not-found", wrap(**FINE | {"sid": sid}))
      for sid in ("", "x", "0" * 32, "f" * 32, "0" * 31, "0" * 33, "+" + "0" * 31, "-1",
                  "\u0660" * 32, "1000" * 8, "&lt;evil/&gt;", "' or 1=1 --".replace("'", "&apos;"),
                  "../../etc/passwd", "a" * 8_000)),
]


@pytest.mark.parametrize("title, condition, text", OPENINGS, ids=[row[0] for row in OPENINGS])
async def test_no_session_comes_of_it(server, unnoticed, title, condition, text):
    fill = (lambda t: t.replace("{domain}", server.domain)) if isinstance(text, str) else (
        lambda t: t.replace(b"{domain}", server.domain.encode()))
    async with Talk(server.http) as talk:
        answer = Wrapper(await talk.ask(post(server.http, fill(text))))
        wanted = condition if isinstance(condition, tuple) else (condition,)
        if condition == "host-unknown" and answer.type is None:
            # The session began, and its stream ends in the next answer.
            asked = wrap(rid=78, sid=answer.element.get("sid"))
            answer = Wrapper(await talk.ask(post(server.http, asked)))
        assert answer.condition in wanted, answer
        assert b"passwd" not in answer.answer.octets and b"evil" not in answer.answer.body
        assert answer.element.get("sid") is None
        again = Wrapper(await talk.ask(post(server.http, wrap(
            rid=79, to=server.domain, type="terminate", sid="0" * 32))))
        assert again.condition == "item-not-found", "the connection is still of use"


@pytest.mark.parametrize("wait, hold", [(10**9, 1), (60, 10**9), (10**9, 10**9),
                                        ((1 << 32) - 1, (1 << 32) - 1)])
async def test_what_is_asked_for_is_bounded(new, mallory, wait, hold):
    peer = await new(mallory)
    granted = (await peer.open(wait=wait, hold=hold)).element
    assert 0 < int(granted.get("wait")) <= 60
    assert 1 <= int(granted.get("hold")) <= 2
    assert int(granted.get("requests")) == int(granted.get("hold")) + 1


@pytest.mark.parametrize("name, value", [("wait", 1 << 64), ("hold", 10**30), ("wait", "9" * 400)])
async def test_what_is_no_number_for_us_is_refused_or_bounded(new, mallory, name, value):
    peer = await new(mallory)
    answer = await peer.open(**{name: value})
    if answer.condition is None:
        assert int(answer.element.get("wait")) <= 60 and int(answer.element.get("hold")) <= 2
    else:
        assert answer.condition == "bad-request"


async def test_a_page_cannot_choose_to_be_html(new, mallory):
    peer = await new(mallory)
    answer = await peer.open(content="text/html; charset=utf-8")
    assert answer.answer.kind == "text/xml"
    assert answer.answer.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize("text", [
    wrap("<a>" + "x" * (1 << 20) + "</a>", **FINE), wrap("<a>" * 10_000, **FINE),
    wrap(ATTRIBUTES, **FINE), wrap("<a/>" * 50_000, **FINE)],
    ids=["1 MB", "10,000 levels", "20,000 attributes", "50,000 elements"])
async def test_too_much_of_somebody_unknown_is_refused_before_it_is_read(server, unnoticed, text):
    async with Talk(server.http) as talk:
        answer = await talk.ask(post(server.http, text))
        assert answer.status == 413 and await talk.ended() == b""


async def test_identifiers_cannot_be_guessed(new, mallory):
    """128 bits, of which the first 16 only say where the session was born (class 22)."""
    sids = []
    for _ in range(16):
        peer = await new(mallory)
        sids.append((await peer.open()).element.get("sid"))
    assert len({sid[4:] for sid in sids}) == 16 and all(len(sid) == 32 for sid in sids)
    for at in range(4, 32):
        assert len({sid[at] for sid in sids}) > 4, f"digit {at} hardly changes: {sids}"


# Requests of a session.


async def test_a_request_that_came_before_gets_the_same_answer(peer):
    """Octet by octet, and what it carried is not done again."""
    ping = peer.post(peer.ping("once"))
    first = await peer.talk.ask(ping)
    if b"once" not in first.body:
        rid_of_answer = peer.post()
        second = await peer.talk.ask(rid_of_answer)
        assert b"once" in second.body
        assert (await peer.talk.ask(rid_of_answer)).octets == second.octets
    assert (await peer.talk.ask(ping)).octets == first.octets
    async with Talk(peer.address) as other:
        assert (await other.ask(ping)).octets == first.octets, "on another connection too"
    await peer.lives()


async def test_a_request_that_changed_gets_the_old_answer(peer, unnoticed):
    """And what it carries now is not done (section 14.3)."""
    rid = peer.rid + 1
    first = await peer.talk.ask(peer.post(peer.ping("first")))
    changed = peer.post(peer.message(unnoticed.jid, "evil"), rid=rid)
    assert (await peer.talk.ask(changed)).octets == first.octets
    await peer.lives()


async def test_asking_again_has_an_end(peer):
    ping = peer.post(peer.ping())
    first = await peer.talk.ask(ping)
    for again in range(1_000):
        answer = Wrapper(await peer.talk.ask(ping))
        if answer.type is not None:
            break
        assert answer.answer.octets == first.octets
    assert again >= 10, "an unlucky client may ask some times"
    await refused(peer, answer, "policy-violation")


@pytest.mark.parametrize("off", [1_000, 3, 10**15, -1_000, "max"])
async def test_a_rid_outside_the_window(peer, off):
    rid = RID_MAX if off == "max" else peer.rid + off
    await refused(peer, await peer.ask(rid=rid), "item-not-found")


@pytest.mark.parametrize("rid", ["", "x", "-1", "0", str(1 << 53), "1 2", None])
async def test_a_rid_that_is_no_number_cannot_end_a_session(peer, rid):
    """Or anybody could who knows nothing but how to write nonsense."""
    answer = await peer.ask(rid=rid)
    assert answer.condition == "bad-request", answer
    await peer.lives()


@pytest.mark.parametrize("content", [DOCTYPE, "<a>", "</body><body>", "<!-- x -->", "x", "\0"])
async def test_what_cannot_be_read_cannot_end_a_session(peer, content):
    answer = Wrapper(await peer.talk.ask(post(peer.address, wrap(
        content, rid=peer.rid + 1, sid=peer.sid))))
    assert answer.condition == "bad-request", answer
    await peer.lives()


async def test_a_foreign_sid_tells_nothing(peer, new, mallory):
    """A sid that is nearly right is as wrong as any, and its owner does not notice."""
    for at in (0, 4, 16, 31):
        digit = "0" if peer.sid[at] != "0" else "1"
        near = peer.sid[:at] + digit + peer.sid[at + 1:]
        answer = await peer.ask(sid=near, rid=peer.rid + 1)
        assert answer.condition == "item-not-found", answer
    await peer.lives()


async def test_more_requests_than_agreed(peer):
    """`hold` is 1: two may be on their way, a third is too much, and so are polls in a hurry."""
    lines = [await peer.line() for _ in range(6)]
    for line in lines:
        await peer.send(talk=line)
    answers = [await peer.hear(line) for line in lines]
    conditions = [answer.condition for answer in answers]
    # Connections overtake each other, so one far ahead of its turn may come first.
    assert {"policy-violation", "item-not-found"} & set(conditions), conditions
    await peer.is_gone()


async def test_empty_polls_without_hold_are_not_a_sport(new, mallory):
    """Section 12: who polls more often than agreed is sent away."""
    peer = await new(mallory)
    await peer.open(hold=0)
    for _ in range(10):
        answer = await peer.ask()
        if answer.type is not None:
            break
    await refused(peer, answer, "policy-violation")


def chain(length, seed="seed"):
    """Section 15.2: the last is shown first."""
    keys = [hashlib.sha1(seed.encode()).hexdigest()]
    while len(keys) < length:
        keys.append(hashlib.sha1(keys[-1].encode()).hexdigest())
    return keys


async def keyed(new, mallory):
    peer = await new(mallory)
    keys = chain(10)
    answer = await peer.open(newkey=keys.pop())
    if not len(answer.element):
        await peer.ask(key=keys.pop())
    return peer, keys


async def test_a_right_sequence_of_keys(new, mallory):
    """Also where it changes to another one."""
    peer, keys = await keyed(new, mallory)
    other = chain(5, "other")
    for shown in ({"key": keys.pop()}, {"key": keys.pop(), "newkey": other.pop()},
                  {"key": other.pop()}, {"key": other.pop()}):
        answer = await peer.ask(f"<auth xmlns='{SASL}' mechanism='X'/>", **shown)
        assert answer.type is None and b"invalid-mechanism" in answer.answer.body, answer


@pytest.mark.parametrize("wrong", ["none", "skipped", "repeated", "upper", "garbage", "empty",
                                   "another's"])
async def test_a_wrong_key(new, mallory, wrong):
    """Section 15: whoever knows the sid and the rid but not the next key is nobody."""
    peer, keys = await keyed(new, mallory)
    used, due = hashlib.sha1(keys[-1].encode()).hexdigest(), keys[-1]
    key = {"none": None, "skipped": keys[-2], "repeated": used, "upper": due.upper(),
           "garbage": "z" * 40, "empty": "", "another's": chain(5, "evil")[2]}[wrong]
    if key == due:
        pytest.skip("a key without letters")
    await refused(peer, await peer.ask(key=key), "item-not-found")


async def test_an_end_that_comes_twice(peer):
    end = peer.post(f"<presence xmlns='{CLIENT}' type='unavailable'/>", type="terminate")
    first = Wrapper(await peer.talk.ask(end))
    assert first.type == "terminate" and first.element.get("condition") is None, first
    again = Wrapper(await peer.talk.ask(end))
    assert again.type == "terminate", again
    await peer.is_gone()


async def test_nothing_is_taken_behind_the_end(peer, unnoticed):
    """All at once, over two connections, the last one first."""
    other = await peer.line()
    end = peer.post(type="terminate")
    behind = peer.post(peer.message(unnoticed.jid, "evil"))
    await other.send(behind)
    await peer.talk.send(end)
    assert (await peer.hear()).type == "terminate"
    await peer.hear(other)
    await peer.is_gone()


async def test_a_stream_inside_a_stream(peer):
    """What only a wrapper may say is not taken from inside of one."""
    stream = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    answer = await peer.ask(stream + f" to='{peer.server.domain}' version='1.0'/>")
    while answer.type is None:
        answer = await peer.ask()
    await refused(peer, answer, "remote-stream-error")


@pytest.mark.parametrize("form", [
    "victim@{domain}", "victim@{domain}/home", "{domain}", "evil.test", "{bare}x"])
async def test_nobody_speaks_in_the_name_of_another(peer, unnoticed, form):
    """Class 24: as on TCP."""
    sender = form.format(domain=peer.server.domain, bare=peer.account.jid)
    text = peer.message(unnoticed.jid, "evil").replace(" to=", f" from='{sender}' to=")
    answer = await peer.ask(text)
    while answer.type is None:
        answer = await peer.ask()
    await refused(peer, answer, "remote-stream-error")
    assert b"invalid-from" in answer.answer.body


# Networks that lose what is on its way: nothing is lost, and nothing comes twice.


async def test_a_poll_whose_connection_dies_is_asked_again(peer, unnoticed):
    """The server may see the reset before or behind the message that would have been the answer."""
    heard = []
    for number in range(20):
        dying = await peer.line()
        poll = peer.post()
        await dying.send(poll)
        if number % 2:
            await unnoticed.message(peer.jid, f"{number}", f"a{number}")
            await unnoticed.ping()
            dying.cut()
        else:
            dying.cut()
            await unnoticed.message(peer.jid, f"{number}", f"a{number}")
        answer = Wrapper(await peer.talk.ask(poll))
        heard += answer.bodies()
        while f"{number}" not in heard:
            answer = await peer.ask()
            assert answer.type is None, answer
            heard += answer.bodies()
    assert heard == [f"{number}" for number in range(20)]
    await peer.lives()


@pytest.mark.parametrize("notices", [True, False], ids=["reset", "unnoticed"])
async def test_an_answer_that_was_lost_is_asked_for_again(server, peer, unnoticed, notices):
    """It left the server and did not arrive: the same octets come again."""
    heard = []
    for number in range(5):
        async with Cable(lambda: server.http) as cable, Talk(cable.address) as dying:
            cable.hold(DOWN)
            poll = peer.post()
            await dying.send(poll)
            await peer_is_held(peer, unnoticed)
            await unnoticed.message(peer.jid, f"{number}", f"l{number}")
            await unnoticed.ping()
            cable.cut(notices)
            first = await peer.talk.ask(poll)
            assert (await peer.talk.ask(poll)).octets == first.octets or not Wrapper(
                first).bodies()
            heard += Wrapper(first).bodies()
        while f"{number}" not in heard:
            answer = await peer.ask()
            assert answer.type is None, answer
            heard += answer.bodies()
    assert heard == [f"{number}" for number in range(5)]
    await peer.lives()


async def peer_is_held(peer, bystander):
    """Some round trips of others: whatever is on its way to the server has most likely come. The
    test is right either way, but it tests more then.
    """
    for _ in range(3):
        await bystander.ping()


async def test_a_request_sent_again_is_done_once(peer, unnoticed):
    """Its connection dies with it; the client cannot know whether it came."""
    for number in range(20):
        dying = await peer.line()
        octets = peer.post(peer.message(unnoticed.jid, f"{number}") + peer.ping())
        # Whole, or all but the last octet: then it did not come.
        await dying.send(octets if number % 2 else octets[:-1])
        dying.cut()
        answer = Wrapper(await peer.talk.ask(octets))
        assert answer.type is None, answer
    for number in range(20):
        heard = await unnoticed.next()
        assert heard.findtext(f"{{{CLIENT}}}body") == f"{number}", unnoticed.story()


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
async def test_requests_that_overtake_each_other_are_done_in_order(
        new, mallory, unnoticed, order):
    """In whatever order they arrive; all are answered, in the order of their identifiers."""
    peer = await (await new(mallory, resource="evil")).login(hold=2)
    friend = await new()
    await friend.login()
    requests = {name: peer.post(peer.message(friend.jid, name)) for name in "abc"}
    lines = {name: await peer.line() for name in "abc"}
    for name in order:
        await lines[name].send(requests[name])
        await unnoticed.ping()
    heard = []
    while len(heard) < 3:
        heard += (await friend.ask()).bodies()
    assert heard == ["a", "b", "c"]
    # Two are held, so the third had the first one answered. The end answers the others.
    assert (await peer.hear(lines["a"])).type is None
    await peer.send(type="terminate")
    answers = [await peer.hear(lines["b"]), await peer.hear(lines["c"]), await peer.hear()]
    assert [answer.condition for answer in answers].count("none") == 1, answers
    await peer.is_gone()


async def test_a_session_over_any_number_of_connections(peer, unnoticed):
    """Each request over one of its own, some of which die in the middle of another request."""
    for number in range(20):
        line = await peer.line()
        if number % 3 == 0:
            ruined = peer.post(peer.message(unnoticed.jid, "evil"), rid=peer.rid + 1)
            await line.send(ruined[:random.randrange(1, len(ruined) - 1)])
            line.cut()
            line = await peer.line()
        answer = await peer.ask(peer.ping(f"n{number}"), talk=line)
        while f"n{number}".encode() not in answer.answer.body:
            answer = await peer.ask(talk=line)
            assert answer.type is None, answer


async def test_both_ends_of_one_session_at_once(peer, new):
    """Two connections in turn, both with a message and an answer under way all the time."""
    friend = await (await new()).login()
    spoken, heard = [f"{number}" for number in range(50)], []

    async def speak():
        for text in spoken:
            answer = await peer.ask(peer.message(friend.jid, text) + peer.ping())
            assert answer.type is None, answer

    async def listen():
        while len(heard) < len(spoken):
            answer = await friend.ask()
            assert answer.type is None, answer
            heard.extend(answer.bodies())

    await asyncio.gather(speak(), listen())
    assert heard == spoken
