"""Measure attribution on fresh texts: make them, score them, print the table.

    python benchmarks/watermark_attribution.py generate --folder outputs/attribution
    python benchmarks/watermark_attribution.py score    --folder outputs/attribution
    python benchmarks/watermark_attribution.py table    --folder outputs/attribution

Every stage can be stopped and started again: it goes on where its file ends. `generate` writes
`texts.jsonl` (texts of each scheme; soft at several biases; a key of its own for each batch) and is
the long one: 1,200 texts of 100 tokens take about half an hour on one core. `score` writes
`scores-1.jsonl`, with the texts as they are, cut to 25 and 50 tokens, and with 20 % of their tokens
substituted. `table` writes `table.json` and prints it. See docs/results.md for the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
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
    """Write `scores-K.jsonl`: log-likelihoods and counts of every text, whole, cut and edited."""
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
    every = {"prompted": args.prompted_every, "substituted": args.substituted_every}
    # in a fixed random order, so that a run that is stopped has scored some of every kind
    order = np.random.default_rng(0).permutation(len(rows))[: args.limit][part - 1 :: parts][done:]
    with path.open("a") as file:
        for number in order.tolist():
            row = rows[number]
            mark = Watermark.from_mapping(row["watermark"])
            ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
            edited = attack_ids(
                ids, "substitution", 0.2, np.random.default_rng(number), replacements
            )
            edited_text = tokenizer.decode(edited, clean_up_tokenization_spaces=False)
            edited = tokenizer(edited_text, add_special_tokens=False)["input_ids"]
            prompt = tokenizer(row["prompt"])["input_ids"]
            out: dict[str, Any] = {
                "scheme": row["scheme"],
                "bias": mark.bias,
                "is_intact": ids == row["token_ids"],
            }
            variants = {
                "whole": (ids, []),
                "prompted": (ids, prompt),
                "first_50": (ids[:50], []),
                "first_25": (ids[:25], []),
                "substituted": (edited, []),
            }
            known: dict[str, TokenStatistics] = {}
            for name, (tokens, before) in variants.items():
                if name.startswith("first"):  # causal: the statistics of a prefix are a prefix
                    columns = vars(known["whole"]).values()
                    known[name] = TokenStatistics(*(c[: len(tokens) - 1] for c in columns))
                elif number % every.get(name, 1):
                    continue
                else:
                    known[name] = statistics_of(model, tokens, before, mark, with_e, unusable)
                states = pair_states([*before[-1:], *tokens], mark.green_list())
                text = tokenizer.decode(tokens) if name != "whole" else row["text"]
                num_e, num_letters = letter_counts([text])
                out[name] = {
                    "log_likelihoods": scheme_log_likelihoods(
                        known[name], mark.bias, vocab_size
                    ).tolist(),
                    "fitted_bias": scheme_log_likelihoods(known[name], None, vocab_size).tolist(),
                    "num_scored": int(((states == RED) | (states == GREEN)).sum()),
                    "num_green": int((states == GREEN).sum()),
                    "num_e": num_e[0],
                    "num_letters": num_letters[0],
                }
            file.write(json.dumps(out) + "\n")
            file.flush()


def statistics_of(
    model: Any,
    ids: list[int],
    before: list[int],
    mark: Watermark,
    with_e: torch.Tensor,
    unusable: torch.Tensor,
) -> TokenStatistics:
    """Run the model along one text, after its prompt or without."""
    num_scored = len(ids) if before else len(ids) - 1
    everything = torch.tensor([*before, *ids])
    logits = model_logits(model, everything.tolist(), num_scored)
    contexts = everything[-num_scored - 1 : -1, None]
    return token_statistics(
        logits, everything[-num_scored:], contexts, mark.green_list(), with_e, unusable
    )


def table(args: argparse.Namespace) -> None:
    """Print every figure with the number of texts and Wilson's 95 % interval."""
    rows = [
        json.loads(line)
        for path in sorted(args.folder.glob("scores-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    result: dict[str, Any] = {}

    def show(name: str, right: Any) -> None:
        low, high = wilson_interval(int(np.sum(right)), len(right))
        result[name] = {"right": int(np.sum(right)), "num": len(right), "low": low, "high": high}
        share = np.mean(right) if len(right) else float("nan")
        print(
            f"{name:58} {np.sum(right):5} of {len(right):5}  {share:.3f}  [{low:.3f}, {high:.3f}]"
        )

    def likelihoods(kind: str, key: str, chosen: list[Any]) -> np.ndarray:
        return np.array([row[kind][key] for row in chosen]).reshape(-1, len(SCHEMES))

    def truth(chosen: list[Any]) -> np.ndarray:
        return np.array([SCHEMES.index(row["scheme"]) for row in chosen], dtype=int)

    show("texts read back as they were written", [row["is_intact"] for row in rows])
    for bias in (2.0, 1.0, 4.0):
        # texts of the other schemes do not depend on the bias: they stand beside every soft one;
        # their likelihood under soft, though, is of bias 2, so only fitted biases compare fairly
        for kind in ("whole", "prompted", "first_50", "first_25", "substituted"):
            chosen = [r for r in rows if kind in r and (r["scheme"] != "soft" or r["bias"] == bias)]
            keys = ("log_likelihoods", "fitted_bias") if bias == 2.0 else ("fitted_bias",)
            for key in keys:
                scores, true = likelihoods(kind, key, chosen), truth(chosen)
                if len(scores) == 0:
                    continue
                right = scores.argmax(axis=1) == true
                label = f"{kind}, bias {bias:g}, {'known' if key[0] == 'l' else 'fitted'}"
                show(f"{label}: four-way", right)
                for number, scheme in enumerate(SCHEMES):
                    show(f"{label}: of {scheme}", right[true == number])
                if bias == 2.0 and key[0] == "l":
                    show_totals(label, scores, true, show)
                    show_rates(label, scores, true, show)
            soft = [r for r in chosen if r["scheme"] == "soft"]
            if bias != 2.0 and soft:
                right = likelihoods(kind, "log_likelihoods", soft).argmax(axis=1) == 3
                show(f"{kind}, bias {bias:g}, known: of soft", right)
            if bias == 2.0:
                show_counts(kind, chosen, show)
    if args.human:
        false_alarms(args, show)
    (args.folder / "table.json").write_text(json.dumps(result, indent=2) + "\n")


def show_totals(label: str, scores: Any, true: Any, show: Any, draws: int = 400) -> None:
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


def show_rates(label: str, scores: Any, true: Any, show: Any) -> None:
    """Marked texts found at 1 % false alarms, by the log-ratio to none."""
    for number, scheme in enumerate(SCHEMES[1:], start=1):
        ratio = scores[:, number] - scores[:, 0]
        unmarked = np.sort(ratio[true == 0])
        if len(unmarked) and (true == number).any():
            # the threshold that at most one unmarked text in a hundred reaches
            threshold = unmarked[len(unmarked) - 1 - len(unmarked) // 100]
            show(f"{label}: {scheme} found at 1 % FPR", ratio[true == number] > threshold)


def show_counts(kind: str, chosen: list[Any], show: Any) -> None:
    """The same texts attributed by counting."""
    numbers = {
        key: np.array([row[kind][key] for row in chosen])
        for key in ("num_scored", "num_green", "num_e", "num_letters")
    }
    if not len(numbers["num_e"]):
        return
    counts = evaluate_counts(numbers["num_scored"], numbers["num_green"], 0.5)
    true = np.array([SCHEMES.index(row["scheme"]) for row in chosen])
    scores = count_log_likelihoods(counts, numbers["num_e"], numbers["num_letters"], 0.5, 2.0)
    show(f"{kind}, bias 2, by counts: four-way", scores.argmax(axis=1) == true)
    found = counts.p_value <= 0.01
    show(f"{kind}, by counts: soft found at p <= 1 %", found[true == 3])


def false_alarms(args: argparse.Namespace, show: Any, num_keys: int = 10) -> None:
    """Test 1,000 unmarked texts under fresh keys at the nominal level of 1 %."""
    tokenizer = load_tokenizer(load_spec(args.backbone, args.path))
    texts = [json.loads(line) for line in (args.folder / "texts.jsonl").read_text().splitlines()]
    ids = [row["token_ids"] for row in texts if row["scheme"] in ("none", "no_e")]
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
        "--prompted-every", type=int, default=4, help="score each n-th text with its prompt too"
    )
    parser.add_argument("--substituted-every", type=int, default=1, help="the same, substituted")
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
