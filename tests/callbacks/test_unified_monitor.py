from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyExperiment, Logger
from torch.utils.data import DataLoader
from transformers import T5Config, T5ForConditionalGeneration

from src.algorithms.peft import (
    AdapterSpec,
    FullFineTuningSpec,
    LoRASpec,
    MethodSpec,
    PrefixSpec,
    attach,
)
from src.algorithms.peft.unified import examine
from src.callbacks.unified_monitor import NUM_BINS, UnifiedMonitor


class Experiment(DummyExperiment):
    def __init__(self) -> None:
        self.histograms: dict[tuple[str, int], dict[str, Any]] = {}

    def add_histogram_raw(self, tag: str, global_step: int, **facts: Any) -> None:
        self.histograms[tag, global_step] = facts


class Recorder(Logger):
    """Keeps what a TensorBoard logger would write."""

    def __init__(self) -> None:
        super().__init__()
        self.scalars: dict[tuple[str, int], float] = {}
        self.experiment = Experiment()

    name = "recorder"
    version = 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for tag, value in metrics.items():
            self.scalars[tag, step or 0] = value


class Tiny(LightningModule):
    def __init__(self, spec: MethodSpec) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=31,
            d_model=16,
            d_kv=4,
            d_ff=24,
            num_layers=2,
            num_heads=3,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        self.model = attach(T5ForConditionalGeneration(config), spec)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return self.model(**batch).loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        labels = torch.randint(2, 31, (2, 4), generator=generator)
        labels[0, 2:] = -100
        mask = torch.ones(2, 5, dtype=torch.long)
        mask[1, 3:] = 0
        ids = torch.randint(2, 31, (2, 5), generator=generator)
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


def train(
    spec: MethodSpec, every_n_steps: int, steps: int, accumulate: int = 1, *more: Callback
) -> tuple[Recorder, Tiny]:
    recorder, module = Recorder(), Tiny(spec)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        logger=recorder,
        callbacks=[UnifiedMonitor(every_n_steps), *more],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, DataLoader(batches(steps * accumulate), batch_size=None))
    return recorder, module


SITES = {
    *(f"encoder.{i}.{s}" for i in range(2) for s in ("self_attention", "feed_forward")),
    *(
        f"decoder.{i}.{s}"
        for i in range(2)
        for s in ("self_attention", "cross_attention", "feed_forward")
    ),
}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_layer_and_site_is_logged_on_every_nth_step_only(accumulate):
    recorder, _ = train(AdapterSpec(bottleneck_dim=3), 2, 5, accumulate)
    logged = {key for key in recorder.scalars if key[0].startswith("change/")}
    assert logged == {(f"change/{site}", step) for site in SITES for step in (0, 2, 4)}
    assert set(recorder.experiment.histograms) == logged
    # A fresh adapter changes nothing; a trained one does.
    assert recorder.scalars["change/encoder.0.feed_forward", 0] == 0.0
    assert recorder.scalars["change/encoder.0.feed_forward", 4] > 0.0


def test_lora_is_logged_matrix_by_matrix():
    recorder, _ = train(LoRASpec(rank=2), 1, 1)
    tags = {tag for tag, _ in recorder.scalars if tag.startswith("change/")}
    attention = {site for site in SITES if "attention" in site}
    assert tags == {f"change/{site}.{part}" for site in attention for part in "qv"}


def test_the_gate_is_the_attention_mass_on_the_prefix():
    spec = PrefixSpec(3, reparametrize=False, init="normal")
    recorder, _ = train(spec, 1, 1)
    fresh = Tiny(spec)
    (batch,) = batches(1)
    seen = {item.name: item for item in examine(fresh.model, batch)}
    real = {"encoder": batch["attention_mask"].bool(), "decoder": batch["labels"] != -100}
    assert len(seen) == 6
    for name, item in seen.items():
        mask = real[item.site.stack]
        gate = item.lam.squeeze(-1).transpose(1, 2)[mask]
        assert recorder.scalars[f"gate/{name}", 0] == pytest.approx(gate.mean().item(), rel=1e-4)
        change, h = item.norms()
        ratio = change[mask].norm() / h[mask].norm()
        assert recorder.scalars[f"change/{name}", 0] == pytest.approx(ratio.item(), rel=1e-4)
        facts = recorder.experiment.histograms[f"gate/{name}", 0]
        assert facts["num"] == sum(facts["bucket_counts"]) == mask.sum() * 3
        assert len(facts["bucket_limits"]) == len(facts["bucket_counts"]) == NUM_BINS
        assert facts["min"] == pytest.approx(gate.min().item(), rel=1e-4)
        assert facts["bucket_limits"][-1] == pytest.approx(gate.max().item(), rel=1e-4)


class CountHooks(Callback):
    """Hooks that stand at the start of each step, after the monitor's own turn."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.counts.append(sum(len(m._forward_hooks) for m in pl_module.model.modules()))


def test_steps_that_are_not_sampled_run_unhooked():
    counter = CountHooks()
    _, module = train(AdapterSpec(bottleneck_dim=3), 3, 4, 1, counter)
    assert counter.counts[1] == counter.counts[2] == 0
    assert counter.counts[0] == counter.counts[3] > 0
    assert sum(len(m._forward_hooks) for m in module.model.modules()) == 0


def test_watching_does_not_change_the_training():
    _, watched = train(PrefixSpec(3, mlp_dim=4), 1, 3)
    _, plain = train(PrefixSpec(3, mlp_dim=4), 100, 3)
    for one, other in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_full_fine_tuning_logs_nothing():
    recorder, _ = train(FullFineTuningSpec(), 1, 2)
    assert not [tag for tag, _ in recorder.scalars if tag.startswith(("change/", "gate/"))]


def test_a_bad_interval_is_refused():
    with pytest.raises(ValueError, match="every_n_steps is 0; it must be at least 1"):
        UnifiedMonitor(every_n_steps=0)
