"""Tables for people, and the words of the command line."""

import argparse
import os
import pathlib
import re
import shutil
import sys
import textwrap

from .table import FILES, Fault, settings

COLOURS = {"ok": "32", "set": "32", "low": "33", "would set": "33", "failed": "31", "n/a": "2"}


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2."""

    def error(self, message):
        print(f"{self.prog}: {message}; --help says more", file=sys.stderr)
        sys.exit(2)


def run(main, program):
    """Ends the process: by the code of `main`, or with one line about what went wrong."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing can be said to them any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except KeyboardInterrupt:
        code = 130
    except (Fault, ValueError, KeyError) as fault:
        print(f"{program}: {fault}", file=sys.stderr)
        code = 3
    except (OSError, RuntimeError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


def sessions(text):
    """`1000000`, `10k` and `1M` alike."""
    match = re.fullmatch(r"([1-9][0-9_]{0,11})(k|M)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of sessions, such as 100k or 1M")
    return int(match[1]) * {None: 1, "k": 1_000, "M": 1_000_000}[match[2]]


def folder(text):
    path = pathlib.Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is no directory")
    return path


def add_size(parser):
    parser.add_argument(
        "--for",
        dest="sessions",
        type=sessions,
        default=100_000,
        metavar="N",
        help="how many sessions the server shall hold, such as 10k or 1000000 (default: 100k)",
    )
    parser.add_argument(
        "--with-clients",
        action="store_true",
        help="the clients run on this machine too, as in a load test",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[name(file) for file in FILES],
        metavar="FILE",
        help="only this file of tuning/table/, such as backlog; may be repeated",
    )


def name(file):
    return file[: -len(".conf")]


def chosen_rows(args):
    """The rows that `--only` leaves."""
    return [row for row in settings() if not args.only or name(row.file) in args.only]


def columns(rows, gap="  "):
    """Rows of texts as aligned lines."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        gap.join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows
    ]


def show(rows, heads, stream=None):
    """Prints rows whose first text is a mark; colour is for terminals that want it."""
    stream = stream or sys.stdout
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    for line, row in zip(columns([heads] + rows), [heads] + rows):
        code = COLOURS.get(row[0]) if coloured else None
        painted = f"\x1b[{code}m{row[0]}\x1b[0m{line[len(row[0]):]}" if code else line
        print(painted, file=stream)


def tell(name, text):
    """A paragraph about one setting."""
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    print(textwrap.fill(f"{name}: {text}", width, initial_indent="  ", subsequent_indent="      ",
                        break_on_hyphens=False, break_long_words=False))


def value(look):
    """What was found, for eyes."""
    return look.found or ("(empty)" if look.state in ("ok", "low") else "-")


def counted(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
