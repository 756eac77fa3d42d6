"""What it costs to start a reply: the key checked, messages and generation committed. With one token, and its end."""

import statistics

from benchmarks import load, processes
from benchmarks.load import Door, Group, Load, Measured
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.report import Figure, beside

MODEL = "script:tokens-1-rate-0"
AT_ONCE = 4
CPU_MS = 8.0


def run(pace: Pace) -> list[Figure]:
    count = pace.pick(400, 60)
    with (
        processes.standin() as ollama,
        processes.colloquy(ollama) as ours,
        processes.bare_consumer(ollama) as bare,
    ):
        doors = [(ours, load.colloquy_door(ours, MODEL)), (bare, load.bare_door(bare, MODEL))]
        for server, door in doors:
            _starts(server, door, 20)
        rounds = [[_starts(server, door, count) for server, door in doors] for _ in range(pace.rounds)]
    return [
        beside(
            "Starting a stream: CPU of the server, daphne",
            "ms",
            statistics.median(_cpu_ms(measured, count) for measured, _ in rounds),
            statistics.median(_cpu_ms(baseline, count) for _, baseline in rounds),
            CPU_MS,
            rounds=[_cpu_ms(measured, count) for measured, _ in rounds],
            a_second=[count / measured.seconds for measured, _ in rounds],
            others_cpu=[measured.others_cpu for measured, _ in rounds],
        )
    ]


def _starts(server: Server, door: Door, count: int) -> Measured:
    measured = load.put(Load([Group("all", count, door)], at_once=AT_ONCE, watch={"server": server.pid}))
    seen = measured.seen["all"]
    if seen.ended < count:
        raise RuntimeError(f"{count - seen.ended} of {count} did not end: {seen.troubles}")
    return measured


def _cpu_ms(measured: Measured, count: int) -> float:
    return 1000 * measured.cpu["server"] / count
