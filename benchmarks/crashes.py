"""Kill every writer before each of its operations on files, and at random moments.

    python benchmarks/crashes.py [--writer NAME] [--signal KILL] [--scheme exchange] [--random 300]

After each kill the output is the old or the new one, whole; the next start makes what an
undisturbed one makes, and nothing else is left. Prints a table, and kills of which that is not
true; the exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from kills.campaign import SCHEMES, Campaign, Kill, Server, Writer, summary
from kills.writers import WRITERS

_SHOWN = 5


class Attacker:
    """Campaigns in one process each thread, which share what prepares the boxes."""

    def __init__(self, scratch: str, limit: int | None, n_random: int):
        self.scratch, self.limit, self.n_random = scratch, limit, n_random
        self._here = threading.local()
        self._opened = ExitStack()

    def close(self) -> None:
        """End the processes."""
        self._opened.close()

    def __call__(
        self, task: tuple[Writer, str, signal.Signals]
    ) -> tuple[Campaign, list[Kill], float]:
        """All kills of a writer, and the seconds that they took."""
        writer, scheme, signum = task
        if not hasattr(self._here, "server"):
            place = Path(tempfile.mkdtemp(dir=self.scratch))
            self._here.server = self._opened.enter_context(Server(place))
        server = self._here.server
        # One that was given up is not used again.
        del self._here.server
        campaign = Campaign(server, writer)
        points = campaign.points(scheme, self.limit)
        start = time.monotonic()
        kills = [campaign.kill(at, scheme, signum) for at in points]
        generator = random.Random(1)  # noqa: S311
        kills += [campaign.kill_at_random(generator, scheme) for _ in range(self.n_random)]
        seconds = time.monotonic() - start
        self._here.server = server
        return campaign, kills, seconds


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [writer.name for writer in WRITERS]
    parser.add_argument("--writer", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--signal", nargs="+", choices=["KILL", "TERM", "INT"], default=["KILL"])
    parser.add_argument("--scheme", nargs="+", choices=[*SCHEMES], default=[*SCHEMES])
    parser.add_argument("--limit", type=int, metavar="N", help="operations per writer (all)")
    parser.add_argument("--random", type=int, metavar="N", default=0, help="moments, over all")
    parser.add_argument("--jobs", type=int, metavar="N", default=2, help="writers at once")
    asked = parser.parse_args()
    writers = [
        writer
        for writer in WRITERS
        if writer.name in asked.writer and importlib.util.find_spec(writer.needs)
    ]
    tasks = [
        (writer, scheme, signal.Signals[f"SIG{name}"])
        for scheme in asked.scheme
        for name in asked.signal
        for writer in writers
    ]
    each = -(-asked.random // len(tasks))
    widths = (26, 9, 6, 7, 6, 10, 10, 4, 10, 9)
    head = "writer scheme signal points kills old-whole new-whole bad leftovers s/kill"
    print(_line(head.split(), widths), flush=True)
    totals = {"kills": 0, "bad": 0}
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Attacker(scratch, asked.limit, each)) as attack,
        ThreadPoolExecutor(asked.jobs) as pool,
    ):
        for task, future in [(task, pool.submit(attack, task)) for task in tasks]:
            writer, scheme, signum = task
            try:
                campaign, kills, seconds = future.result()
            except (RuntimeError, OSError) as error:
                print(f"{writer.name}, {scheme}: {error}", flush=True)
                totals["bad"] += 1
                continue
            counts = summary(kills)
            counts["bad"] += len(campaign.flaws)
            n_points = len(campaign.operations(scheme))
            cells = (writer.name, scheme, signum.name[3:], n_points, *counts.values())
            print(_line([*cells, f"{seconds / max(len(kills), 1):.2f}"], widths))
            bad = [kill for kill in kills if kill.problems]
            for text in [*campaign.flaws, *bad[:_SHOWN]]:
                print(f"    {text}")
            if len(bad) > _SHOWN:
                print(f"    and {len(bad) - _SHOWN} more")
            sys.stdout.flush()
            totals = {name: total + counts[name] for name, total in totals.items()}
    print(f"{totals['kills']} kills, {totals['bad']} of them bad")
    return 1 if totals["bad"] else 0


def _line(cells: list[object], widths: tuple[int, ...]) -> str:
    return "  ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths, strict=True))


if __name__ == "__main__":
    sys.exit(main())
