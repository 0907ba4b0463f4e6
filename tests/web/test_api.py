"""The reference of the JSON protocol is true: every example in `docs/openapi.yaml`,
`docs/asyncapi.yaml` and `docs/json.md` is played against a server, and what comes is compared.
"""

import asyncio
import contextlib
import json
import os
import re
import signal

import pytest
import pytest_asyncio
from jsonschema import validators
from openapi_spec_validator import validate

from clients import documents
from clients.chat import EventStream, User
from clients.documents import ASYNCAPI, MISSING, OPENAPI, Different, compare
from clients.http import Talk
from clients.node import MODULES
from clients.stage import DOMAIN, KEY, OPENERS, PASSWORD, TOPIC, Stage
from harness.raw import DEADLINE
from harness.server import Account

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own protocol")
ANSWERS = documents.answers()
EVENTS = documents.events()


@pytest.fixture(scope="module")
def make_server(new_server, server_options):
    def make():
        options = server_options | {"limits.json_poll_timeout": 3,
                                    "http.topics": [f"{TOPIC}:{KEY}"]}
        return new_server(domain=DOMAIN, options=options).start()

    return make


@pytest.fixture(scope="module")
def server(make_server):
    server = make_server()
    yield server
    assert server.alive() and server.panics() == 0, server.log_tail()
    assert server.stop() == 0, server.log_tail()


@pytest.fixture
def stage(request, people):
    """A stage; where the server stops in the play it is one of its own."""
    play = request.node.callspec.params["example"]
    stops = {"server": "stops"} in play.when
    server = request.getfixturevalue("make_server")() if stops else (
        request.getfixturevalue("server"))
    return Stage(server, people)


# The documents as such.

def test_openapi_is_valid():
    validate(OPENAPI)


def test_asyncapi_is_valid():
    file = MODULES / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    schema = json.loads(file.read_text())
    validator = validators.validator_for(schema)(schema)
    found = [f"{error.json_path}: {error.message[:200]}"
             for error in validator.iter_errors(ASYNCAPI)]
    assert not found, "\n".join(found)


def test_every_reference_leads_somewhere():
    def walk(name, node):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            documents.Place(name, node={"$ref": node["$ref"]})  # raises where nothing is
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, (dict, list)):
                walk(name, child)

    for name, document in documents.NAMES.items():
        walk(name, document)


def test_codes_are_those_of_the_text():
    """Which in turn are those of the server, as a test beside its source sees to."""
    assert set(OPENAPI["components"]["schemas"]["ProblemCode"]["enum"]) == set(
        documents.problems_of_text())


def test_both_documents_have_the_same_events():
    schemas = {entry["$ref"].rpartition("/")[2]
               for entry in OPENAPI["components"]["schemas"]["Event"]["oneOf"]}
    of_messages = {message["payload"]["$ref"].rpartition("/")[2]
                   for message in ASYNCAPI["components"]["messages"].values()}
    assert schemas == {name for name in of_messages if name.endswith("Event")}
    requests = {entry["$ref"].rpartition("/")[2]
                for entry in OPENAPI["components"]["schemas"]["Request"]["oneOf"]}
    assert requests | schemas | {"Answer"} == of_messages


def test_no_example_is_left_out():
    """Each operation has examples, each body belongs to an answer, each answer has an example."""
    for path, method, operation in documents.operations():
        mine = [answer for answer in ANSWERS if (answer.path, answer.method) == (path, method)]
        assert any((answer.status or 400) < 400 for answer in mine), f"{method} {path}"
        unused = set(documents.requests(operation)) - {answer.request for answer in mine}
        assert not unused, f"{method} {path}: no answer to {unused}"
        for status, response in operation["responses"].items():
            shown = [answer for answer in mine
                     if answer.status == (None if status == "default" else int(status))]
            # A server that stops does not listen any more; who waited for an answer is told.
            is_deaf = (path, status) == ("/readyz", "503")
            assert shown or is_deaf, f"{method} {path}: no example of {status}"
            headers = set(response["headers"].node) if "headers" in response else set()
            unseen = headers - {name for answer in shown for name in answer.headers}
            assert not unseen or is_deaf, f"{method} {path} {status}: {unseen}"
        used = {value for answer in mine for where in ("query", "headers")
                for value in answer.change.get(where, {}).values()} | {documents.PROTOCOL}
        for parameter in operation.get("parameters", []):
            parameter = documents.Place("openapi.yaml", node=parameter).node
            examples = [example["value"] for example in parameter.get("examples", {}).values()]
            examples += [parameter["example"]] if "example" in parameter else []
            assert parameter.get("required") and not examples[1:] or set(examples) <= used, (
                f"{method} {path}: {parameter['name']}")
    for name, message in ASYNCAPI["components"]["messages"].items():
        assert message["examples"], name
        names = {example["name"] for example in message["examples"]}
        assert set(message.get("x-how", {})) <= names, name
        if name != "answer":
            played = {event.name for event in EVENTS if event.message == name}
            assert played == names, name
    answers = {example["name"]
               for example in ASYNCAPI["components"]["messages"]["answer"]["examples"]}
    asked = {event.name for event in EVENTS if event.request}
    assert answers <= asked, answers - asked


def test_examples_fit_their_schemas():
    for answer in ANSWERS:
        if answer.value is not MISSING:
            assert not answer.schema.faults(answer.value), answer
    for event in EVENTS:
        assert not event.schema.faults(event.payload), event
        if event.request and "problem" not in event.payload:
            place = documents.Place("asyncapi.yaml")["components"]["messages"][event.message]
            assert not place["payload"].faults(event.request), event


# What is documented is what happens.

@pytest.mark.parametrize("example", ANSWERS, ids=str)
async def test_an_answer_of_openapi(example, stage):
    secured = example.operation.get("security", OPENAPI["security"])
    begins = bool(OPENERS & set(example.given))
    if secured and example.change.get("token") != "none" and not begins:
        await stage.given(["juliet"])
    await stage.given(example.given)
    octets = await stage.prepare(example)
    held = example.path == "/v1/events"
    if not held:
        await stage.play(example.when)
    if example.kind == "text/event-stream":
        return await play_stream(example, stage, octets)
    method = example.change.get("method", example.method.upper())
    async with Talk(stage.server.http) as talk:
        await talk.send(octets)
        if held:
            await stage.play(example.when)
        answer = await talk.answer(method)
    await finish(stage)

    value = None
    if answer.body and answer.kind.endswith("json"):
        value = stage.documented(json.loads(answer.body))
    status = example.value["status"] if example.status is None else example.status
    assert (answer.status, answer.kind or None) == (status, example.kind or answer.kind or None), (
        answer)
    for name, place in example.headers.items():
        said = answer.headers.get(name.lower())
        assert said is not None, f"no {name}: {answer}"
        assert not place["schema"].faults(said), answer
    if example.value is MISSING:
        assert not answer.body, answer
    elif value is None:
        compare_text(example, stage.documented(answer.body.decode()))
    else:
        assert not example.schema.faults(value), f"{example.schema.faults(value)}: {answer}"
        compare(example.value, value, same_of(stage))
    if example.status == 201 and "Set-Cookie" in example.headers:
        form = example.headers["Set-Cookie"].node["example"].replace(value["session"], "")
        name, _, rest = answer.headers["set-cookie"].partition(";")
        assert name == f"encke-session={value['session']}" and rest in form, answer
    if example.status == 201:
        stage.juliet.token = value["session"]  # so that she leaves


def same_of(stage):
    """Cursors of the document that are known here."""
    return dict(stage.cursors)


async def finish(stage):
    if hasattr(stage, "stopping"):
        assert await stage.stopping == 0, stage.server.log_tail()


def compare_text(example, text):
    """Lines of a document may be a part of those that come where there are many."""
    if "openmetrics" in example.kind:
        assert not example.schema.faults(text)
        missing = set(example.value.splitlines()) - set(text.splitlines())
        assert not missing, f"{missing} in {text}"
    else:
        assert text == example.value


async def play_stream(example, stage, octets):
    """The blocks of an event stream, one after the other."""
    blocks = [block for block in example.value.split("\n\n") if block.strip()]
    stream = EventStream(stage.juliet, octets=octets)
    stage.juliet.readers.append(stream)
    await stream.open()
    assert stream.head.status == 200, stream.head
    await stage.play(example.when)
    same = same_of(stage)
    for block in blocks:
        # The reader has checked that `id` and `event` are those of the document in `data`.
        documented = json.loads(re.search("^data: (.*)$", block, re.M)[1])
        assert f"id: {documented['id']}\n" in block, block
        assert (f"event: {documented['type']}\n" in block) == (documented["type"] != "message")
        event = stage.documented(await stream.next())
        faults = documents.faults("openapi.yaml", "/components/schemas/Event", event)
        assert not faults, (faults, event)
        compare(documented, event, same)


@pytest.mark.parametrize("example", EVENTS, ids=str)
async def test_an_event_of_asyncapi(example, stage):
    if not OPENERS & set(example.given):
        await stage.given(["juliet"])
    speakers = {who for step in example.when for who in step}
    await stage.given(example.given + (["romeo"] if "romeo" in speakers else []))
    cursor = example.cursor and await stage.cursor(example.cursor)
    # A reader without a cursor gets what is kept, so what came with the login as well.
    reader = await stage.juliet.socket(cursor or stage.juliet.cursor)
    await stage.play(example.when)
    if example.request:
        request = stage.live(await stage.with_cursors(example.request))
        await reader.say(request)
    kind = example.payload["type"]

    refused = []
    def fits(event):
        if event["type"] != kind:
            return False
        event = stage.documented(event)
        faults = example.schema.faults(event)
        assert not faults, (faults, event)
        try:
            compare(example.payload, event, same_of(stage))
        except Different as different:
            refused.append(str(different))
            return False
        return True

    try:
        await reader.next(fits)
    except AssertionError as silence:
        raise AssertionError(f"{refused}\n{silence}") from None
    await finish(stage)
    if kind == "closed":
        await reader.ended()
        assert reader.code == 1000


# The text.

def test_blocks_of_the_text_are_examples():
    """A block is code, which is run below, or what `openapi.yaml` has too, which is run above."""
    shown = [answer.value for answer in ANSWERS]
    kinds = []
    for kind, text in documents.blocks():
        kinds.append(kind)
        if kind == "json":
            assert json.loads(text) in shown, text
        elif kind == "text":
            assert text.strip() in [value.strip() for value in shown if isinstance(value, str)]
    assert set(kinds) == {"js", "sh", "json", "text"}, kinds
    assert kinds.count("sh") == 1, "each is run by its own name below"


@pytest_asyncio.fixture
async def couple(server, people):
    """Juliet and Romeo under their own names, who is told what they write."""
    accounts = [Account(name, DOMAIN, PASSWORD) for name in ("juliet", "romeo")]
    for account in accounts:
        with contextlib.suppress(AssertionError):  # another test was first
            server.add_user(account)
    romeo = User(server, accounts[1], "window")
    people.push_async_callback(romeo.leave)
    return await (await romeo.login()).socket()


async def test_the_shell_block_runs(server, couple, tmp_path):
    """Each value that it shows comes, in this order; the last command has no end."""
    (script,) = [text for kind, text in documents.blocks() if kind == "sh"]
    shown = documents.said(script)
    assert len(shown) == script.count("curl"), "each command shows what comes"
    script = script.replace("http://127.0.0.1:5280", "http://{}:{}".format(*server.http))
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]}, process_group=0)
    heard, same = "", {}
    try:
        for lead, documented in shown:
            while (end := end_of(documented, lead, heard, same)) is None:
                more = await asyncio.wait_for(process.stdout.read(1 << 16), DEADLINE)
                assert more, f"no {documented} in {heard}"
                heard += more.decode()
            heard = heard[end:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
    await couple.body("Ay me!")


def end_of(documented, lead, text, same):
    """Where the documented value ends in the text, if it is there whole."""
    found = re.search(re.escape(lead) + r"\s*(?=\{)", text)
    if not found:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, found.end())
    except ValueError:
        return None
    compare(documented, value, same)
    return end


async def test_the_lines_for_a_browser_run(server, couple, window):
    """Three lines and one more, in a page of this server."""
    lines = [text for kind, text in documents.blocks() if kind == "js"]
    assert len(lines[0].strip().splitlines()) == 3 and len(lines) == 2
    page = await window()
    await page.open("http://{}:{}/healthz".format(*server.http))
    await page.call("eval", f"""(async () => {{
        const console = {{log: value => tell('logged', value)}}
        const user = 'juliet@{DOMAIN}', password = '{PASSWORD}'
        {lines[0]}
        await new Promise((opened, failed) => [events.onopen, events.onerror] = [opened, failed])
        {lines[1]}
    }})()""")
    # What the shell said may come again; the page has a name from the server.
    heard = await couple.wait("message", lambda event: not event["from"].endswith("/tab"))
    await couple.say({"type": "message", "to": heard["from"], "body": "She speaks!"})
    logged = await page.wait("logged", lambda event: event.get("body") == "She speaks!")
    assert logged["type"] == "message" and logged["to"] == heard["from"], logged
