"""The rows of `table/`, read as `tuning/src/table.rs` reads them."""

import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "table"
#: A server takes the first size that is not smaller; the last one serves all that are larger.
SIZES = (("10k", 10_000), ("100k", 100_000), ("1M", 1_000_000), ("2M", 2_000_000))
#: In the order in which they are applied: ports are reserved before the range grows.
FILES = (
    "descriptors.conf",
    "tcp-memory.conf",
    "backlog.conf",
    "ports.conf",
    "hash-size.conf",
    "conntrack.conf",
    "huge-pages.conf",
    "nic-queues.conf",
    "busy-polling.conf",
    "systemd.conf",
)
CHOICES = {
    "compare": ("at-least", "covers", "contains", "one-of"),
    "clients": ("same", "double", "only"),
    "needs": ("nothing", "restart", "namespace", "reboot", "unit", "hand"),
    "grade": ("limit", "speed"),
}
TEXTS = ("used", "how", "low", "why", "measured")


class Fault(Exception):
    """A mistake in the table."""


class Setting:
    """One row. A field that the file lacks is empty."""

    def __init__(self, file, name, fields):
        self.file, self.name = file, name
        self.values = [fields[size] for size, _ in SIZES if size in fields]
        self.compare = fields.get("compare", "")
        self.clients = fields.get("clients", "same")
        self.needs = fields.get("needs", "nothing")
        self.grade = fields.get("grade", "")
        for text in TEXTS:
            setattr(self, text, fields.get(text, ""))

    def path(self):
        """The file that holds the value, below the root; None where there is none."""
        return None if self.needs in ("hand", "unit") else path_of(self.name)

    def value(self, sessions, clients_here):
        """The needed value; None where the row does not concern this server."""
        if not self.values or (self.clients == "only" and not clients_here):
            return None
        fits = [at for at, (_, size) in enumerate(SIZES) if sessions <= size]
        value = self.values[fits[0] if fits else -1]
        factor = 2 if self.clients == "double" and clients_here else 1
        words = value.split()
        return " ".join(str(int(word) * factor) if word.isdigit() else word for word in words)


def path_of(name):
    return name[1:] if name.startswith("/") else "proc/sys/" + name.replace(".", "/")


def settings():
    """All rows, file by file."""
    return [setting for file in FILES for setting in read(file, (FOLDER / file).read_text())]


def read(file, text):
    found, fields = [], None
    key = None
    for line, written in enumerate(text.splitlines(), 1):
        trimmed = written.strip()
        if not trimmed or trimmed.startswith("#"):
            continue
        if written.startswith("[") and written.endswith("]"):
            fields, key = {}, None
            found.append((written[1:-1], fields))
        elif fields is None:
            raise Fault(f"{file}:{line}: a field before the first row")
        elif written.startswith(" "):
            if key is None:
                raise Fault(f"{file}:{line}: nothing is continued here")
            fields[key] += " " + trimmed
        else:
            key, mark, value = (part.strip() for part in written.partition("="))
            if not mark:
                raise Fault(f"{file}:{line}: no `=` in `{written}`")
            if key in fields:
                raise Fault(f"{file}:{line}: `{key}` comes twice")
            fields[key] = value
    return [checked(file, name, fields) for name, fields in found]


def checked(file, name, fields):
    """What would make these programs do the wrong thing; the Rust tests look for more."""
    known = {*CHOICES, *TEXTS, *(size for size, _ in SIZES)}
    for key, value in fields.items():
        if key not in known or value not in CHOICES.get(key, (value,)):
            raise Fault(f"{file}: {name}: `{key} = {value}` is not known")
    setting = Setting(file, name, fields)
    if len(setting.values) != (len(SIZES) if setting.compare else 0):
        raise Fault(f"{file}: {name}: it needs `compare` and a value for each size, or none")
    return setting
