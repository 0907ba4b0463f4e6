"""A terminal program in tmux: keys go in, the screen is read, nobody sleeps blindly."""

import shutil
import subprocess
import time
import uuid

from .raw import Silence

SCREEN_DEADLINE = 20.0


class Terminal:
    """One program on a screen of its own, in a tmux server of its own."""

    def __init__(self, command, environment, width=150, height=50):
        self._socket = f"encke-test-{uuid.uuid4().hex[:12]}"
        words = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), *words, *command)

    def type(self, line):
        """Types a line literally and presses Enter."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def screen(self):
        return self._tmux("capture-pane", "-p").stdout

    def sees(self, *texts, deadline=SCREEN_DEADLINE):
        """Waits until all of `texts` are on the screen at the same time."""
        end = time.monotonic() + deadline
        while True:
            screen = self.screen()
            if all(text in screen for text in texts):
                return screen
            if time.monotonic() > end:
                raise Silence(f"{texts} did not appear on the screen:\n{screen.rstrip()}")
            time.sleep(0.05)  # a screen has no event: it is looked at until the deadline

    def close(self):
        self._tmux("kill-server", check=False)

    def _tmux(self, *words, check=True):
        return subprocess.run(
            [shutil.which("tmux"), "-L", self._socket, "-f", "/dev/null", *words],
            check=check, capture_output=True, text=True, timeout=20,
        )
