"""How a machine stands to a row, as `tuning/src/look.rs` sees it; and the value it should have."""

import os

from .table import path_of

#: What systemd gives a unit that says nothing; encke raises the soft limit to the hard one.
OPEN_FILES_DEFAULT = "524288"
UNITS = ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system")


class Look:
    """One row and this machine.

    `state` is ok, low, n/a (`note` says why), hand (people must look) or idle (it does not
    matter here). `target` is what should be written while it is low.
    """

    def __init__(self, setting, state, found="", needed="", target="", note=""):
        self.setting, self.state, self.found = setting, state, found
        self.needed, self.target, self.note = needed, target, note

    @property
    def writable(self):
        return self.state == "low" and self.setting.needs != "reboot"


def look(root, setting, sessions, clients_here):
    needed = setting.value(sessions, clients_here)
    if setting.needs == "hand":
        return Look(setting, "hand", note=setting.how)
    if needed is None:
        return Look(setting, "idle", note="matters only with the clients on this machine")
    if setting.used and text_of(root / path_of(setting.used)) == "0":
        return Look(setting, "idle", needed=needed, note=f"{setting.used} is 0: nothing uses it")
    if setting.needs == "unit":
        found, note = unit_value(root, setting.name.split(".", 1)[1])
    else:
        found, note = text_of(root / setting.path()), absent(root, setting)
    if found is None:
        return Look(setting, "n/a", needed=needed, note=note)
    if suffices(setting.compare, found, needed):
        return Look(setting, "ok", found, needed)
    return Look(setting, "low", found, needed, merged(setting.compare, found, needed))


def text_of(path):
    """What the kernel says, its blanks made one; None where it does not."""
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return None


def absent(root, setting):
    """Why there is no such file."""
    network = setting.name.startswith("net.")
    if network and not (root / "proc/sys/net/ipv4/tcp_mem").exists():
        return "belongs to the host: this is not the first network namespace"
    if setting.file == "conntrack.conf":
        return "the module nf_conntrack is not loaded"
    return "this kernel has no such setting, or a container hides it"


def unwritable(root, look):
    """Why a low value cannot be written here; empty if it can."""
    path = look.setting.path()
    if path is None or os.access(root / path, os.W_OK):
        return ""
    if os.geteuid() != 0:
        return "only root may write it"
    return "read-only here: set it on the host of this container or namespace"


def unit_value(root, key, unit="encke.service"):
    """The last word of a unit and its drop-ins on LimitNOFILE, the hard one of a pair of limits;
    None with a reason."""
    files = [root / folder / unit for folder in UNITS]
    files = [file for file in files if file.exists()][-1:]
    if not files:
        return None, f"no unit {unit} is installed"
    drop_ins = [file for folder in UNITS for file in (root / folder).glob(f"{unit}.d/*.conf")]
    found = OPEN_FILES_DEFAULT
    for file in files + sorted(drop_ins, key=lambda file: file.name):
        for line in file.read_text().splitlines():
            name, mark, value = line.partition("=")
            if mark and name.strip() == key:
                found = value.strip().rpartition(":")[2]
    return found, ""


def suffices(compare, found, needed):
    """Whether `found` need not be changed."""
    if compare == "at-least":
        return all(had >= wanted for _, had, wanted in pairs(found, needed))
    if compare == "covers":
        return all(
            had >= wanted if at else had <= wanted for at, had, wanted in pairs(found, needed)
        )
    if compare == "contains":
        return ports(needed) <= ports(found)
    return chosen(found) in needed.split()


def merged(compare, found, needed):
    """The value to write: never less than what is there."""
    if compare == "contains":
        return ",".join(part for part in (found, needed) if part)
    if compare == "one-of":
        return needed.split()[0]
    better = found.split()
    for at, had, wanted in pairs(found, needed):
        lower = compare == "covers" and at == 0
        better[at] = better[at] if (had <= wanted if lower else had >= wanted) else str(wanted)
    return " ".join(better)


def same(compare, one, other):
    """Whether two texts mean the same value: the kernel writes lists in its own way."""
    if compare == "contains":
        return ports(one) == ports(other)
    if compare == "one-of":
        return chosen(one) == chosen(other)
    return one.split() == other.split()


def chosen(words):
    """The word in brackets; without brackets, all of it."""
    return next((word[1:-1] for word in words.split() if word.startswith("[")), words)


def pairs(found, needed):
    """Numbers that are compared, with their place. A negative size of a table is that of another
    namespace, which is shared; what is no number counts as endless."""
    both = enumerate(zip(found.split(), needed.split()))
    return [(at, number(had), number(wanted)) for at, (had, wanted) in both if wanted != "-"]


def number(word):
    digits = word[1:] if word.startswith("-") else word
    return int(digits) if digits.isdigit() else float("inf")


def ports(text):
    """`5222-5223,5269` as a set."""
    found = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found
