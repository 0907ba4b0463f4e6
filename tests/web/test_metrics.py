"""What `/metrics` says, read as Prometheus reads it."""

import pytest
from prometheus_client.openmetrics import parser

from clients.bosh import Bosh
from clients.http import fetch
from harness.raw import CLIENT, Client

SHARDS = 2
SCRAPES_MAX = 1_000


@pytest.fixture(scope="module")
def server_options(server_options):
    return server_options | {"shards.count": SHARDS}


def families(server):
    status, headers, body = fetch(server, "/metrics")
    assert status == 200
    assert headers.get_content_type() == "application/openmetrics-text"
    assert headers.get_param("version") == "1.0.0"
    assert body.endswith(b"# EOF\n")
    listed = list(parser.text_string_to_metric_families(body.decode()))
    found = {family.name: family for family in listed}
    assert len(found) == len(listed)
    return found


def total(family, **labels):
    fits = [sample.value for sample in family.samples if labels.items() <= sample.labels.items()]
    assert fits, f"{family.name} has no sample with {labels}"
    return sum(fits)


def value(found, name):
    """Of a family with one sample."""
    (sample,) = found[name].samples
    return sample.value


def counted(found, name):
    """Of a histogram: how many, and how long they were together."""
    family = found[name]
    assert family.type == "histogram"
    return tuple(next(sample.value for sample in family.samples if sample.name == name + suffix)
                 for suffix in ("_count", "_sum"))


def test_every_family_says_what_it_is(server):
    found = families(server)
    for name, family in found.items():
        assert name.startswith("encke") and family.documentation.endswith("."), name
        assert family.type in ("gauge", "counter", "histogram", "info"), name
        assert all(sample.value >= 0 for sample in family.samples), name
        shards = {sample.labels["shard"] for sample in family.samples if "shard" in sample.labels}
        assert len(shards) in (0, SHARDS), name
    assert value(found, "encke_shards_silent") == 0
    assert found.keys() == families(server).keys()


async def test_sessions_and_messages_by_transport(server, web, slix):
    names = ("tcp", "websocket", "bosh")
    kinds = ("encke_sessions", "encke_messages_received", "encke_messages_delivered")

    def now():
        found = families(server)
        return [[int(total(found[kind], transport=name)) for name in names] for kind in kinds]

    def more(before):
        return [[b - a for a, b in zip(*pair)] for pair in zip(before, now())]

    before = now()
    romeo = await slix(server.account("romeo"))
    juliet = await web(server.account("juliet"))
    async with Bosh(server, server.account("nurse")) as nurse:
        await nurse.login()
        assert more(before) == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
        romeo.send_message(juliet.jid, "by TCP", mtype="chat")
        await juliet.body("by TCP")
        await juliet.message(nurse.jid, "by WebSocket", "1")
        await nurse.until(await nurse.ask(), f"{{{CLIENT}}}body")
        await nurse.send(nurse.message(juliet.jid, "by BOSH"))
        await juliet.body("by BOSH")
        assert more(before) == [[1, 1, 1], [1, 1, 1], [0, 2, 1]]
    await juliet.close()
    await romeo.leave()
    assert more(before)[0] == [0, 0, 0]


async def test_a_session_that_waits_for_its_client(server):
    async with Client(server, server.account("away")) as away:
        before = total(families(server)["encke_sessions"], transport="none")
        await away.login(managed=True)
        away.cut()
        await away.ended()
        for _ in range(SCRAPES_MAX):
            found = families(server)
            if total(found["encke_sessions"], transport="none") == before + 1:
                break
        assert total(found["encke_sessions_detached"]) == before + 1


async def test_what_a_client_does_not_take_grows_old(server):
    """A session of BOSH that nobody asks for."""
    async with (Bosh(server, server.account("sleepy")) as sleepy,
                Client(server, server.account("chatty")) as chatty):
        await sleepy.login()
        await chatty.login()
        found = families(server)
        idle = total(found["encke_unsent_bytes"]), total(found["encke_queues_bytes"])
        assert total(found["encke_unsent_age_seconds"]) == 0
        await chatty.message(sleepy.jid, "x" * 10_000, "1")
        await chatty.ping()
        ages = []
        for _ in range(SCRAPES_MAX):
            found = families(server)
            ages.append(total(found["encke_unsent_age_seconds"]))
            if len(set(ages)) > 2:
                break
        assert ages == sorted(ages) and ages[-1] > 0, ages
        assert total(found["encke_unsent_bytes"]) > idle[0] + 10_000
        assert total(found["encke_queues_bytes"]) > idle[1] + 10_000
        await sleepy.until(await sleepy.ask(), f"{{{CLIENT}}}body")
        assert total(families(server)["encke_unsent_age_seconds"]) == 0


async def test_time_of_cores(server, slix):
    before = families(server)
    romeo = await slix(server.account("romeo"))
    await romeo.leave()
    after = families(server)
    shards = [total(found["encke_cpu_seconds"]) for found in (before, after)]
    process = [value(found, "encke_process_cpu_seconds") for found in (before, after)]
    assert 0 < shards[0] < shards[1] < process[1]
    assert process[0] < process[1]
    for shard in range(SHARDS):
        assert total(after["encke_cpu_seconds"], shard=str(shard)) > 0


async def test_how_late_storage_is(server):
    """A message for somebody who is away is durable before its sender hears that it is taken."""
    absent = server.account("absent")
    async with Client(server, server.account("writer")) as writer:
        await writer.login(managed=True)
        before = families(server)
        await writer.message(absent.jid, "for later", "1")
        await writer.acknowledged()
        after = families(server)
    for what in ("sync", "durable"):
        name = f"encke_storage_{what}"
        (few, short), (many, long) = (counted(found, f"{name}_seconds")
                                      for found in (before, after))
        assert many > few and long > short
        last, longest = (value(after, f"{name}_{which}_seconds") for which in ("last", "max"))
        assert 0 < last <= longest <= long
    assert counted(after, "encke_storage_durable_seconds")[1] >= counted(
        after, "encke_storage_sync_seconds")[1] * 0.5
    assert value(after, "encke_storage_queue_age_seconds") > 0
    for _ in range(SCRAPES_MAX):
        if value(families(server), "encke_storage_undurable_age_seconds") == 0:
            return
    pytest.fail("something is never durable, though nobody writes")


def test_memory_is_what_the_kernel_says(server):
    found = families(server)
    resident, anonymous, peak = (value(found, f"encke_memory{kind}_bytes")
                                 for kind in ("", "_anonymous", "_peak"))
    assert 0 < anonymous < resident <= peak
    assert resident / 2 < server.pss() < resident * 2


def test_they_are_for_this_machine_only(server):
    for headers in ({"X_Forwarded_For": "203.0.113.5"}, {"Forwarded": "for=203.0.113.5"}):
        status, _, body = fetch(server, "/metrics", **headers)
        assert status == 403 and b"encke_" not in body
