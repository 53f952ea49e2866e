"""`python -m fivenines.drill.simulation`: live one seed, or many on all processors."""

import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import structlog
import typer

from fivenines.drill.simulation.run import COUNTS, Life, SimulationFailedError, simulate


def main(
    seed: Annotated[int, typer.Option(help="The seed to live, or the first of many.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds, one after another.")] = 1,
) -> None:
    """Simulate a fleet of nodes and clients under faults; the same seed lives the same life.

    Exit status 1 and the seed, if a promise was broken.
    """
    began = time.perf_counter()
    _be_quiet()
    if count == 1:
        _tell(_try_to_live(seed))
        return
    lives: list[Life] = []
    with ProcessPoolExecutor(os.cpu_count(), initializer=_be_quiet) as pool:
        for life in pool.map(_try_to_live, range(seed, seed + count), chunksize=16):
            if isinstance(life, str):
                _tell(life)
            else:
                lives.append(life)
    totals = ", ".join(f"{name}={sum(getattr(life, name) for life in lives):,}" for name in COUNTS)
    sys.stdout.write(
        f"{len(lives):,} lives, seeds {seed} to {seed + count - 1}, {time.perf_counter() - began:,.0f} s, "
        f"{sum(life.virtual_s for life in lives) / 3600:,.1f} virtual hours: {totals}; "
        "nothing lost, doubled, reordered or different\n"
    )


def _try_to_live(seed: int) -> Life | str:
    # An exception would have to be pickled on its way between processes; a sentence need not.
    try:
        return simulate(seed)
    except SimulationFailedError as error:
        return str(error)


def _tell(life: Life | str) -> None:
    if isinstance(life, str):
        sys.exit(f"{life}\nlive it again: python -m fivenines.drill.simulation --seed {life.split()[1].rstrip(':')}")
    sys.stdout.write(f"{life}\n")


def _be_quiet() -> None:
    # Failed appends are daily bread in here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


if __name__ == "__main__":
    typer.run(main)
