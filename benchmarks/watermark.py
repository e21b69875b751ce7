"""Measure what a mark costs and how fast it is found, beside the peers, in one run.

    python -m benchmarks.watermark                      # SmolLM2, batch 20, one thread

Times are CPU time of the one thread that works, so other load on the machine hardly counts; each
is the median of the repetitions. Generation: the cost that a processor adds to one step, as a share
of a plain step of the model (forward pass with cache, softmax, draw). Detection: tokens a second.
The peers are transformers' `WatermarkLogitsProcessor` (lefthash) and `WatermarkDetector`, and the
formula of the reference implementation of Kirchenbauer et al. (`simple_1`): a seeded permutation
of the vocabulary for each row, a mask, a bias.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import yaml  # noqa: E402
from transformers import (  # noqa: E402
    LlamaConfig,
    WatermarkDetector,
    WatermarkingConfig,
    WatermarkLogitsProcessor,
)

from src.algorithms.watermark.detection import count_pairs, flatten  # noqa: E402
from src.algorithms.watermark.green_lists import (  # noqa: E402
    HashThreshold,
    KeyedBlocks,
    PackedRows,
)
from src.algorithms.watermark.schemes import HardRedList, SoftRedList  # noqa: E402
from src.backbones import load_causal_lm, load_tokenizer  # noqa: E402

KEY = 15485863


def median_ms(work: Callable[[], Any], repeats: int, warm_up: int = 2) -> float:
    """Median CPU milliseconds of this thread."""
    times = []
    for i in range(warm_up + repeats):
        start = time.thread_time()
        work()
        if i >= warm_up:
            times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


class ReferenceSimple1:
    """The reference implementation's processor: one seeded permutation and mask a row."""

    def __init__(self, vocab_size: int, green_fraction: float, bias: float) -> None:
        self.size, self.num_green, self.bias = vocab_size, int(vocab_size * green_fraction), bias
        self.random = torch.Generator()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        green = [None] * len(input_ids)
        for i, row in enumerate(input_ids):
            self.random.manual_seed(KEY * int(row[-1:].sum()) % (2**64 - 1))
            green[i] = torch.randperm(self.size, generator=self.random)[: self.num_green]
        mask = torch.zeros_like(scores, dtype=torch.bool)
        for i, ids in enumerate(green):
            mask[i][ids] = True
        scores[mask] = scores[mask] + self.bias
        return scores


def generation(spec: dict[str, Any], batch: int, repeats: int) -> dict[str, float]:
    """Milliseconds a step: the model's, and what each processor adds."""
    model = load_causal_lm(spec)
    size = model.config.vocab_size
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, size, (batch, 50), generator=random)
    with torch.inference_mode():
        cache = model(input_ids=ids, use_cache=True).past_key_values

        def step() -> None:
            logits = model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True).logits
            cache.crop(-1)
            torch.multinomial(logits[:, -1].float().softmax(dim=-1), 1)

        found = {"plain step": median_ms(step, max(5, repeats // 6))}
    scores = torch.randn(batch, size, generator=random)
    lists = KeyedBlocks(size, 0.5, KEY)
    contexts = iter(torch.randperm(size, generator=random).tolist())

    def fresh() -> torch.Tensor:
        return torch.tensor([[next(contexts)] for _ in range(batch)])

    warm = SoftRedList(PackedRows(lists), 2.0)
    cold, hard = SoftRedList(PackedRows(lists), 2.0), HardRedList(PackedRows(lists))
    theirs = WatermarkLogitsProcessor(size, "cpu", greenlist_ratio=0.5, bias=2.0)
    reference = ReferenceSimple1(size, 0.5, 2.0)
    found |= {
        "soft, rows in the cache": median_ms(lambda: warm(ids, scores), repeats),
        "soft, every row new": median_ms(lambda: cold(fresh(), scores), repeats),
        "hard, rows in the cache": median_ms(lambda: hard(ids, scores), repeats),
        "transformers lefthash": median_ms(lambda: theirs(ids, scores), repeats // 3),
        "reference simple_1": median_ms(lambda: reference(ids, scores.clone()), repeats // 3),
    }
    return found


def detection(spec: dict[str, Any], repeats: int) -> dict[str, float]:
    """Tokens a second of each way to find a mark."""
    size, num = spec["config"]["vocab_size"], 4_000_000
    random = torch.Generator().manual_seed(1)
    contexts = torch.randint(0, size, (num, 1), generator=random)
    tokens = torch.randint(0, size, (num,), generator=random)
    lists, plain = KeyedBlocks(size, 0.5, KEY), HashThreshold(size, 0.5, KEY)
    bounds = torch.arange(0, num + 1, 100).numpy()
    found = {
        "membership, exact-size lists": median_ms(
            lambda: lists.contains(contexts, tokens), repeats
        ),
        "membership, plain hash": median_ms(lambda: plain.contains(contexts, tokens), repeats),
        "ids to z-scores": median_ms(lambda: count_pairs(tokens, bounds, lists), repeats),
    }
    speed = {name: num / ms * 1e3 for name, ms in found.items()}
    texts = tokens[:2000].reshape(20, 100)
    detector = WatermarkDetector(
        model_config=LlamaConfig(vocab_size=size, bos_token_id=0),
        device="cpu",
        watermarking_config=WatermarkingConfig(greenlist_ratio=0.5),
        ignore_repeated_ngrams=True,
    )
    # its lists are cached by context for as long as the object lives: new texts each time
    start = time.thread_time()
    detector(texts + 1 - (texts == size - 1).long())
    speed["transformers WatermarkDetector"] = texts.numel() / (time.thread_time() - start)
    tokenizer = load_tokenizer(spec)
    text = (ROOT / "assets/watermark/human.txt").read_text(encoding="utf-8")
    passages = [text[i : i + 450] for i in range(0, 3000, 150)]
    num_read = sum(map(len, tokenizer(passages)["input_ids"]))
    speed["tokenisation (apart)"] = num_read / median_ms(lambda: tokenizer(passages), 20) * 1e3
    flat, edges = flatten(tokenizer(passages)["input_ids"])
    if count_pairs(flat, edges, lists).num_scored.min() < 50:
        raise RuntimeError("the passages are too short to be a fair input")
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--path", help="a folder with the backbone in the hub's format")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/watermark.md"))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = yaml.safe_load((ROOT / f"configs/backbone/{args.backbone}.yaml").read_text())
    if args.path:
        spec = {k: v for k, v in spec.items() if k not in ("package", "gguf_file")}
        spec["path"] = args.path
    repeats = 6 if args.quick else args.repeats
    speed = detection(spec, max(3, repeats // 6))
    step = generation(spec, args.batch_size, repeats)
    plain = step.pop("plain step")
    ours, new = step["soft, rows in the cache"], step["soft, every row new"]
    lines = [
        f"Generation, {spec['name']}, batch {args.batch_size}: a plain step: {plain:.0f} ms of "
        "one core.",
        "",
        "| processor | ms a step | overhead | over ours, warm | over ours, cold |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {ms:.2f} | {ms / plain:.2%} | {ms / ours:.1f} | {ms / new:.1f} |"
            for name, ms in step.items()
        ),
        "",
        "Detection, on one core.",
        "",
        "| what | tokens a second | over transformers |",
        "|---|---:|---:|",
        *(
            f"| {name} | {value:.3g} | {value / speed['transformers WatermarkDetector']:.3g} |"
            for name, value in speed.items()
        ),
    ]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
