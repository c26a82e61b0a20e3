"""``python -m tests.random_networks --count 1000 --seed 1``: compare many networks."""

import argparse
import secrets
import sys
import time
from collections import Counter

from tests.random_networks.compare import Disagreement, search

#: networks that are drawn with one seed: a failure is repeated soon, and the more often
#: hypothesis starts afresh, the less the networks resemble each other
CHUNK = 10


def main(arguments=None):
    """Compare networks until some disagree; the exit status says whether some did."""
    parser = argparse.ArgumentParser(prog="python -m tests.random_networks")
    parser.add_argument(
        "--count", type=int, default=5 * CHUNK, help="networks to compare"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help=f"of the first {CHUNK}; the next ones count on (default: a new one)",
    )
    parser.add_argument(
        "--tier",
        choices=["mixed", "numpy", "native", "tensorflow"],
        default="mixed",
        help="mixed (default): one network in twelve is compiled with TensorFlow",
    )
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    seen, start = Counter(), time.perf_counter()
    for done in range(0, options.count, CHUNK):
        count = min(CHUNK, options.count - done)
        repeat = f"--count {count} --seed {seed} --tier {options.tier}"
        try:
            seen += search(count, seed, options.tier)
        except Disagreement as error:
            print(f"{error}\n\nrepeat: python -m tests.random_networks {repeat}")
            return 1
        minutes = (time.perf_counter() - start) / 60
        if (done + count) % (5 * CHUNK) == 0:
            print(f"{done + count} agree after {minutes:.1f} min ({repeat})", flush=True)
        seed += 1
    for name, number in seen.most_common():
        print(f"{number:6} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
