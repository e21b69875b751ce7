"""What every way of adapting T5 has in common: the loss, the answers, the optimiser, checkpoints.

A method is a subclass that says what is trained, in :meth:`Seq2Seq.attach`. Batches come from a
datamodule under these keys (see ``src/datamodules/problems.py``): ``input_ids``,
``attention_mask`` and ``labels`` (long, batch x length, padded labels -100), ``index`` (long,
batch) and the lists ``question``, ``gold``, ``numbers``, ``tolerance``.
"""

from __future__ import annotations

import importlib
import json
import pickle
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers.models.t5.modeling_t5 import T5Block

from src.algorithms.answers import answers_match, most_plausible, parse_output
from src.algorithms.peft import load_method, method_record, read_record, save_method
from src.backbones import load_t5, load_tokenizer
from src.modules.metrics import AnswerAccuracy

Row = dict[str, Any]


class Seq2Seq(LightningModule):
    """A T5 that writes a target (equation, rationale or answer) for a word problem.

    Args:
        backbone: The spec of the T5, as ``src.backbones`` reads it.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay, on matrices only.
        warmup_fraction: Share of all steps over which the learning rate rises, in [0, 1).
        label_smoothing: Mass spread over the vocabulary, in [0, 1).
        word_dropout: Share of a problem's tokens that training hides, drawn anew at every step, in
            [0, 1), so that wordings are not learned by heart; tokens of numbers stay.
        target: What the model writes: ``equation``, ``rationale`` or ``answer``.
        max_new_tokens: Longest answer generated, in tokens.
        num_beams: Beams of the search, of which the most plausible counts (see
            :func:`src.algorithms.answers.most_plausible`); 1 is greedy.

    Raises:
        ValueError: If a number is out of its range.
    """

    method: str = ""
    model: Any

    def __init__(
        self,
        backbone: Mapping[str, Any],
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_fraction: float = 0.05,
        label_smoothing: float = 0.0,
        word_dropout: float = 0.0,
        target: str = "equation",
        max_new_tokens: int = 32,
        num_beams: int = 1,
    ) -> None:
        super().__init__()
        for name, value, valid in (
            ("learning_rate", learning_rate, learning_rate > 0),
            ("warmup_fraction", warmup_fraction, 0 <= warmup_fraction < 1),
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1),
            ("word_dropout", word_dropout, 0 <= word_dropout < 1),
            ("max_new_tokens", max_new_tokens, max_new_tokens >= 1),
            ("num_beams", num_beams, num_beams >= 1),
        ):
            if not valid:
                raise ValueError(f"model.{name} is {value}, which is out of its range.")
        self.save_hyperparameters()
        self.strict_loading = False
        self.model = None
        self.tokenizer: Any = None
        self.backbone_fingerprint = ""
        self._expected_fingerprint: str | None = None
        self._number_tokens: Tensor | None = None
        self.val_accuracy = AnswerAccuracy()
        self.test_accuracy = AnswerAccuracy()

    # ------------------------------------------------------------------ model

    def configure_model(self) -> None:
        if self.model is not None:
            return
        spec = self.hparams["backbone"]
        self.tokenizer = load_tokenizer(spec)
        self.model = load_t5(spec)
        size = self.model.config.vocab_size
        if len(self.tokenizer) > size:
            raise ValueError(
                f"the tokenizer of backbone {spec['name']!r} has {len(self.tokenizer)} tokens but "
                f"the model only {size}; give backbone.tokenizer the one it was trained with."
            )
        self.attach()
        self.backbone_fingerprint = method_record(self.model).fingerprint
        if self._expected_fingerprint not in (None, self.backbone_fingerprint):
            raise ValueError(
                f"the checkpoint was trained on another backbone than {spec['name']!r} (the "
                "weights differ, not only the name); choose the backbone it was trained on."
            )
        self.model.train(self.training)
        if self.device_mesh is not None:
            self._shard()

    def _shard(self) -> None:
        """Share the weights out over the processes of ``trainer=fsdp``."""
        mesh = self.device_mesh["data_parallel"]  # pyright: ignore[reportOptionalSubscript]
        for block in [m for m in self.model.modules() if isinstance(m, T5Block)]:
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def _gather(self, is_needed: bool) -> None:
        """Hold the whole weights while answers are generated, or let go of them again.

        Ranks generate to different lengths and have unequally many batches: they could not share
        weights meanwhile without waiting for each other in vain.
        """
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.set_reshard_after_forward(not is_needed, recurse=False)
                module.unshard() if is_needed else module.reshard()

    def on_validation_start(self) -> None:
        self._gather(True)

    def on_validation_end(self) -> None:
        self._gather(False)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    @property
    def is_sharded(self) -> bool:
        """Whether this process holds a part of the weights only (``trainer=fsdp``)."""
        return self.model is not None and any(
            isinstance(module, FSDPModule) for module in self.model.modules()
        )

    def unsharded(self, ckpt_path: str | Path) -> Seq2Seq:
        """Return the module with whole weights, of a checkpoint of it, for one process to export.

        Args:
            ckpt_path: A checkpoint file of this run.
        """
        whole = restore(ckpt_path)
        whole.trainer = self.trainer
        return whole

    def attach(self) -> None:
        """Make ``self.model`` trainable in the way of the method; called once."""
        raise NotImplementedError

    def export(self, folder: str | Path) -> None:
        """Save what was trained, without the backbone; see ``src.algorithms.peft.storage``.

        Args:
            folder: Made if missing. ``eval.py ckpt_path=FOLDER`` reads it.
        """
        data = getattr(self.trainer, "datamodule", None) if self._trainer else None
        save_method(
            self.model,
            folder,
            backbone=self.hparams["backbone"]["name"],
            extra={
                "class": self._class_path(),
                "hyper_parameters": dict(self.hparams),
                "datamodule_hyper_parameters": dict(getattr(data, "hparams", {})),
            },
        )

    def _class_path(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def parameter_counts(self) -> tuple[int, int]:
        """Return the numbers of trainable and of all parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)

    # ------------------------------------------------------------------ steps

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the logits of a batch, shape (batch, target length, vocabulary)."""
        # Not `labels=`: the model would compute a loss of its own beside ours.
        return self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=self.model.prepare_decoder_input_ids_from_labels(batch["labels"]),
            use_cache=False,
        ).logits

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean cross-entropy of the target tokens, a scalar in nats."""
        logits = self(batch)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            batch["labels"].flatten(),
            label_smoothing=self.hparams["label_smoothing"] if self.training else 0.0,
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self.loss({**batch, "attention_mask": self._hide_words(batch)})
        self.log("train/loss", loss, prog_bar=True)
        return loss * self._token_share(batch)

    def _hide_words(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the attention mask without the words that this step hides.

        What is hidden follows from the problem and the epoch, not from its place in a batch, so
        that several processes hide what one would.
        """
        share, mask = self.hparams["word_dropout"], batch["attention_mask"]
        if not share:
            return mask
        if self._number_tokens is None:
            words = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
            numbers = [i for i, word in enumerate(words) if re.search(r"\d|number", word)]
            self._number_tokens = torch.tensor(numbers, device=mask.device)
        epoch = self.current_epoch
        draws = [
            torch.rand(mask.shape[1], generator=torch.Generator().manual_seed(index << 20 | epoch))
            for index in map(int, batch["index"])
        ]
        is_hidden = (torch.stack(draws) < share).to(mask.device)
        return mask.masked_fill(is_hidden & ~torch.isin(batch["input_ids"], self._number_tokens), 0)

    def _token_share(self, batch: Mapping[str, Any]) -> Tensor | float:
        """Return this rank's target tokens over the ranks' mean number of them.

        Several processes then take the step that one takes with all their batches: averaging the
        ranks' means alone would count a token more on the rank that has fewer.
        """
        trainer = self._trainer
        if trainer is None or trainer.world_size == 1:
            return 1.0
        num = (batch["labels"] != -100).sum().float()
        return num / trainer.strategy.reduce(num.clone(), reduce_op="mean")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, "val", self.val_accuracy)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> list[Row]:
        return self._score(batch, "test", self.test_accuracy)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Row]:
        return self.answer(batch)

    def _score(self, batch: dict[str, Any], split: str, accuracy: AnswerAccuracy) -> list[Row]:
        size = len(batch["index"])
        self.log(f"{split}/loss", self.loss(batch), batch_size=size, sync_dist=True, prog_bar=True)
        rows = self.answer(batch)
        accuracy.update(
            [None if row["parsed"] is None else Fraction(row["parsed"]) for row in rows],
            batch["gold"],
            batch["tolerance"],
        )
        return rows

    def on_validation_epoch_end(self) -> None:
        self._log_accuracy("val", self.val_accuracy)

    def on_test_epoch_end(self) -> None:
        self._log_accuracy("test", self.test_accuracy)

    def _log_accuracy(self, split: str, metric: AnswerAccuracy) -> None:
        for name, value in metric.compute().items():
            # The metric has added up the ranks already: the mean of equals only quiets Lightning.
            self.log(f"{split}/{name}", value, prog_bar=name == "accuracy", sync_dist=True)
        metric.reset()

    def answer(self, batch: Mapping[str, Any]) -> list[Row]:
        """Generate, parse and mark the answers of a batch.

        Args:
            batch: A batch as the module docstring describes it.

        Returns:
            A row for each problem: ``index``, ``question``, ``gold``, ``output`` (the text of
            the most plausible beam), ``parsed`` (the number in it, as a fraction; None if there is
            none), ``correct``.
        """
        width = self.hparams["num_beams"]
        # Beams rank by their probability: its mean over the tokens favours long equations.
        by_probability = {"length_penalty": 0.0} if width > 1 else {}
        token_ids = self.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.hparams["max_new_tokens"],
            num_beams=width,
            num_return_sequences=width,
            do_sample=False,
            **by_probability,
        )
        outputs = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        rows = []
        for position, numbers in enumerate(batch["numbers"]):
            beams = outputs[position * width : (position + 1) * width]
            values = [parse_output(beam, self.hparams["target"], numbers) for beam in beams]
            best = most_plausible(values, numbers)
            parsed, gold = values[best], Fraction(batch["gold"][position])
            rows.append(
                {
                    "index": int(batch["index"][position]),
                    "question": batch["question"][position],
                    "gold": str(gold),
                    "output": beams[best],
                    "parsed": None if parsed is None else str(parsed),
                    "correct": answers_match(parsed, gold, Fraction(batch["tolerance"][position])),
                }
            )
        return rows

    # -------------------------------------------------------------- optimiser

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [p for p in self.parameters() if p.requires_grad]
        if not trained:
            raise ValueError(f"model={self.method} has nothing to train; use eval.py for it.")
        groups = [
            {
                "params": [p for p in trained if p.ndim >= 2],
                "weight_decay": self.hparams["weight_decay"],
            },
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.hparams["learning_rate"],
            # One pass over the weights instead of about ten; Lightning does not clip the gradients
            # of a fused optimiser under mixed precision.
            fused=not str(self.trainer.precision).endswith("mixed"),
        )
        num_steps = int(self.trainer.estimated_stepping_batches)
        num_warmup = max(1, int(self.hparams["warmup_fraction"] * num_steps))

        def scale(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / num_warmup
            return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    # ------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name in trained
        }
        checkpoint["method"] = {
            "name": self.method,
            "class": self._class_path(),
            "backbone": self.hparams["backbone"]["name"],
            "fingerprint": self.backbone_fingerprint,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("method", {})
        if saved.get("name") != self.method:
            raise ValueError(
                f"the checkpoint holds {saved.get('name', 'no known method')!r}, not "
                f"{self.method!r}; leave model= out (it is read from the checkpoint) or choose "
                f"model={saved.get('name', '...')}."
            )
        if self.model is None:
            self._expected_fingerprint = saved["fingerprint"]
        elif saved["fingerprint"] != self.backbone_fingerprint:
            raise ValueError(
                f"the checkpoint was trained on backbone {saved['backbone']!r}, whose weights "
                f"differ from those of {self.hparams['backbone']['name']!r}; choose "
                f"backbone={saved['backbone']}."
            )
        changed = _changed("model", checkpoint.get("hyper_parameters", {}), self.hparams)
        if self.model is not None and "state_dict" in checkpoint:  # trainer=fsdp has loaded it
            trained = {n: p.shape for n, p in self.named_parameters() if p.requires_grad}
            saved_shapes = {n: value.shape for n, value in checkpoint["state_dict"].items()}
            if trained != saved_shapes:
                raise ValueError(
                    "the checkpoint was made with other settings of the method "
                    f"({'; '.join(changed) or 'its tensors differ'}); give those of then."
                )
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            data = getattr(getattr(self.trainer, "datamodule", None), "hparams", {})
            changed += _changed("data", checkpoint.get("datamodule_hyper_parameters", {}), data)
            if changed:
                raise ValueError(
                    f"training would not go on as it began ({'; '.join(changed)}); give the "
                    "settings of then."
                )


#: Settings that do not decide what is trained. Of the backbone the fingerprint tells the weights.
_FREE = frozenset({"num_workers", "test", "num_test", "max_new_tokens"})


def _changed(group: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the settings of ``model`` or ``data`` that are not those of a checkpoint."""
    pairs = {
        f"{group}.{key}": (now[key], then[key])
        for key in now
        if key in then and key not in _FREE and key != "backbone"
    }
    if "backbone" in now and "backbone" in then:
        key = "dropout_rate"
        pairs[f"backbone.{key}"] = (now["backbone"].get(key), then["backbone"].get(key))
    return [
        f"{name} is {value} here and was {before}"
        for name, (value, before) in pairs.items()
        if _plain(value) != _plain(before)
    ]


def _plain(value: Any) -> str:
    """Write a setting so that equal ones agree: of a file's path, which may move, the name."""
    if isinstance(value, (bool, int, float)):
        value = float(value)
    return json.dumps(Path(value).name if isinstance(value, str) else value, default=str)


def restore(ckpt_path: str | Path, **overrides: Any) -> Seq2Seq:
    """Rebuild the module that a checkpoint was saved from, its trained weights loaded.

    Args:
        ckpt_path: A checkpoint file, or a folder that :meth:`Seq2Seq.export` wrote.
        **overrides: Hyperparameters to change, such as ``backbone`` or ``num_beams``.

    Returns:
        The module, on the CPU, in evaluation mode.

    Raises:
        ValueError: If it holds no method of this project, or the backbone is another.
    """
    record = describe_checkpoint(ckpt_path)
    module_name, _, class_name = str(record.get("class", "")).rpartition(".")
    if not module_name.startswith("src.modules."):
        raise ValueError(f"{ckpt_path} does not name a method of this project.")
    method = getattr(importlib.import_module(module_name), class_name)
    module = method(**{**record["hyper_parameters"], **overrides})
    if Path(ckpt_path).is_dir():
        fixed = {k: v for k, v in module.hparams.items() if k not in ("backbone", "num_beams")}
        if changed := _changed("model", record["hyper_parameters"], fixed):
            raise ValueError(
                f"{ckpt_path} holds the method as it was trained ({'; '.join(changed)}); leave "
                "that out, or give the run's checkpoint."
            )
        spec = module.hparams["backbone"]
        module.tokenizer = load_tokenizer(spec)
        module.model = load_method(load_t5(spec), ckpt_path, backbone=spec["name"])
        module.backbone_fingerprint = method_record(module.model).fingerprint
        return module.eval()
    checkpoint = torch.load(ckpt_path, map_location="cpu", weights_only=True, mmap=True)
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    return module.eval()


def describe_checkpoint(ckpt_path: str | Path) -> dict[str, Any]:
    """Read what a checkpoint is of, without building anything.

    Args:
        ckpt_path: A checkpoint file, or a folder that :meth:`Seq2Seq.export` wrote.

    Returns:
        ``method`` (its name), ``class``, ``hyper_parameters`` and ``datamodule_hyper_parameters``.

    Raises:
        ValueError: If it was not made by this project's train.py.
    """
    path = Path(ckpt_path)
    if path.is_dir():
        record = read_record(path)
        return {"method": record.spec.method, **(record.extra or {})}
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError):  # some other file, or one cut short
        checkpoint = {}
    if "method" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of an adapted T5 made by train.py.")
    return {
        "method": checkpoint["method"]["name"],
        "class": checkpoint["method"]["class"],
        "hyper_parameters": checkpoint["hyper_parameters"],
        "datamodule_hyper_parameters": checkpoint.get("datamodule_hyper_parameters", {}),
    }
