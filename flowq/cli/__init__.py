"""The command line: `flowq dev`, `flowq submit`, `flowq inspect` and the others.

`main` parses, loads the one command that was asked for, runs it and turns errors into messages and exit codes.
Nothing heavy is imported before it is known to be needed: `flowq --help` answers in the time Python takes to start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowq.cli import exits
from flowq.cli.parser import parse, run_command
from flowq.cli.report import quiet_closed_stdout, report, steady_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit code: see `flowq.cli.exits`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    steady_streams()
    try:
        code = run_command(parse(words))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has seen enough (`flowq list | head`): that is no error of anybody.
        return quiet_closed_stdout()
    except SystemExit as stop:  # --help and --version end the parser this way
        return stop.code if isinstance(stop.code, int) else exits.ERROR
    except (Exception, KeyboardInterrupt) as error:
        return report(error, words)
