"""Run every benchmark and collect the tables: ``python -m benchmarks [--quick] [NAME ...]``.

A benchmark is a file of this folder that runs as ``python -m benchmarks.NAME --output FILE`` and
writes its table to FILE as markdown. Each runs in a process of its own, so that none warms the
caches of the next.
"""

import argparse
import subprocess
import sys
from pathlib import Path

#: In the order of the tables; each finishes in a few minutes on two cores.
BENCHMARKS = ("training_step", "ddp", "watermark", "inversion")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"), help="folder")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {sorted(unknown)}; choose of {list(BENCHMARKS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.names or BENCHMARKS:
        table = arguments.output / f"{name}.md"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--output", str(table)]
        print(f"--- {name}", flush=True)
        if subprocess.run([*command, *(["--quick"] if arguments.quick else [])]).returncode:
            failed.append(name)
    print(f"tables: {arguments.output}/*.md" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
