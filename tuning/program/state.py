"""What was there before: enough to give every value back, also after a crash half-way."""

import json
import os

from .table import Fault


class State:
    """The former values in `state.json`, oldest first. Written before a setting is changed."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "state.json"
        self.changes, self.files = [], {}
        if self.path.exists():
            try:
                kept = json.loads(self.path.read_text())
                self.changes, self.files = kept["changes"], kept["files"]
            except (ValueError, KeyError, TypeError) as error:
                raise Fault(f"{self.path} cannot be read: {error}") from error

    def remember(self, setting, former, written):
        """Of several changes of one setting the first former value stays. Gives a function that
        takes the last change back, for one that the kernel refused."""
        name = setting.name
        before = [dict(change) for change in self.changes]
        earlier = [change for change in self.changes if change["name"] == name]
        if earlier:
            earlier[0]["written"] = written
        else:
            change = {"name": name, "path": setting.path(), "compare": setting.compare}
            self.changes.append({**change, "former": former, "written": written})
        self.save()

        def undo():
            self.changes = before
            self.save()

        return undo

    def remember_file(self, root, path, text):
        """A file that is ours; one that stood there before is kept with its text."""
        former = (root / path).read_text() if (root / path).exists() else None
        kept = self.files.get(path, {"former": former})
        self.files[path] = {**kept, "written": text}
        self.save()

    def save(self):
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_file(self.path, json.dumps({"changes": self.changes, "files": self.files}, indent=1))

    def forget(self):
        self.path.unlink()
        try:
            self.folder.rmdir()
        except OSError:
            pass  # somebody keeps other files there


def write_file(path, text):
    """Replaces a file at once, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with open(new, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_setting(path, value):
    """Writes into /proc or /sys: in one call, as the kernel wants it."""
    with open(path, "wb", buffering=0) as file:
        file.write(value.encode() + b"\n")
