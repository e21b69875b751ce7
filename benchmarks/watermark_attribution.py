"""Measure attribution on fresh texts: make them, score them, print the table.

    python benchmarks/watermark_attribution.py generate --folder outputs/attribution
    python benchmarks/watermark_attribution.py score    --folder outputs/attribution
    python benchmarks/watermark_attribution.py table    --folder outputs/attribution

Every stage can be stopped and started again: it goes on where its file ends. `generate` writes
`texts.jsonl` (texts of each scheme; soft at several biases; a key of its own for each batch) and is
the long one: 1,200 texts of 100 tokens take about half an hour on one core. `score` runs the model
along the texts and writes `scores-1.jsonl`: the statistics of every token, of the texts as they
are, of their first 25 tokens after the prompt, and with 20 % of their tokens substituted. `table`
turns them into likelihoods, writes `table.json` and prints it. See docs/results.md for the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from scipy.stats import binom  # noqa: E402

from src.algorithms.watermark.attacks import attack_ids, replacement_ids  # noqa: E402
from src.algorithms.watermark.detection import (  # noqa: E402
    GREEN,
    RED,
    assign_with_totals,
    count_log_likelihoods,
    count_pairs,
    evaluate_counts,
    flatten,
    letter_counts,
    pair_states,
)
from src.algorithms.watermark.generation import continue_prompts  # noqa: E402
from src.algorithms.watermark.green_lists import PackedRows, Watermark  # noqa: E402
from src.algorithms.watermark.likelihood import (  # noqa: E402
    TokenStatistics,
    model_logits,
    scheme_log_likelihoods,
    token_statistics,
)
from src.algorithms.watermark.schemes import (  # noqa: E402
    SCHEMES,
    Ban,
    build_scheme,
    token_texts,
    tokens_with_e,
    unusable_tokens,
)
from src.backbones import load_causal_lm, load_tokenizer  # noqa: E402
from src.reports.watermark import wilson_interval  # noqa: E402

NUM_TOKENS = 100
#: Texts scored between two writes.
SCORED_AT_ONCE = 16
#: The text as it is; its first 25 tokens after the prompt; with a fifth of its tokens substituted.
KINDS = ["whole", "prompted", "substituted"]
AS_WRITTEN = {"clean_up_tokenization_spaces": False}


def load_spec(name: str, folder: str | None) -> dict[str, Any]:
    """Read a backbone's spec; a folder replaces where its files come from."""
    spec = yaml.safe_load((ROOT / f"configs/backbone/{name}.yaml").read_text())
    if folder:
        spec = {k: v for k, v in spec.items() if k not in ("package", "gguf_file")}
        spec["path"] = folder
    return spec


def plan(args: argparse.Namespace) -> list[tuple[str, float, int]]:
    """List the batches as (scheme, bias, number); each has its own key and seed."""
    num = -(-args.texts // args.batch_size)
    num_other = -(-args.texts_other // args.batch_size)
    jobs = [(scheme, 2.0, i) for i in range(num) for scheme in SCHEMES]
    others = [("soft", bias, i) for i in range(num_other) for bias in (1.0, 4.0)]
    return jobs[: 4 * num_other] + others + jobs[4 * num_other :]


def generate(args: argparse.Namespace) -> None:
    """Write `texts.jsonl`, one batch at a time."""
    path = args.folder / "texts.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = len(path.read_text().splitlines()) // args.batch_size if path.exists() else 0
    spec = load_spec(args.backbone, args.path)
    tokenizer, model = load_tokenizer(spec), load_causal_lm(spec)
    vocab_size = model.config.vocab_size
    with_e, ban = tokens_with_e(tokenizer, vocab_size), Ban(unusable_tokens(tokenizer, vocab_size))
    prompts = (ROOT / "benchmarks/watermark_prompts.txt").read_text().splitlines()
    for scheme, bias, number in plan(args)[done:]:
        key = 1_000_003 * (number + 1) + args.seed
        watermark = Watermark("keyed", key, 1, 0.5, bias, vocab_size, spec["name"])
        started = time.perf_counter()
        chosen = [prompts[i % len(prompts)] for i in range(args.batch_size)]
        result = continue_prompts(
            model,
            tokenizer,
            chosen,
            [(SCHEMES.index(scheme), int(10 * bias), number, i) for i in range(args.batch_size)],
            build_scheme(scheme, PackedRows(watermark.green_list()), bias, with_e),
            ban,
            NUM_TOKENS,
            args.seed,
        )
        texts = tokenizer.batch_decode(result.token_ids, clean_up_tokenization_spaces=False)
        with path.open("a") as file:
            for prompt, text, ids, nll in zip(
                chosen, texts, result.token_ids, result.nll.sum(1).tolist(), strict=True
            ):
                row = {"prompt": prompt, "text": text, "token_ids": ids, "scheme": scheme}
                row |= {"nll": nll, "watermark": watermark.to_mapping()}
                file.write(json.dumps(row) + "\n")
        print(scheme, bias, number, f"{time.perf_counter() - started:.0f} s", flush=True)


def score(args: argparse.Namespace) -> None:
    """Write `scores-K.jsonl`: what every likelihood of a text needs, whole, prompted and edited."""
    part, parts = map(int, args.part.split("/"))
    source, path = args.folder / "texts.jsonl", args.folder / f"scores-{part}.jsonl"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    spec = load_spec(args.backbone, args.path)
    tokenizer, model = load_tokenizer(spec), load_causal_lm(spec)
    vocab_size = model.config.vocab_size
    with_e = tokens_with_e(tokenizer, vocab_size, is_strict=False)
    unusable = unusable_tokens(tokenizer, vocab_size)
    replacements = replacement_ids(tokenizer, unusable, token_texts(tokenizer, vocab_size))
    rows = [json.loads(line) for line in source.read_text().splitlines()][args.skip :]
    # in a fixed random order, so that a run that is stopped has scored some of every kind
    order = np.random.default_rng(0).permutation(len(rows))[: args.limit][part - 1 :: parts][done:]
    for start in range(0, len(order), SCORED_AT_ONCE):
        numbers = order[start : start + SCORED_AT_ONCE].tolist()
        chosen = [rows[number] for number in numbers]
        marks = [Watermark.from_mapping(row["watermark"]) for row in chosen]
        found: list[dict[str, Any]] = []
        variants: list[tuple[int, str, list[int], list[int]]] = []  # text, name, ids, prompt
        for i, (number, row) in enumerate(zip(numbers, chosen, strict=True)):
            ids = encode(tokenizer, row["text"])
            found.append({"scheme": row["scheme"], "bias": marks[i].bias, "evidence": {}})
            found[i] |= {"is_intact": ids == row["token_ids"], "statistics": {}}
            if "whole" in args.kinds:
                variants.append((i, "whole", ids, []))
            if (
                "prompted" in args.kinds
                and row["scheme"] in ("none", "soft")
                and marks[i].bias == 2.0
            ):
                prompt = tokenizer(row["prompt"])["input_ids"]
                variants.append((i, "prompted first 25", ids[:25], prompt))
            if "substituted" in args.kinds and number % args.substituted_every == 0:
                random = np.random.default_rng(number)
                edited = attack_ids(ids, "substitution", 0.2, random, replacements)
                edited = encode(tokenizer, tokenizer.decode(edited, **AS_WRITTEN))
                variants.append((i, "substituted", edited, []))
        texts = [[*before, *ids] for _, _, ids, before in variants]
        nums_scored = [len(ids) - (not before) for _, _, ids, before in variants]
        for position, logits in model_logits(model, texts, nums_scored):
            i, name, ids, before = variants[position]
            tensor = torch.tensor(texts[position][-len(logits) - 1 :])
            # an unmarked text is as unmarked for every other key: more samples for a threshold
            num_keys = args.fresh_keys if chosen[i]["scheme"] == "none" else 0
            found[i]["statistics"][name] = [
                to_columns(
                    token_statistics(
                        logits, tensor[1:], tensor[:-1, None], mark.green_list(), with_e, unusable
                    )
                )
                for mark in [marks[i], *(replace(marks[i], key=-1 - k) for k in range(num_keys))]
            ]
            for length in {"whole": (len(ids), 50, 25)}.get(name, (len(ids),)):
                label = name if length == len(ids) else f"first {length}"
                text = tokenizer.decode(ids[:length], **AS_WRITTEN)
                states = pair_states([*before[-1:], *ids[:length]], marks[i].green_list())
                num_e, num_letters = letter_counts([text])
                found[i]["evidence"][label] = {
                    "num_scored": int(((states == RED) | (states == GREEN)).sum()),
                    "num_green": int((states == GREEN).sum()),
                    "num_e": num_e[0],
                    "num_letters": num_letters[0],
                }
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)


def encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def to_columns(statistics: TokenStatistics) -> list[list[float]]:
    return [np.round(column.astype(float), 6).tolist() for column in vars(statistics).values()]


class Score:
    """One scored text: likelihoods of it under any bias, of its beginnings too.

    Args:
        row: A line of `scores-K.jsonl`.
        vocab_size: Tokens that a replacement is drawn from.
    """

    def __init__(self, row: dict[str, Any], vocab_size: int) -> None:
        self.scheme, self.bias, self.is_intact = row["scheme"], row["bias"], row["is_intact"]
        self.evidence, self._columns = row["evidence"], row["statistics"]
        self._vocab_size = vocab_size

    def has(self, kind: str) -> bool:
        return kind in self.evidence

    @cache  # noqa: B019  the rows live as long as the process
    def log_likelihoods(
        self, kind: str, bias: float | None, key: int = 0, edit_rate: float | None = None
    ) -> np.ndarray:
        """Shape (4,); a bias of None is fitted; keys after the first are fresh ones."""
        is_prefix = kind.startswith("first")
        columns = self._columns["whole" if is_prefix else kind][key]
        if is_prefix:  # causal: the statistics of a beginning are a beginning; one context is lost
            columns = [column[: int(kind.split()[1]) - 1] for column in columns]
        arrays = [np.array(column) for column in columns]
        statistics = TokenStatistics(*arrays[:4], arrays[4].astype(bool), arrays[5].astype(bool))
        return scheme_log_likelihoods(statistics, bias, self._vocab_size, edit_rate)

    def evidence_ratios(self, kind: str, number: int, bias: float) -> list[float]:
        """Log-ratio of a scheme to none, one a key."""
        num_keys = len(self._columns["whole" if kind.startswith("first") else kind])
        found = [self.log_likelihoods(kind, bias, key) for key in range(num_keys)]
        return [float(scores[number] - scores[0]) for scores in found]


Show = Callable[[str, Any], None]


def table(args: argparse.Namespace) -> None:
    """Print every figure with the number of texts and Wilson's 95 % interval."""
    vocab_size = load_spec(args.backbone, args.path)["config"]["vocab_size"]
    rows = [
        Score(json.loads(line), vocab_size)
        for path in sorted(args.folder.glob("scores-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    result: dict[str, Any] = {}

    def show(name: str, right: Any) -> None:
        low, high = wilson_interval(int(np.sum(right)), len(right))
        result[name] = {"right": int(np.sum(right)), "num": len(right), "low": low, "high": high}
        share = np.mean(right) if len(right) else float("nan")
        print(
            f"{name:62} {np.sum(right):5} of {len(right):5}  {share:.4f}  [{low:.4f}, {high:.4f}]"
        )

    show("texts read back as they were written", [row.is_intact for row in rows])
    for bias in (2.0, 1.0, 4.0):
        # texts of the other schemes do not depend on the bias: they stand beside every soft one
        mine = [row for row in rows if row.scheme != "soft" or row.bias == bias]
        for kind in ("whole", "first 50", "first 25", "substituted"):
            chosen = [row for row in mine if row.has(kind)]
            true = np.array([SCHEMES.index(row.scheme) for row in chosen], dtype=int)
            if len(np.unique(true)) < len(SCHEMES):
                continue
            for known in (bias, None):
                label = f"{kind}, bias {bias:g}, {'fitted' if known is None else 'known'}"
                scores = np.array([row.log_likelihoods(kind, known) for row in chosen])
                show_attribution(label, scores, true, show)
                if known == 2.0:
                    show_totals(label, scores, true, show)
        if bias == 2.0:
            for kind in ("whole", "first 50", "first 25", "substituted", "prompted first 25"):
                chosen = [row for row in mine if row.has(kind)]
                show_counts(kind, chosen, show)
                show_rates(kind, chosen, bias, show)
            show_bound("prompted first 25", mine, bias)
    if args.human:
        false_alarms(args, show)
    (args.folder / "table.json").write_text(json.dumps(result, indent=2) + "\n")


def show_attribution(label: str, scores: Any, true: Any, show: Show) -> None:
    """Accuracy of the likeliest scheme: of all texts, and balanced, the mean over schemes."""
    right = scores.argmax(axis=1) == true
    show(f"{label}: four-way", right)
    shares = [right[true == number].mean() for number in range(len(SCHEMES))]
    print(f"{label}: four-way, mean over the schemes {np.mean(shares):.4f}")
    for number, scheme in enumerate(SCHEMES):
        show(f"{label}: of {scheme}", right[true == number])
        wrong = scores.argmax(axis=1)[(true == number) & ~right]
        if len(wrong):
            print(f"    called {dict(Counter(SCHEMES[k] for k in wrong))}")


def show_totals(label: str, scores: Any, true: Any, show: Show, draws: int = 400) -> None:
    """Accuracy with known totals over random draws of 20 texts of each scheme."""
    random = np.random.default_rng(0)
    num = min(20, *np.bincount(true, minlength=4))
    if num == 0:
        return
    perfect, right = [], []
    for _ in range(draws):
        picks = np.concatenate(
            [random.choice(np.flatnonzero(true == k), num, replace=False) for k in range(4)]
        )
        normal = scores[picks] - np.logaddexp.reduce(scores[picks], axis=1, keepdims=True)
        is_right = assign_with_totals(normal, [num] * 4) == true[picks]
        perfect.append(is_right.all())
        right += is_right.tolist()
    print(f"{label}: with totals of {num} each, {draws} draws: texts right {np.mean(right):.4f}")
    show(f"{label}: draws without a mistake ({num} each)", perfect)


def show_rates(kind: str, chosen: list[Score], bias: float, show: Show) -> None:
    """Marked texts found at 1 % false alarms, by the log-ratio to none, its keys pooled."""
    random = np.random.default_rng(0)
    for number, scheme in enumerate(SCHEMES[1:], start=1):
        unmarked = [
            row.evidence_ratios(kind, number, bias) for row in chosen if row.scheme == "none"
        ]
        marked = [row.evidence_ratios(kind, number, bias) for row in chosen if row.scheme == scheme]
        if not unmarked or not marked:
            continue
        unmarked, marked = np.array(unmarked), np.array(marked)[:, 0]

        def found(null: Any, ratios: Any) -> Any:
            # the threshold that at most one unmarked text in a hundred reaches
            return ratios > np.sort(null, axis=None)[null.size - 1 - null.size // 100]

        label = f"{kind}: {scheme} found at 1 % of {unmarked.size} nulls"
        show(label, found(unmarked, marked))
        drawn = [
            found(
                unmarked[random.integers(len(unmarked), size=len(unmarked))],
                marked[random.integers(len(marked), size=len(marked))],
            ).mean()
            for _ in range(1000)
        ]
        low, high = np.quantile(drawn, (0.025, 0.975))
        print(f"    bootstrap over texts, threshold included [{low:.4f}, {high:.4f}]")


def show_bound(kind: str, rows: list[Score], bias: float) -> None:
    """What no detector can exceed: the power of the true likelihood ratio (Neyman and Pearson).

    Unedited soft texts are drawn from the very distribution that the ratio assumes, so the false
    alarms of a threshold are the mean of ``exp(-ratio)`` over the soft texts above it.
    """
    ratios = []
    for row in rows:
        if row.scheme == "soft" and row.has(kind):
            scores = row.log_likelihoods(kind, bias, edit_rate=0.0)
            ratios.append(scores[3] - scores[0])
    if ratios:
        ratios = np.sort(ratios)[::-1]
        false_alarms = np.cumsum(np.exp(-ratios)) / len(ratios)
        num = int((false_alarms <= 0.01).sum())
        print(f"{kind}: the true ratio finds {num} of {len(ratios)} soft texts at 1 % false alarms")


def show_counts(kind: str, chosen: list[Score], show: Show) -> None:
    """The same texts attributed by counting."""
    if not chosen:
        return
    numbers = {
        key: np.array([row.evidence[kind][key] for row in chosen])
        for key in ("num_scored", "num_green", "num_e", "num_letters")
    }
    counts = evaluate_counts(numbers["num_scored"], numbers["num_green"], 0.5)
    true = np.array([SCHEMES.index(row.scheme) for row in chosen])
    scores = count_log_likelihoods(counts, numbers["num_e"], numbers["num_letters"], 0.5, 2.0)
    if len(np.unique(true)) == len(SCHEMES):
        show(f"{kind}, bias 2, by counts: four-way", scores.argmax(axis=1) == true)
    found = counts.p_value <= 0.01
    show(f"{kind}, by counts: soft found at p <= 1 %", found[true == 3])


def false_alarms(args: argparse.Namespace, show: Show, num_keys: int = 10) -> None:
    """Test 1,000 unmarked texts under fresh keys at the nominal level of 1 %."""
    tokenizer = load_tokenizer(load_spec(args.backbone, args.path))
    texts = [json.loads(line) for line in (args.folder / "texts.jsonl").read_text().splitlines()]
    ids = [row["token_ids"] for row in texts if row["scheme"] in ("none", "no_e")][:1000]
    written = [line for line in args.human.read_text().splitlines() if len(line) > 150]
    ids += tokenizer(written[: 1000 - len(ids)], add_special_tokens=False)["input_ids"]
    exact, spread = [], []
    random = np.random.default_rng(0)
    for key in range(num_keys):
        lists = Watermark("keyed", 77_000 + key, 1, 0.5, 2.0, len(tokenizer), "").green_list()
        counts = count_pairs(*flatten(ids), lists)
        mass = binom.pmf(counts.num_green, counts.num_scored, 0.5)
        exact += (counts.p_value <= 0.01).tolist()
        spread += (counts.p_value - random.uniform(size=len(ids)) * mass <= 0.01).tolist()
    show(f"{len(ids)} unmarked texts, {num_keys} keys: exact p <= 1 %", exact)
    show("the same, p-value spread over its step (exact level)", spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["generate", "score", "table"])
    parser.add_argument("--folder", type=Path, default=Path("outputs/attribution"))
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--path", help="a folder with the backbone in the hub's format")
    parser.add_argument("--texts", type=int, default=1000, help="texts of each scheme at bias 2")
    parser.add_argument("--texts-other", type=int, default=200, help="soft texts at bias 1 and 4")
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument(
        "--kinds", nargs="+", default=KINDS, choices=KINDS, help="what to score of each text"
    )
    parser.add_argument(
        "--substituted-every", type=int, default=1, help="score each n-th text substituted too"
    )
    parser.add_argument(
        "--fresh-keys", type=int, default=4, help="other keys to score unmarked texts under"
    )
    parser.add_argument("--human", type=Path, help="unmarked texts, one a line, for false alarms")
    parser.add_argument("--part", default="1/1", help="K/N: score the K-th of N parts only")
    parser.add_argument("--limit", type=int, help="score so many texts at most")
    parser.add_argument(
        "--skip",
        type=int,
        default=0,
        help="leave out the first texts, which settings were tuned on",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    {"generate": generate, "score": score, "table": table}[args.stage](args)


if __name__ == "__main__":
    main()
