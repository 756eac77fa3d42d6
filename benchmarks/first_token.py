"""How much later the first token comes than from Ollama itself: one client after the other."""

from benchmarks import load, processes
from benchmarks.load import Group, Load
from benchmarks.pace import Pace
from benchmarks.report import Figure, difference

MODEL = "script:tokens-3-rate-0"
LATER_MS = 8.0


def run(pace: Pace) -> list[Figure]:
    with processes.standin() as ollama, processes.colloquy(ollama) as ours:
        groups = [
            Group("ours", pace.pick(200, 10), load.colloquy_door(ours, MODEL)),
            Group("direct", pace.pick(200, 10), load.ollama_door(ollama, MODEL)),
        ]
        for group in groups:
            load.put(Load([group], at_once=1))  # whatever is done once, is done
        measured = load.put(Load(groups, at_once=1))
    seen, direct = measured.seen["ours"], measured.seen["direct"]
    return [
        difference(
            "First token, one client (median)",
            "ms",
            seen.first_token,
            direct.first_token,
            LATER_MS,
            requests=len(seen.first_tokens),
            others_cpu=measured.others_cpu,
        )
    ]
