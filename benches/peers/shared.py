"""What run and torch_tied.py share: shapes on the command line, errors in one line, numbers for people."""

import argparse
import re
import sys
from pathlib import Path

SHAPES = ["256x784x256", "512x1024x1024"]


def fail(message):
    """Says what is wrong in one line, and ends the program."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


class Parser(argparse.ArgumentParser):
    """The options that both have, and errors in one line."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.add_argument(
            "--shape",
            metavar="BxIxH",
            type=shape,
            action="append",
            help=f"batch x inputs x hidden, instead of {' and '.join(SHAPES)}; repeatable",
        )
        self.add_argument("--quick", action="store_true", help="few repetitions: less sure")

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def shape(text):
    """A shape's text, if it is one."""
    if re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){2}", text):
        return text
    raise argparse.ArgumentTypeError(
        f"batch x inputs x hidden is expected, as in 256x784x256, not {text}"
    )


def digits(value):
    """With three significant digits, and all of those before the point."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def in_words(seconds):
    """With three significant digits and a unit that fits."""
    units = [(1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]
    unit, name = next((unit for unit in units if seconds >= 0.9995 * unit[0]), units[-1])
    return f"{digits(seconds / unit)} {name}"
