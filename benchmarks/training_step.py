"""Training step time and peak memory of every method, beside Hugging Face's trainer and peft.

``python -m benchmarks.training_step --output FILE [--quick]``

Contenders take the same batches, on a random model of T5-small's shape, in one process, in turns:
each round gives every one of them a few steps, and the order moves on by one from round to round,
so that a noisy machine is noisy for all. A step is the time from the end of one optimiser step to
the end of the next, the loop around it included. Quoted are medians, and ratios of medians;
``--clock cpu`` counts the processor's seconds instead of the wall clock's, for a machine that
others use too. Peak memory is that of a process of its own, less what it held before the model was
built.

Then: what sampling the unified view costs, and what bucketing gains in tokens per second.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import re
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from peft import LoraConfig, PrefixTuningConfig, TaskType, get_peft_model
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
)

from src.callbacks.unified_monitor import UnifiedMonitor
from src.datamodules.batching import BucketBatchSampler
from src.datamodules.procedural import ProceduralProblems
from src.modules.adapter import Adapter
from src.modules.base import Seq2Seq
from src.modules.full import FullFineTuning
from src.modules.lora import LoRA
from src.modules.prefix_tuning import PrefixTuning

Batch = dict[str, Tensor]
OURS: dict[str, Callable[..., Seq2Seq]] = {
    "lora": LoRA,
    "adapter": Adapter,
    "prefix_tuning": PrefixTuning,
    "full": FullFineTuning,
}
#: What peft's prefix-tuning can do: decoder self-attention only.
LIKE_PEFT = "prefix_tuning (decoder self)"
CONTENDERS = ("lora", "adapter", "prefix_tuning", LIKE_PEFT, "full")
#: peft has no Houlsby adapter, and no prefix in the encoder or in cross-attention.
PEERS = ("lora", LIKE_PEFT, "full")
NUM_VIRTUAL_TOKENS = 20


@dataclass(frozen=True)
class Scale:
    """How large and how long the measurement is."""

    d_model: int = 512
    num_layers: int = 6
    vocab_size: int = 32128
    batch_size: int = 8
    source_length: int = 64
    target_length: int = 16
    rounds: int = 5
    steps: int = 3  # timed steps in a round; one more comes first and is not timed
    num_problems: int = 240


QUICK = Scale(d_model=128, num_layers=2, vocab_size=2048, rounds=2, steps=2, num_problems=160)


def backbone(scale: Scale) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    heads = scale.d_model // 64
    config = T5Config(
        vocab_size=scale.vocab_size,
        d_model=scale.d_model,
        d_kv=64,
        d_ff=4 * scale.d_model,
        num_layers=scale.num_layers,
        num_heads=heads,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def module(method: str, scale: Scale, **options: Any) -> Seq2Seq:
    """Build a method of this project on the random backbone."""
    if method == LIKE_PEFT:
        method, options = "prefix_tuning", {"sites": ["decoder_self"], **options}
    built = OURS[method](backbone={"name": "random", "family": "t5"}, **options)
    built.model = backbone(scale)
    built.attach()
    return built


def peer(method: str, scale: Scale) -> torch.nn.Module:
    """Build the same method as a user of transformers and peft would."""
    model = backbone(scale)
    task = TaskType.SEQ_2_SEQ_LM
    if method == "lora":
        config = LoraConfig(task_type=task, r=8, lora_alpha=16, target_modules=["q", "v"])
        return get_peft_model(model, config)
    if method == LIKE_PEFT:
        config = PrefixTuningConfig(
            task_type=task,
            num_virtual_tokens=NUM_VIRTUAL_TOKENS,
            prefix_projection=True,
            encoder_hidden_size=512,
        )
        return get_peft_model(model, config)
    return model


def random_batches(scale: Scale, count: int, lengths: list[list[int]] | None = None) -> list[Batch]:
    """Make batches of random tokens, padded on the right.

    Args:
        scale: Sizes.
        count: Number of batches.
        lengths: Source lengths of each batch; by default between half and all of `source_length`.
    """
    generator = torch.Generator().manual_seed(1)
    batches = []
    for i in range(count):
        if lengths is None:
            half = scale.source_length // 2
            sizes = torch.randint(
                half, scale.source_length + 1, (scale.batch_size,), generator=generator
            )
            sizes[0] = scale.source_length
        else:
            sizes = torch.tensor(lengths[i])
        shape = (len(sizes), int(sizes.max()))
        ids = torch.randint(2, scale.vocab_size, shape, generator=generator)
        mask = (torch.arange(shape[1]) < sizes[:, None]).long()
        labels = torch.randint(
            2, scale.vocab_size, (len(sizes), scale.target_length), generator=generator
        )
        batches.append({"input_ids": ids * mask, "attention_mask": mask, "labels": labels})
    return batches


#: What a second is: the wall clock's, or with ``--clock cpu`` the processor's.
now: Callable[[], float] = time.perf_counter


class LightningClock(Callback):
    """Note when each optimiser step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(now())


class TransformersClock(TrainerCallback):
    """Note when each optimiser step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(now())


class BatchTrainer(Seq2SeqTrainer):
    """Hugging Face's trainer on batches that are made already."""

    batches: list[Batch]

    def get_train_dataloader(self) -> DataLoader:
        return self.accelerator.prepare(DataLoader(self.batches, batch_size=None))


def run_ours(model: Seq2Seq, batches: list[Batch], callbacks: list[Callback], **options: Any):
    """Train for one pass over the batches and return the moments at which steps ended."""
    clock = LightningClock()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(batches),
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        # The clock comes last: what the other callbacks do at a step's end is the step's.
        callbacks=[*callbacks, clock],
        **{"logger": False, **options},
    )
    trainer.fit(model, DataLoader(batches, batch_size=None))  # pyright: ignore
    return clock.times


def run_peer(model: torch.nn.Module, batches: list[Batch], folder: str) -> list[float]:
    """Train for one pass over the batches and return the moments at which steps ended."""
    clock = TransformersClock()
    arguments = Seq2SeqTrainingArguments(
        output_dir=folder,
        max_steps=len(batches),
        learning_rate=1e-3,
        max_grad_norm=1.0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = BatchTrainer(model=model, args=arguments, train_dataset=batches, callbacks=[clock])
    trainer.batches = batches
    with contextlib.redirect_stdout(None):
        trainer.train()
    return clock.times


def intervals(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def step_times(scale: Scale, folder: str) -> dict[str, list[float]]:
    """Time every contender's steps, in turns."""
    models: dict[str, Any] = {name: module(name, scale) for name in CONTENDERS}
    models |= {f"{name} (peer)": peer(name, scale) for name in PEERS}
    times: dict[str, list[float]] = {name: [] for name in models}
    batches = random_batches(scale, scale.steps + 1)
    names = list(models)
    for turn in range(scale.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name.endswith("(peer)"):
                ends = run_peer(models[name], batches, folder)
            else:
                ends = run_ours(models[name], batches, [])
            times[name] += intervals(ends)
    return times


def peak_memory(name: str, scale: Scale, folder: str) -> float:
    """Return the peak resident memory of three steps in a process of its own, in MiB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        batches = random_batches(scale, 3)
        if name.endswith("(peer)"):
            run_peer(peer(name.removesuffix(" (peer)"), scale), batches, folder)
        else:
            run_ours(module(name, scale), batches, [])
        sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    # A fork starts from this process' small resident set, with everything imported.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{name} did not finish")
    return receiver.recv()


def monitor_cost(scale: Scale, folder: str) -> dict[str, tuple[float, float]]:
    """Return the median times of a plain and of a watched step, which take turns."""
    found = {}
    for name in ("lora", "adapter", "prefix_tuning"):
        model, plain, watched = module(name, scale), [], []
        batches = random_batches(scale, 4 * scale.steps + 2)
        ends = run_ours(
            model,
            batches,
            [UnifiedMonitor(every_n_steps=2)],
            logger=TensorBoardLogger(folder, name=name),
        )
        for step, seconds in enumerate(intervals(ends), start=1):
            (plain if step % 2 else watched).append(seconds)
        found[name] = statistics.median(plain), statistics.median(watched)
    return found


def bucketing(scale: Scale) -> dict[str, tuple[float, float]]:
    """Return real tokens per second and the share of padding."""
    problems = ProceduralProblems(seed=0, split="train").take(scale.num_problems)
    # Words, single digits and punctuation: about what the tokenizer makes of a problem.
    lengths = [len(re.findall(r"\d|[^\W\d]+|[^\w\s]", p.question)) + 1 for p in problems]
    model = module("lora", scale).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    groups = {}
    for name, bucket in (("bucketed", True), ("shuffled", False)):
        sampler = BucketBatchSampler(lengths, scale.batch_size, bucket=bucket)
        sizes = [[lengths[i] for i in batch] for batch in sampler]
        groups[name] = random_batches(scale, len(sizes), sizes)
    seconds = dict.fromkeys(groups, 0.0)
    for pair in zip(*groups.values(), strict=True):
        for name, batch in zip(groups, pair, strict=True):
            start = now()
            model.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds[name] += now() - start
    found = {}
    for name, batches in groups.items():
        real = sum(int(batch["attention_mask"].sum()) for batch in batches)
        every = sum(batch["attention_mask"].numel() for batch in batches)
        found[name] = real / seconds[name], 1 - real / every
    return found


def table(head: str, rows: list[list[str]]) -> str:
    """Write a markdown table under the column titles in `head`."""
    titles = head.split(" | ")
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def method_section(scale: Scale, folder: str) -> str:
    """Measure step time and memory of every contender."""
    names = [*CONTENDERS, *(f"{name} (peer)" for name in PEERS)]
    memory = {name: peak_memory(name, scale, folder) for name in names}
    median = {name: statistics.median(t) for name, t in step_times(scale, folder).items()}
    clock = "processor" if now is time.process_time else "wall clock"
    rows = []
    for name in CONTENDERS:
        other = f"{name} (peer)"
        row = [name, f"{median[name]:.3f}", "none", "", f"{median[name] / median['lora']:.2f}"]
        row += [f"{memory[name]:.0f}", ""]
        if other in median:
            row[2:4] = [f"{median[other]:.3f}", f"{median[name] / median[other]:.2f}"]
            row[6] = f"{memory[other]:.0f}"
        rows.append(row)
    return f"""\
Random T5, d_model {scale.d_model}, {scale.num_layers} + {scale.num_layers} layers, vocabulary \
{scale.vocab_size}; batches of {scale.batch_size} x {scale.source_length} source and \
{scale.target_length} target tokens; float32, CPU, {torch.get_num_threads()} thread(s), seconds of \
the {clock}, {scale.rounds * scale.steps} timed steps each. Peer: Seq2SeqTrainer, with peft where \
it is not `full`.

{table("method | step (s) | peer (s) | ratio | to lora | peak (MiB) | peer (MiB)", rows)}

Prefix-tuning: {NUM_VIRTUAL_TOKENS} virtual tokens with an MLP, at all three attention sites, or \
in decoder self-attention only, which is all that peft can do.
"""


def monitor_section(scale: Scale, folder: str) -> str:
    """Measure what the unified monitor costs."""
    rows = [
        [name, f"{plain:.3f}", f"{watched:.3f}", f"{(watched - plain) / plain / 50:.2%}"]
        for name, (plain, watched) in monitor_cost(scale, folder).items()
    ]
    head = "unified monitor | plain step (s) | watched step (s) | cost at every 50th step"
    return table(head, rows) + "\n"


def bucketing_section(scale: Scale) -> str:
    """Measure what bucketing gains."""
    found = bucketing(scale)
    gain = found["bucketed"][0] / found["shuffled"][0]
    rows = [[name, f"{rate:,.0f}", f"{share:.1%}"] for name, (rate, share) in found.items()]
    head = f"batches of {scale.num_problems} procedural problems | real tokens / s | padding"
    return f"""\
{table(head, rows)}

Bucketing gains a factor of {gain:.2f} in real source tokens per second (lora).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="markdown file to write")
    parser.add_argument("--quick", action="store_true", help="a small model and few steps")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    global now
    now = time.process_time if arguments.clock == "cpu" else time.perf_counter
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    scale = QUICK if arguments.quick else Scale()
    scale = replace(scale, rounds=arguments.rounds or scale.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        for section in (
            lambda: method_section(scale, folder),
            lambda: monitor_section(scale, folder),
            lambda: bucketing_section(scale),
        ):
            # After each section, so that a run that is stopped leaves what it measured.
            text += section() + "\n"
            arguments.output.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
