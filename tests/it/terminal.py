"""A terminal of its own for one program: what it draws, in which colours, and what it leaves behind.

argv: the program and its arguments. Talks on stdin and stdout, a JSON object a line: `{"await": TEXT}`
until the screen shows it, `{"size": [ROWS, COLUMNS]}`, `{"type": TEXT}`, `{"end": true}`; each is answered
with what is known. Whatever is awaited is bounded.
"""

import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from fcntl import ioctl

PATIENCE = 30


class Screen:
    """Enough of a terminal to know what it shows: cursor home, line ends, clearing, two screens."""

    def __init__(self, rows):
        self.rows, self.lines, self.at, self.column = rows, {}, 0, 0
        self.alternate, self.cursor, self.frames, self.scrolled = False, True, 0, 0
        self.colours, self.rest, self.inside = 0, "", False

    def feed(self, text):
        text = self.rest + text
        self.rest = ""
        while text:
            if text[0] == "\x1b":
                end = next((at for at in range(2, len(text)) if text[at].isalpha()), None)
                if end is None:
                    self.rest = text
                    return
                self.control(text[2 : end + 1])
                text = text[end + 1 :]
                continue
            self.put(text[0])
            text = text[1:]

    def control(self, code):
        if code == "H":
            self.at = self.column = 0
        elif code == "K":
            self.lines[self.at] = self.lines.get(self.at, "")[: self.column]
        elif code == "J":
            self.lines = {at: line for at, line in self.lines.items() if at <= self.at}
        elif code in ("?1049h", "?1049l"):
            self.alternate = code.endswith("h")
        elif code in ("?25h", "?25l"):
            self.cursor = code.endswith("h")
        elif code in ("?2026h", "?2026l"):
            # What is seen before a frame is whole is no picture.
            self.inside = code.endswith("h")
            self.frames += code.endswith("l")
        elif code.endswith("m"):
            self.colours += 1

    def put(self, one):
        if one == "\r":
            self.column = 0
        elif one == "\n":
            self.at += 1
            if self.at >= self.rows:
                self.scrolled += self.alternate
        else:
            line = self.lines.get(self.at, "").ljust(self.column)
            self.lines[self.at] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1

    def known(self):
        lines = [self.lines[at] for at in sorted(self.lines)]
        return {
            "text": "\n".join(lines), "alternate": self.alternate, "cursor": self.cursor, "colours": self.colours,
            "frames": self.frames, "scrolled": self.scrolled, "widest": max(map(len, lines), default=0), "lines": len(lines),
        }


def size(file, rows, columns):
    ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    master, slave = pty.openpty()
    size(slave, 24, 100)
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.setsid()
        ioctl(slave, termios.TIOCSCTTY, 0)
        for file in (0, 1, 2):
            os.dup2(slave, file)
        os.close(master)
        os.execv(sys.argv[1], sys.argv[1:])
    screen, ended = Screen(24), None

    def read(wait):
        if select.select([master], [], [], wait)[0]:
            screen.feed(os.read(master, 1 << 16).decode("utf-8", "replace"))

    def gone():
        nonlocal ended
        if ended is None:
            done, status = os.waitpid(child, os.WNOHANG)
            ended = os.waitstatus_to_exitcode(status) if done else None
        return ended is not None

    def until(holds):
        over = time.monotonic() + PATIENCE
        while not holds() and time.monotonic() < over:
            read(0.02)
        return holds()

    for line in sys.stdin:
        asked, held = json.loads(line), True
        frames = screen.frames
        if "await" in asked:
            held = until(lambda: not screen.inside and asked["await"] in screen.known()["text"])
        elif "frames" in asked:
            held = until(lambda: not screen.inside and screen.frames >= frames + asked["frames"])
        elif "size" in asked:
            screen.rows = asked["size"][0]
            size(slave, *asked["size"])
            os.kill(child, signal.SIGWINCH)
        elif "type" in asked:
            os.write(master, asked["type"].encode())
        elif "end" in asked:
            held = until(gone)
            for _ in range(10):
                read(0.02)
        same = termios.tcgetattr(slave) == before
        print(json.dumps({"held": held, "ended": ended, "sane": same, **screen.known()}), flush=True)
    if not gone():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


main()
