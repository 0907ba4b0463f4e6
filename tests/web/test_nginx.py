"""Through Debian's nginx as reverse proxy, with and without buffering."""

import urllib.request

import pytest

from clients.nginx import Nginx


@pytest.fixture(params=[True, False], ids=["buffered", "unbuffered"], scope="module")
def nginx(request, server, tmp_path_factory):
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), server.http, buffering=request.param)
    yield nginx
    nginx.close()


@pytest.fixture
def service(nginx):
    return "ws://{}:{}/ws".format(*nginx.address)


async def test_a_page_of_another_site(server, nginx, service, window, site, slix):
    account = server.account("juliet")
    romeo = await slix(server.account("romeo"))
    page = await window()
    await page.open(f"{site.origin}/strophe.html")
    await page.call("login", service, f"{account.jid}/page", account.password,
                    {"enableStreamManagement": True})
    jid = (await page.wait("connected"))["jid"]
    await page.call("presence")
    for number in range(20):
        romeo.send_message(jid, f"{number}", mtype="chat")
        await page.body(f"{number}")
        await page.call("message", str(romeo.boundjid), f"m{number}", f"{number}")
        await romeo.body(f"{number}")


async def test_a_page_of_the_same_site(server, nginx, service, web):
    """The browser names the proxy's address as origin and as host: they are the same."""
    origin = "http://{}:{}".format(*nginx.address)
    juliet = await web(server.account("juliet"), url=service, origin=origin)
    await juliet.message(juliet.jid, "𝄞" * 20_000, "1")
    await juliet.body("𝄞" * 20_000)
    await juliet.close()
    assert juliet.close_code == 1000


async def test_a_session_is_resumed_through_it(server, nginx, service, web, slix, people):
    from clients.websocket import WebClient

    romeo = await slix(server.account("romeo"))
    account = server.account("juliet")
    juliet = await web(account, url=service, managed=True)
    juliet.cut()
    romeo.send_message(juliet.jid, "while away", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    again = WebClient(server, account, url=service)
    people.push_async_callback(again.close)
    await again.authenticate()
    await again.resume(juliet)
    await again.body("while away")


def test_who_asks_through_it_learns_nothing_of_the_counters(nginx, server):
    url = "http://{}:{}".format(*nginx.address)
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/metrics", timeout=10)
    assert refused.value.code == 403
