"""Exact rate, evaluations and seconds of inversion, side by side on the same phrases.

    python -m benchmarks.inversion                      # hybrid, pez and gcg on a few phrases
    python -m benchmarks.inversion --full               # hybrid on every held-out phrase
    python -m benchmarks.inversion --summary FILE       # the table of an earlier run

The phrases are those of ``benchmarks/phrases/inversion_heldout.txt``, frozen before tuning and kept
out of the proposer's training data. ``hybrid`` is not told the length, ``pez`` and ``gcg`` are. A
phrase counts as exact if the found token ids are its own after the tokenizer's normalisation *and*
the search claimed identity. Rows are written as they come, with the settings they were made with,
so an interrupted run can be summed up and goes on where it stopped; rows of other settings stay in
the file, and count for nothing in this run.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from src.algorithms.inversion.baselines import GCG, PEZ
from src.algorithms.inversion.hybrid import Hybrid
from src.algorithms.inversion.moves import Vocabulary
from src.algorithms.inversion.search import Inversion as Result
from src.algorithms.inversion.search import invert
from src.modules.inversion import Inversion
from src.reports.watermark import wilson_interval

HERE = Path(__file__).resolve().parent
#: Fields of a row that say how it was made; rows that differ in one are never mixed.
SETTINGS = ("backbone", "budget", "precision", "proposer", "table", "group", "phrases")
CLASSES = {"up to 6": (1, 6), "7 to 8": (7, 8), "9 to 16": (9, 16)}


def class_of(num_tokens: int) -> str | None:
    for name, (low, high) in CLASSES.items():
        if low <= num_tokens <= high:
            return name
    return None


def settings_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Give a row's settings; None where an older file lacks one, which matches no run."""
    return tuple(row.get(name) for name in SETTINGS)


class Setup(Inversion):
    """The module's loading code without a Trainer."""

    class trainer:
        """What the loading code asks of one."""

        is_global_zero = True
        callbacks = ()

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    from omegaconf import OmegaConf

    spec: Any = OmegaConf.to_container(
        OmegaConf.load(HERE.parent / "configs" / "backbone" / f"{args.backbone}.yaml")
    )
    setup = Setup(
        spec,
        args.cache_dir,
        precision=args.precision,
        proposer=args.proposer,
        table=not args.no_table,
    )
    setup.configure_model()
    encoder = setup.encoder
    assert encoder is not None
    encoder.to(setup.device)
    start = time.monotonic()
    vocabulary = setup.load_vocabulary()
    seconds = time.monotonic() - start
    print(f"one-off: {encoder.evaluations} evaluations, {seconds:.0f} s", flush=True)
    setup.one_off_evaluations = encoder.evaluations
    texts = [t.strip() for t in (HERE / "phrases" / args.phrases).read_text().splitlines()]
    by_class: dict[str, list[str]] = {name: [] for name in CLASSES}
    for text in texts:
        name = class_of(len(encoder.tokenize(text)))
        if name in by_class:
            by_class[name].append(text)
    out = Path(args.rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "backbone": args.backbone,
        "budget": args.budget,
        "precision": args.precision,
        # What was searched with: "auto" finds none for some backbones.
        "proposer": args.proposer if vocabulary.proposer is not None else "none",
        "table": vocabulary.table is not None,
        "group": args.group,
        "phrases": Path(args.phrases).name,
    }
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    known = [row for row in known if settings_of(row) == settings_of(settings)]
    done = {(row["method"], row["phrase"]) for row in known}
    for name, everything in by_class.items():
        if args.classes and name not in args.classes:
            continue
        step = max(1, len(everything) // args.limit) if args.limit else 1
        for method in args.methods:
            chosen = everything[::step][: args.limit or None]
            chosen = [t for t in chosen if (method, t) not in done]
            for at in range(0, len(chosen), args.group):
                part = chosen[at : at + args.group]
                known += measure(encoder, vocabulary, method, part, name, settings, out)
    return known


def measure(
    encoder: Any,
    vocabulary: Vocabulary,
    method: str,
    phrases: Sequence[str],
    name: str,
    settings: Mapping[str, Any],
    out: Path,
) -> list[dict[str, Any]]:
    """Invert some phrases together, and write a row for each."""
    targets = encoder.encode_text(phrases)
    truth = [encoder.tokenize(p) for p in phrases]
    lengths = [len(ids) for ids in truth]
    if method == "hybrid":
        searcher: Any = Hybrid(vocabulary)
    else:
        searcher = (PEZ if method == "pez" else GCG)(vocabulary, lengths)
    rows: list[dict[str, Any]] = []
    before, start = encoder.evaluations, time.process_time()

    def done(r: Result) -> None:
        row = {
            "method": method,
            "class": name,
            "phrase": phrases[r.index],
            "num_tokens": lengths[r.index],
            "found": r.text,
            "cosine": r.cosine,
            "claimed": r.exact,
            "right": tuple(r.ids) == truth[r.index],
            "evaluations": r.evaluations,
            "runner_up_gap": r.runner_up_gap,
            **settings,
            # CPU time of the whole group so far; targets that run together share it.
            "cpu_seconds": time.process_time() - start,
        }
        rows.append(row)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")

    invert(
        encoder,
        targets,
        searcher,
        budget=settings["budget"],
        known=getattr(searcher, "known", None),
        on_done=done,
    )
    spent, seconds = encoder.evaluations - before, time.process_time() - start
    print(
        f"{method:7s} {name:8s} {len(phrases):3d} phrases: {spent} evaluations together, "
        f"{seconds:.0f} s of CPU, {spent / max(seconds, 1e-9):.0f} a second",
        flush=True,
    )
    return rows


COLUMNS = (
    "method",
    "tokens",
    "n",
    "exact",
    "rate (95 % interval)",
    "wrong claims",
    "evaluations: median",
    "95th percentile",
    "settings",
)
LEFT = ("method", "tokens", "settings")


def summarise(rows: Sequence[dict[str, Any]], output: str | None) -> None:
    """Print the table, a line for each method, class and settings; write it too if a file is given.

    Evaluations are those of the search. The one-off cost comes on top and is the same whatever the
    number of phrases: one evaluation a token of the vocabulary (29,523 for minilm) for the table,
    and for the proposer those of its training phrases (410,000 for the one that ships).
    """
    table = Table(title="inversion of held-out phrases", title_justify="left")
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for column in COLUMNS:
        table.add_column(column, justify="right" if column not in LEFT else "left")
    for made in dict.fromkeys(map(settings_of, rows)):
        for method in ("hybrid", "gcg", "pez"):
            for name in CLASSES:
                part = [r for r in rows if r["method"] == method and r["class"] == name]
                part = [r for r in part if settings_of(r) == made]
                if not part:
                    continue
                hits = sum(r["right"] and r["claimed"] for r in part)
                low, high = wilson_interval(hits, len(part))
                spent = sorted(r["evaluations"] for r in part)
                cells = [
                    method,
                    name,
                    str(len(part)),
                    str(hits),
                    f"{hits / len(part):.1%} ({low:.1%} to {high:.1%})",
                    str(sum(r["claimed"] and not r["right"] for r in part)),
                    f"{statistics.median(spent):.0f}",
                    str(spent[min(len(spent) - 1, int(0.95 * len(spent)))]),
                    ", ".join(
                        f"{k} {'?' if v is None else v}"
                        for k, v in zip(SETTINGS, made, strict=True)
                    ),
                ]
                table.add_row(*cells)
                lines.append("| " + " | ".join(cells) + " |")
    Console(width=130).print(table)
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--phrases", default="inversion_heldout.txt")
    parser.add_argument("--methods", nargs="+", default=["hybrid", "gcg", "pez"])
    parser.add_argument("--classes", nargs="+", choices=list(CLASSES))
    parser.add_argument("--limit", type=int, default=4, help="phrases a class; 0 for all")
    parser.add_argument("--full", action="store_true", help="hybrid on all phrases")
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--group", type=int, default=16, help="phrases searched together")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--proposer", default="auto")
    parser.add_argument("--no-table", action="store_true")
    parser.add_argument("--cache-dir", default=str(Path.home() / ".cache" / "trident"))
    parser.add_argument("--rows", default="outputs/bench/inversion.jsonl")
    parser.add_argument("--output", help="file for the table, as markdown")
    parser.add_argument("--quick", action="store_true", help="one phrase a class")
    parser.add_argument("--summary", help="only print the table of this file")
    args = parser.parse_args()
    if args.summary:
        rows = [json.loads(line) for line in Path(args.summary).read_text().splitlines()]
        summarise(rows, args.output)
        return
    if args.quick:
        args.limit, args.budget = 1, 1000
    if args.full:
        args.methods, args.limit = ["hybrid"], 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    summarise(run(args), args.output)


if __name__ == "__main__":
    main()
