"""`python -m benchmarks [names …]`: measures the system over real sockets, and prints one table."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from benchmarks import (
    chaos,
    crowd,
    delete,
    exporting,
    first_token,
    fleet,
    footprint,
    history,
    importing,
    models,
    relay,
    report,
    slow_reader,
    start,
    stop,
)
from benchmarks.pace import Pace
from benchmarks.report import Figure, say

BENCHMARKS: dict[str, Callable[[Pace], list[Figure]]] = {
    "first_token": first_token.run,
    "crowd": crowd.run,
    "start": start.run,
    "relay": relay.run,
    "slow_reader": slow_reader.run,
    "stop": stop.run,
    "models": models.run,
    "history": history.run,
    "delete": delete.run,
    "exporting": exporting.run,
    "importing": importing.run,
    "footprint": footprint.run,
    "fleet": fleet.run,
    "chaos": chaos.run,
}


def main() -> None:
    arguments = _arguments()
    pace = Pace(is_quick=arguments.quick, is_full=arguments.full)
    began = datetime.now(UTC)
    results: dict[str, list[Figure]] = {}
    failed = []
    for name in arguments.names or BENCHMARKS:
        say(f"{name} … (load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
        try:
            results[name] = BENCHMARKS[name](pace)
        except Exception:  # what the others measured in an hour is not to be lost by it
            traceback.print_exc()
            failed.append(name)
    told = report.document(results, began, pace.is_quick)
    print(report.table(figure for figures in results.values() for figure in figures))
    print(f"\n{report.write(told)}")
    if failed:
        sys.exit(f"Failed, as told above: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"Of {', '.join(BENCHMARKS)}; without: all.")
    parser.add_argument("--quick", action="store_true", help="A few seconds each: to see that it works.")
    parser.add_argument("--full", action="store_true", help="Also install the runtime afresh, to see its size.")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
