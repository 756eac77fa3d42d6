"""Clients that stop reading, among others that read: what they cost the server, and what the others feel of it.

They all watch one reply, so that what is measured is the readers and not the replies.
"""

from benchmarks import load, processes
from benchmarks.load import Door, Group, Load, Measured
from benchmarks.pace import Pace
from benchmarks.processes import Server
from benchmarks.reply import started
from benchmarks.report import Figure, beside, difference

EACH = 50
PIECES = 125  # to an object, so that much comes with little work: about 1 KB
PIECES_A_SECOND = 20 * PIECES
READERS_MODEL = "script:tokens-3000-rate-30"
SPREAD, WARM_UP = 2.0, 2.0
MOST_KB = 128.0  # twice what daphne and its library buffer before they ask for a pause
LATER_MS = 20.0


def run(pace: Pace) -> list[Figure]:
    all_read, half_stop = _ours(pace, stops_reading=False), _ours(pace, stops_reading=True)
    bare = _bare(pace)
    return [
        beside(
            f"{EACH} clients that stop reading: memory for each (baseline: bare daphne)",
            "KB",
            (half_stop.growth() - all_read.growth()) / EACH / 1e3,
            bare.growth() / EACH / 1e3,
            MOST_KB,
            growth_mb=half_stop.growth() / 1e6,
            growth_mb_when_all_read=all_read.growth() / 1e6,
        ),
        difference(
            f"{EACH} clients that stop reading: gaps of {EACH} others at p99 (baseline: all read)",
            "ms",
            half_stop.seen["reading"].gap_p99,
            all_read.seen["reading"].gap_p99,
            LATER_MS,
            others_cpu=[half_stop.others_cpu, all_read.others_cpu],
        ),
    ]


def _ours(pace: Pace, stops_reading: bool) -> Measured:
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        connection, generation_id = started(ours, _large(pace))
        connection.close()  # it goes on without
        groups = [
            Group("stopping", EACH, load.watching_door(ours, generation_id), stops_reading=stops_reading),
            Group("reading", EACH, load.colloquy_door(ours, READERS_MODEL)),
        ]
        return _put(pace, ours, groups)


def _bare(pace: Pace) -> Measured:
    """Without back-pressure: what they do not take stays in the server."""
    with processes.standin() as ollama, processes.bare_consumer(ollama) as bare:
        door: Door = load.bare_door(bare, _large(pace))
        return _put(pace, bare, [Group("stopping", EACH, door, stops_reading=True)])


def _put(pace: Pace, server: Server, groups: list[Group]) -> Measured:
    return load.put(Load(groups, spread=SPREAD, warm_up=WARM_UP, window=_window(pace), watch={"server": server.pid}))


def _large(pace: Pace) -> str:
    pieces = round(PIECES_A_SECOND * (SPREAD + WARM_UP + _window(pace) + 10))
    return f"script:tokens-{pieces}-rate-{PIECES_A_SECOND}-chunk-{PIECES}"


def _window(pace: Pace) -> float:
    return pace.pick(25.0, 8.0)
