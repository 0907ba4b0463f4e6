"""The reference of the JSON protocol as data: `docs/openapi.yaml`, `docs/asyncapi.yaml` and the
blocks of `docs/json.md`, with every example in them.
"""

import copy
import dataclasses
import json
import re
from urllib.parse import quote

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from harness.server import ROOT

DOCS = ROOT / "docs"
OPENAPI = yaml.safe_load((DOCS / "openapi.yaml").read_text())
ASYNCAPI = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
TEXT = (DOCS / "json.md").read_text()
NAMES = {"openapi.yaml": OPENAPI, "asyncapi.yaml": ASYNCAPI}
BASE = "https://docs.test/"
METHODS = ("get", "head", "post", "put", "delete", "patch", "options")
MISSING = object()
# What a WebSocket asks for in every example.
PROTOCOL = "encke.v1"


# Schemas.

def closed(node):
    """A document whose objects have no other members than those that are listed."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: closed(value) for name, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        node.setdefault("additionalProperties", False)
    return node


def _registry(documents):
    return Registry().with_resources(
        (BASE + name, DRAFT202012.create_resource(document))
        for name, document in documents.items())


REGISTRY = _registry({name: closed(copy.deepcopy(document)) for name, document in NAMES.items()})


def faults(document, pointer, value):
    """What is wrong with a value for the schema at this place; nothing may be unknown in it."""
    schema = {"$ref": f"{BASE}{document}#{pointer}"}
    errors = Draft202012Validator(schema, registry=REGISTRY).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


# Places in documents.

class Place:
    """A node and where it is; references are followed on the way."""

    def __init__(self, document, pointer="", node=None):
        self.document, self.pointer = document, pointer
        self.node = NAMES[document] if node is None else node
        while isinstance(self.node, dict) and set(self.node) == {"$ref"}:
            name, _, self.pointer = self.node["$ref"].partition("#")
            self.document = name.removeprefix("./") or self.document
            self.node = NAMES[self.document]
            for part in self.pointer.split("/")[1:]:
                self.node = self.node[part.replace("~1", "/").replace("~0", "~")]

    def __getitem__(self, name):
        part = quote(str(name).replace("~", "~0").replace("/", "~1"), safe="~")
        return Place(self.document, f"{self.pointer}/{part}", self.node[name])

    def __contains__(self, name):
        return name in self.node

    def items(self):
        return [(name, self[name]) for name in self.node]

    def get(self, name, default=None):
        return self[name].node if name in self.node else default

    def faults(self, value):
        return faults(self.document, self.pointer, value)


# Examples.

@dataclasses.dataclass
class Example:
    """An answer that is documented, and the request that brings it."""

    path: str
    method: str
    operation: dict
    status: int | None  # None: of `default`, it is in the document
    name: str
    kind: str | None  # of the answer's body
    value: object
    schema: Place | None
    headers: dict  # those that the answer must have, with their places
    about: dict  # the words that begin with x-
    body: object = MISSING
    request: str | None = None  # the name of the example that is the body

    def __str__(self):
        return f"{self.method.upper()} {self.path} {self.status or 'default'} {self.name}"

    @property
    def given(self):
        return self.about.get("x-given", [])

    @property
    def change(self):
        return self.about.get("x-request", {})

    @property
    def when(self):
        return self.about.get("x-when", [])


def operations():
    for path, item in Place("openapi.yaml")["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def requests(operation):
    """The examples of an operation's body, by name."""
    if "requestBody" not in operation:
        return {}
    content = operation["requestBody"]["content"]["application/json"]
    return {name: place.node["value"] for name, place in content["examples"].items()}


def answers():
    """Every documented answer of `openapi.yaml`."""
    found = []
    for path, method, operation in operations():
        bodies = requests(operation)
        for status, response in operation["responses"].items():
            headers = dict(response["headers"].items()) if "headers" in response else {}
            places = [(None, None, response[key]) for key in ("x-examples",) if key in response]
            if "content" in response:
                places += [(kind, content["schema"], content["examples"])
                           for kind, content in response["content"].items()
                           if "examples" in content]
            for kind, schema, examples in places:
                for name, place in examples.items():
                    found.append(_answer(path, method, operation.node, status, name, kind, schema,
                                         headers, place.node, bodies))
    return found


def _answer(path, method, operation, status, name, kind, schema, headers, node, bodies):
    about = {key: value for key, value in node.items() if key.startswith("x-")}
    change = about.get("x-request", {})
    request = change.get("example", name if name in bodies else None)
    body = change.get("body", MISSING)
    if body is MISSING and bodies:
        # Where nothing is said of the body it does not matter, if it is a good one.
        body = bodies[request] if request else next(iter(bodies.values()))
    return Example(
        path, method, operation, None if status == "default" else int(status), name, kind,
        node.get("value", MISSING), schema,
        {header: headers[header] for header in about.get("x-headers", [])}, about, body, request)


@dataclasses.dataclass
class Event:
    """An event, or an answer among events, and what brings it."""

    message: str
    name: str
    payload: dict
    schema: Place
    given: list
    when: list
    cursor: str | None = None
    request: dict | None = None

    def __str__(self):
        return f"{self.message} {self.name}"


REQUESTS = [name for name, operation in ASYNCAPI["operations"].items()
            if operation["action"] == "receive"]


def events():
    """Every documented event and answer of `asyncapi.yaml`, each with what brings it."""
    found, messages = [], Place("asyncapi.yaml")["components"]["messages"]
    answered = {example["name"]: example["payload"]
                for example in messages["answer"].node["examples"]}
    for message, place in messages.items():
        if message == "answer":
            continue
        how = place.get("x-how", {})
        for example in place.node["examples"]:
            about = how.get(example["name"], {})
            common = {"given": about.get("given", []), "when": about.get("when", [])}
            if message not in REQUESTS:
                found.append(Event(message, example["name"], example["payload"], place["payload"],
                                   cursor=about.get("request", {}).get("cursor"), **common))
                continue
            answer = about.get("answer") or answered[example["name"]]
            kind = messages["answer" if answer["type"] == "answer" else answer["type"]]
            found.append(Event(message, example["name"], answer, kind["payload"],
                               request=example["payload"], **common))
    return found


def blocks():
    """The blocks of `json.md`: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)


def said(text):
    """What the comments of a shell block say that comes: what stands before it, and a value."""
    comments = "".join(line[1:] for line in text.splitlines() if line.startswith("#"))
    decoder, found, at = json.JSONDecoder(), [], 0
    while (start := comments.find("{", at)) >= 0:
        value, end = decoder.raw_decode(comments, start)
        found.append((comments[at:start].strip(), value))
        at = end
    return found


def problems_of_text():
    """The table of problems: code to status."""
    table = TEXT.split("| code | status | when |")[1]
    return {code: int(status) for code, status in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", table,
                                                            re.M)}


# Comparing.

VARYING = {name: re.compile(pattern) for name, pattern in OPENAPI["x-varying"].items()}


class Different(AssertionError):
    """What came is not what is documented."""


def compare(documented, live, same, at="", name=None):
    """Every documented member came, and of the same kind; texts are equal, unless they are others
    each time: then equal ones are equal, which `same` remembers.
    """
    where = at or "it"
    if isinstance(documented, dict):
        if not isinstance(live, dict):
            raise Different(f"{where} is {live!r} instead of {documented!r}")
        for member, value in documented.items():
            if member not in live:
                raise Different(f"{at}.{member} is missing in {json.dumps(live)}")
            compare(value, live[member], same, f"{at}.{member}", member)
    elif isinstance(documented, list):
        if not isinstance(live, list) or len(documented) != len(live):
            raise Different(f"{where} is {live!r} instead of {documented!r}")
        for number, value in enumerate(documented):
            compare(value, live[number], same, f"{at}[{number}]", name)
    elif isinstance(documented, str) and name in VARYING and VARYING[name].search(documented):
        if not isinstance(live, str) or not VARYING[name].search(live):
            raise Different(f"{where} is {live!r}, which is no {name}")
        before = same.setdefault(documented, live)
        if before != live:
            raise Different(f"{where} is {live}, but {documented} was {before} before")
    elif documented != live or type(documented) is not type(live):
        raise Different(f"{where} is {live!r} instead of {documented!r}")
