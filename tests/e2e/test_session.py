"""The heart of the session over real sockets: XEP-0198, offline messages, several resources."""

import pytest

from harness.raw import CLIENT, DELAY, SM, Client, Closed


async def test_resuming_replays_exactly_what_is_missing(server, connect):
    romeo = await connect(server.account("romeo"))
    juliet = await connect(server.account("juliet"), managed=True)
    await romeo.message(juliet.jid, "before the cut", "1")
    await juliet.body("before the cut")
    await juliet.acknowledge()
    juliet.cut()
    for number in range(5):
        await romeo.message(juliet.jid, f"while away {number}", f"w{number}")
    await romeo.ping()

    again = Client(server, juliet.account, name="juliet again")
    async with again:
        await again.authenticate()
        answer = await again.resume(juliet)
        assert answer.tag == f"{{{SM}}}resumed", again.story()
        heard = [await again.expect(f"{{{CLIENT}}}message") for _ in range(5)]
        bodies = [m.findtext(f"{{{CLIENT}}}body") for m in heard]
        assert bodies == [f"while away {n}" for n in range(5)]
        await romeo.message(juliet.jid, "live again", "2")
        await again.body("live again")


async def test_what_was_sent_but_not_acknowledged_is_sent_again(server, connect):
    romeo = await connect(server.account("romeo"))
    juliet = await connect(server.account("juliet"), managed=True)
    juliet.answers_requests = False
    before = juliet.handled
    await romeo.message(juliet.jid, "into the dark", "1")
    await juliet.body("into the dark")
    juliet.cut()

    async with Client(server, juliet.account, name="juliet again") as again:
        await again.authenticate()
        await again.resume(juliet, handled=before)
        await again.body("into the dark")


async def test_what_a_dead_session_never_acknowledged_goes_offline(server, connect):
    """Logging in anew, instead of resuming, gets the message from the offline store."""
    romeo = await connect(server.account("romeo"))
    account = server.account("juliet")
    juliet = await connect(account, resource="phone", managed=True)
    juliet.answers_requests = False
    await romeo.message(juliet.jid, "do not lose me", "1")
    await juliet.body("do not lose me")
    juliet.cut()

    # The same resource again: the old session is replaced, so it has ended (RFC 6120, 7.7.2.2).
    again = await connect(account, resource="phone")
    await again.body("do not lose me")


async def test_offline_messages_come_once_in_order_with_their_time(server, connect):
    romeo = await connect(server.account("romeo"))
    account = server.account("juliet")
    for number in range(3):
        await romeo.message(account.jid, f"letter {number}", f"l{number}")
    await romeo.ping()

    juliet = await connect(account)
    letters = [await juliet.expect(f"{{{CLIENT}}}message") for _ in range(3)]
    assert [m.findtext(f"{{{CLIENT}}}body") for m in letters] == [f"letter {n}" for n in range(3)]
    for letter in letters:
        delay = letter.find(f"{{{DELAY}}}delay")
        assert delay is not None and delay.get("stamp"), juliet.story()
    await juliet.close()

    later = await connect(account)
    await later.ping()
    assert b"letter" not in later.received, "an offline message came twice"


async def test_the_sender_is_acknowledged(server, connect):
    romeo = await connect(server.account("romeo"), managed=True)
    juliet = server.account("juliet")
    for number in range(10):
        await romeo.message(juliet.jid, f"m{number}", f"m{number}")
    await romeo.acknowledged()
    assert romeo.acked == romeo.sent


@pytest.mark.parametrize("handled", ["4294967295", "12"])
async def test_acknowledging_what_was_never_sent_ends_the_stream(server, connect, handled):
    romeo = await connect(server.account("romeo"), managed=True)
    await romeo.send(f"<a xmlns='{SM}' h='{handled}'/>")
    assert await romeo.ended() == "undefined-condition"
    if server.kind == "encke":  # Prosody says it in words only
        assert b"handled-count-too-high" in romeo.received


async def test_a_resumption_id_is_good_for_its_own_account_only(server, connect):
    juliet = await connect(server.account("juliet"), managed=True)
    async with Client(server, server.account("mallory")) as mallory:
        await mallory.authenticate()
        answer = await mallory.resume(juliet)
        assert answer.tag == f"{{{SM}}}failed"
        assert await mallory.bind()
    await juliet.ping()


async def test_resuming_a_session_whose_link_still_lives_takes_it_over(server, connect):
    """A phone changes networks before the server notices that the old one is gone."""
    juliet = await connect(server.account("juliet"), managed=True)
    async with Client(server, juliet.account, name="juliet elsewhere") as elsewhere:
        await elsewhere.authenticate()
        answer = await elsewhere.resume(juliet)
        assert answer.tag == f"{{{SM}}}resumed"
        with pytest.raises(Closed):
            await juliet.expect("nothing more")
        await elsewhere.ping()


async def test_the_same_resource_twice_has_one_owner(server, connect):
    account = server.account("juliet")
    first = await connect(account, resource="desk")
    second = await connect(account, resource="desk")
    if second.jid == first.jid:
        assert await first.ended() == "conflict"
    await second.ping()


async def test_a_vanished_contact_becomes_unavailable_when_its_session_is_replaced(server, connect):
    """Without stream management a reset link ends the session at once."""
    account = server.account("juliet")
    desk = await connect(account, resource="desk")
    phone = await connect(account, resource="phone")
    await desk.expect(f"{{{CLIENT}}}presence", where=lambda p: p.get("from") == phone.jid)
    phone.cut()
    gone = await desk.expect(
        f"{{{CLIENT}}}presence",
        where=lambda p: p.get("from") == phone.jid and p.get("type") == "unavailable",
    )
    assert gone is not None


async def test_a_message_to_the_account_reaches_every_available_resource(server, connect):
    account = server.account("juliet")
    romeo = await connect(server.account("romeo"))
    desk = await connect(account, resource="desk")
    phone = await connect(account, resource="phone")
    await romeo.message(account.jid, "to both", "1")
    await desk.body("to both")
    await phone.body("to both")


async def test_negative_priority_gets_nothing_for_the_account(server, connect):
    account = server.account("juliet")
    romeo = await connect(server.account("romeo"))
    machine = await connect(account, resource="machine", presence=False)
    await machine.available("<priority>-1</priority>")
    await romeo.message(account.jid, "for a person", "1")
    await romeo.ping()
    await machine.ping()
    assert b"for a person" not in machine.received
    person = await connect(account, resource="desk")
    await person.body("for a person")


async def test_a_stanza_is_stamped_with_the_full_jid_of_its_session(server, connect):
    romeo = await connect(server.account("romeo"))
    juliet = await connect(server.account("juliet"))
    await romeo.message(juliet.jid, "who is it", "1")
    assert (await juliet.body("who is it")).get("from") == romeo.jid


async def test_no_answer_is_an_answer_of_its_own(server, connect):
    """An iq to a resource that is not there is answered; an error to it is not."""
    romeo = await connect(server.account("romeo"))
    juliet = server.account("juliet")
    answer = await romeo.iq("get", "<ping xmlns='urn:xmpp:ping'/>", f"{juliet.jid}/x", "error")
    assert answer.find(f".//{{urn:ietf:params:xml:ns:xmpp-stanzas}}service-unavailable") is not None
    await romeo.send_stanza(
        f"<message type='error' to='{juliet.jid}/x' id='e'><error type='cancel'/></message>"
    )
    await romeo.ping()
    assert b"id='e'" not in romeo.received and b'id="e"' not in romeo.received
