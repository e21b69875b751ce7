"""Scaling of DDP from one process to two, and what the ranks send, beside plain torchrun.

``python -m benchmarks.ddp --output FILE [--quick] [--devices 2] [--accelerator cpu]``

Each row trains one method on a random T5 of T5-small's shape for some steps, every process with a
batch of its own (weak scaling: twice the processes, twice the samples). *Trident* is the method's
LightningModule under the Trainer with what a run has (clipping, schedule, the callback that watches
for signals); *torchrun* is the same module, optimiser and clipping in a bare
``DistributedDataParallel`` loop. All runs are processes of their own with one thread each, in
turns: each round starts every contender once. Step times are medians over all rounds, efficiency is
the samples per second of two processes over twice those of one. Bytes are counted in DDP's
communication hook, which sees every bucket that is reduced.

Two processes on a machine whose cores others use too are slowed by them: read the ratio of the two
columns, which shared that load, before the efficiency.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

T5_SMALL = {
    "vocab_size": 8192,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_decoder_layers": 6,
    "num_heads": 8,
    "dropout_rate": 0.0,
}
METHODS = ("lora", "full")
BATCH, SOURCE, TARGET = 4, 48, 16


class Count:
    """Bytes reduced so far."""

    def __init__(self) -> None:
        self.num_bytes = 0


def count_bytes(count, bucket):  # DDP checks annotations by identity: better none
    """Reduce a bucket of gradients as DDP does, and count its bytes."""
    count.num_bytes += bucket.buffer().nbytes
    return allreduce_hook(None, bucket)


def make_module(method: str) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    from src.algorithms import peft as methods
    from src.modules.base import Seq2Seq

    class Random(Seq2Seq):
        """The method on random weights: no tokenizer is needed to time a step."""

        def configure_model(self) -> None:
            if self.model is None:
                torch.manual_seed(0)
                config = T5Config(**T5_SMALL, decoder_start_token_id=0)
                self.model = T5ForConditionalGeneration(config)
                self.attach()
                self.model.train()

        def attach(self) -> None:
            spec = {"lora": methods.LoRASpec(), "full": None}[method]
            if spec is not None:
                self.model.requires_grad_(False)
                self.model = methods.attach(self.model, spec)

    return Random({"name": "random", "family": "t5"})


class Batches(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    """Random batches, other ones on each rank."""

    def __init__(self, num: int, rank: int) -> None:
        self.num, self.rank = num, rank

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.rank)
        for _ in range(self.num):
            ids = torch.randint(2, 8000, (BATCH, SOURCE), generator=generator)
            labels = torch.randint(2, 8000, (BATCH, TARGET), generator=generator)
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def run_lightning(method: str, num_steps: int, devices: int, accelerator: str) -> dict[str, Any]:
    from lightning.pytorch import Callback, LightningDataModule, Trainer
    from lightning.pytorch.strategies import DDPStrategy

    from src.callbacks.checkpoint import LastCheckpoint, SeededSteps

    count, marks = Count(), []

    class Clock(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 0 and devices > 1:
                trainer.strategy.model.register_comm_hook(count, count_bytes)  # pyright: ignore
            marks.append(time.perf_counter())

    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            loader = Batches(num_steps, self.trainer.global_rank)  # pyright: ignore
            return torch.utils.data.DataLoader(loader, batch_size=None)

    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=DDPStrategy() if devices > 1 else "auto",
        max_epochs=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[LastCheckpoint(tempfile.mkdtemp(), 10**9), SeededSteps(0), Clock()],
    )
    module = make_module(method)
    trainer.fit(module, datamodule=Data())
    return summary(marks, count, trainer.global_rank)


def run_torchrun(method: str, num_steps: int, devices: int, accelerator: str) -> dict[str, Any]:
    import torch.distributed as dist

    rank, count, marks = int(os.environ["RANK"]), Count(), []
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if accelerator == "gpu" else "cpu")
    dist.init_process_group("nccl" if accelerator == "gpu" else "gloo")
    module = make_module(method)
    module.configure_model()
    model = module.model.to(device)
    if devices > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
        model.register_comm_hook(count, count_bytes)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    for batch in Batches(num_steps, rank):
        marks.append(time.perf_counter())
        loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        loss.item()
    dist.destroy_process_group()
    return summary(marks, count, rank)


def summary(marks: list[float], count: Count, rank: int) -> dict[str, Any]:
    steps = [end - start for start, end in pairwise(marks)][2:]
    return {"rank": rank, "steps": steps, "bytes": count.num_bytes / len(marks)}


def measure(
    contender: str, method: str, devices: int, num_steps: int, accelerator: str
) -> dict[str, Any]:
    """Start a contender in processes of its own and return what rank 0 saw."""
    work = [contender, method, str(num_steps), str(devices), accelerator]
    command = [sys.executable, "-m", "benchmarks.ddp", "--worker", *work]
    if contender == "torchrun":
        launcher = [f"--nproc-per-node={devices}", "--master-port=29517", "-m", "benchmarks.ddp"]
        command = [sys.executable, "-m", "torch.distributed.run", *launcher, "--worker", *work]
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, env={**os.environ, **threads}, capture_output=True, text=True, check=False
    )
    results = [line for line in done.stdout.splitlines() if line.startswith('{"rank": 0')]
    if done.returncode or not results:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(results[0])


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/ddp.md"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    arguments = parser.parse_args()
    num_steps, num_rounds = (8, 1) if arguments.quick else (22, 3)
    contenders = ("Trident", "torchrun")
    cases = [(c, m, n) for m in METHODS for n in (1, arguments.devices) for c in contenders]
    steps: dict[tuple[str, str, int], list[float]] = {case: [] for case in cases}
    sent: dict[tuple[str, str, int], float] = {}
    for turn in range(num_rounds):
        for case in cases[turn:] + cases[:turn]:
            result = measure(*case, num_steps, arguments.accelerator)
            steps[case] += result["steps"]
            sent[case] = result["bytes"]
            print(*case, f"{statistics.median(result['steps']) * 1e3:.0f} ms", flush=True)
    many = arguments.devices
    lines = [
        f"Random T5 of T5-small's shape, {BATCH} x ({SOURCE} + {TARGET}) tokens a process, "
        f"{arguments.accelerator}, one thread a process, {num_rounds} rounds of {num_steps} steps.",
        "",
        "| method | processes | Trident step | torchrun step | ratio | Trident samples/s | "
        "efficiency | bytes sent a step, each rank |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method in METHODS:
        rates = {}
        for num in (1, many):
            ours, bare = (statistics.median(steps[c, method, num]) for c in ("Trident", "torchrun"))
            rates[num] = num * BATCH / ours
            efficiency = f"{rates[num] / (num * rates[1]):.0%}"
            num_bytes = f"{sent['Trident', method, num]:,.0f}" if num > 1 else "0"
            lines.append(
                f"| {method} | {num} | {ours * 1e3:.0f} ms | {bare * 1e3:.0f} ms | "
                f"{ours / bare:.2f} | {rates[num]:.1f} | {efficiency} | {num_bytes} |"
            )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        contender, method, num_steps, devices, accelerator = sys.argv[2:]
        work = run_lightning if contender == "Trident" else run_torchrun
        print(json.dumps(work(method, int(num_steps), int(devices), accelerator)), flush=True)
    else:
        main()
