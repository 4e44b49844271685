"""`make bench`, or `python -m benchmarks`: flowq and its peers, measured side by side on this machine.

The peers are installed at pinned versions into a folder of their own. Each measure of each round runs everybody in turn, so
that ratios mean something on a busy machine too. Prints a table, and writes JSON and a plot; after Ctrl-C of what there is.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS, FLOWQ, ROOT, Contestant
from benchmarks.conversation import DriverFailed
from benchmarks.document import NoFigures, about, document, read, written
from benchmarks.install import CACHE, missing
from benchmarks.measures import MEASURES
from benchmarks.plot import plot
from benchmarks.report import chain_table, goal_table, report
from benchmarks.rounds import Failure, Taken, played, rows
from benchmarks.stand import QUICK, Server, Sizes, running_servers, stand_for

# Where a complete run writes, if nothing else is wanted.
RESULT = ROOT / "benchmarks" / "results" / "latest.json"
PLOT = ROOT / "docs" / "benchmarks.svg"


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; or only prints and draws what was measured before."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.show:
        try:
            made = read(Path(options.show))
        except NoFigures as error:
            parser.error(f"argument --show: {error}")
    else:
        if not (options.quick or options.only or options.measures):
            options.output, options.plot = options.output or RESULT, options.plot or PLOT
        made = _measured(options)
        if options.output:
            written(made, Path(options.output))
    print(goal_table(made) if options.goals else chain_table(made) if options.chains else report(made))
    if options.plot:
        Path(options.plot).write_text(plot(made), "utf-8")
    return 1 if made["failures"] else 0


def _parser() -> argparse.ArgumentParser:
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m benchmarks", description=f"{first}\n\n{rest}")
    names, measures = [each.name for each in CONTESTANTS], [each.name for each in MEASURES]
    parser.add_argument("--rounds", type=_rounds, help="how often everything is measured: 5; 1 with --quick")
    parser.add_argument(
        "--quick", action="store_true", help="small and once, of peers only chains unless they are named: shows that all works"
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--measures", nargs="+", choices=measures, metavar="MEASURE", help=f"of: {', '.join(measures)}")
    parser.add_argument("--beside", action="append", default=[], metavar="CHECKOUT", help="another checkout of flowq, in turn")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the peers are installed")
    parser.add_argument("--no-install", action="store_true", help="report peers as missing that are not installed yet")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="of the order in the first round")
    parser.add_argument("--output", metavar="FILE", help=f"where the JSON goes; complete runs: {RESULT.relative_to(ROOT)}")
    parser.add_argument("--plot", metavar="FILE", help=f"where the plot goes; complete runs: {PLOT.relative_to(ROOT)}")
    parser.add_argument("--show", metavar="FILE", help="measure nothing, show this JSON")
    parser.add_argument("--goals", action="store_true", help="print only the goals, as a table in Markdown")
    parser.add_argument("--chains", action="store_true", help="print only what chains of four took, as a table in Markdown")
    return parser


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    sizes, rounds = (QUICK if options.quick else Sizes()), options.rounds or (1 if options.quick else 5)
    cache = options.cache.resolve()
    wanted = [each for each in CONTESTANTS if not options.only or each.name in options.only]
    wanted += [FLOWQ._replace(name=f"flowq at {path}", checkout=Path(path).resolve()) for path in options.beside]
    measures = [each for each in MEASURES if not options.measures or each.name in options.measures]
    with running_servers({each.fsync for each in wanted}) as servers:
        told = {each: _told(each, servers[each.fsync], cache, may_install=not options.no_install) for each in wanted}
        able = [each for each in wanted if not told[each]["missing"]]
        taken: list[Taken] = []
        failures: list[Failure] = []
        playing = played(
            able,
            measures,
            servers,
            rounds=rounds,
            sizes=sizes,
            cache=cache,
            seed=options.seed,
            is_quick=options.quick and not options.only,
        )
        with contextlib.suppress(KeyboardInterrupt):  # what was measured until then is kept
            for one in playing:
                if isinstance(one, Failure):
                    print(f"failed: {one}", file=sys.stderr)
                    failures.append(one)
                else:
                    taken.append(one)
        return document(
            rows(taken, rounds), failures, list(told.values()), servers, rounds=rounds, sizes=sizes, seed=options.seed
        )


def _told(contestant: Contestant, server: Server, cache: Path, *, may_install: bool) -> dict[str, Any]:
    """What is known of a contestant once its driver has started, or why that is impossible."""
    if why := missing(contestant, cache, may_install=may_install):
        return about(contestant, versions={}, why_missing=why)
    try:
        with stand_for(contestant, server, Sizes(), cache).driver() as driver:
            return about(contestant, versions=driver.versions, why_missing="")
    except DriverFailed as error:
        return about(contestant, versions={}, why_missing=f"its driver does not start: {error}")


if __name__ == "__main__":
    sys.exit(main())
