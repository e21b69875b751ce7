"""Pretraining a small T5 from nothing but a vocabulary.

Decides the model's start and its optimisation. The start is T5's own initialisation (Raffel et al.
2020, arXiv 1910.10683), except that token embeddings may come from a sentence encoder: each token
is described by the encoder's input embedding and by its encoding of the token as a text, and the
principal components of these descriptions, scaled to T5's variance, are the embeddings. What words
have to do with one another is then known before the first step.

Batches hold ``input_ids``, ``attention_mask`` and ``labels`` (see
``src/datamodules/pretraining.py``). The exported weights are an exponential average of those
trained, stored as bfloat16.

Left out on purpose: a second language-model head, distillation of the encoder's hidden states.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, T5Config, T5ForConditionalGeneration

from src.backbones import load_t5, local_folder

EMBEDDING_STD = 1.0  # of T5's initialisation at factor 1
SAME_WORD_SCORE, SELF_BIAS = 8.0, -6.0  # of new heads, before the softmax


class Pretraining(LightningModule):
    """A T5 trained from scratch on whatever text-to-text stream its datamodule gives.

    Args:
        config: Arguments of :class:`transformers.T5Config`. ``vocab_size`` may exceed the
            tokenizer's.
        word_embeddings: A spec of a sentence encoder (BERT family, see ``src.backbones``) whose
            word knowledge the embeddings start from; null starts them at random.
        learning_rate: Peak learning rate of AdamW for a tensor of standard deviation 1.
        warmup_fraction: Share of all steps over which it rises, in [0, 1).
        decay_fraction: Share of all steps, the last ones, over which it falls linearly, in [0, 1];
            in between it is constant, so that a run can be prolonged.
        final_fraction: Share of the peak that is left at the last step.
        weight_decay: Decoupled weight decay, on all but the embedding.
        label_smoothing: In [0, 1).
        average_decay: Decay of the exponential average of the weights per step, in [0, 1).
        start: A folder of weights in the hub's format to train on from (with the tokenizer that
            the datamodule is given); null starts anew.
        encoder_layers: Layers that the encoder of ``start`` is given before training goes on (see
            :func:`with_encoder_layers`); null keeps its own.
        num_heads: Heads that each attention of ``start`` is given (see :func:`with_heads`); null
            keeps its own.

    Raises:
        ValueError: If a number is out of its range, or ``encoder_layers`` or ``num_heads`` is given
            without ``start``.
        FileNotFoundError: If there is no folder ``start``.
    """

    method = "pretraining"

    def __init__(
        self,
        config: Mapping[str, Any],
        word_embeddings: Mapping[str, Any] | None = None,
        learning_rate: float = 1.2e-2,
        warmup_fraction: float = 0.03,
        decay_fraction: float = 0.3,
        final_fraction: float = 0.02,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        average_decay: float = 0.995,
        start: str | None = None,
        encoder_layers: int | None = None,
        num_heads: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, valid in (
            ("learning_rate", learning_rate, learning_rate > 0),
            ("warmup_fraction", warmup_fraction, 0 <= warmup_fraction < 1),
            ("decay_fraction", decay_fraction, 0 <= decay_fraction <= 1),
            ("final_fraction", final_fraction, 0 <= final_fraction <= 1),
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1),
            ("average_decay", average_decay, 0 <= average_decay < 1),
        ):
            if not valid:
                raise ValueError(f"model.{name} is {value}, which is out of its range.")
        if start is not None and not (Path(start) / "config.json").is_file():
            raise FileNotFoundError(
                f"model.start={start} holds no config.json; give the folder of a T5, such as "
                "assets/t5_mini."
            )
        for name, value, of_new in (
            ("encoder_layers", encoder_layers, "num_layers"),
            ("num_heads", num_heads, "num_heads"),
        ):
            if value is not None and start is None:
                raise ValueError(
                    f"model.{name} is for a model that trains on from model.start; a new one has "
                    f"model.config.{of_new}."
                )
        self.save_hyperparameters()
        self.model: Any = None
        self.average: Any = None
        self.tokenizer: Any = None

    def configure_model(self) -> None:
        if self.model is not None:
            return
        self.tokenizer = self.trainer.datamodule.tokenizer
        start = self.hparams["start"]
        if start is None:
            self.model = self._new_model()
        else:
            self.model = load_t5({"name": "model.start", "family": "t5", "path": start})
            if self.hparams["encoder_layers"] is not None:
                self.model = with_encoder_layers(self.model, self.hparams["encoder_layers"])
            if self.hparams["num_heads"] is not None:
                self.model = with_heads(self.model, self.hparams["num_heads"])
        if len(self.tokenizer) > self.model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(self.tokenizer)} tokens, but the model's vocab_size is "
                f"{self.model.config.vocab_size}; raise model.config.vocab_size, or give the "
                "tokenizer that model.start was trained with."
            )
        self.model.train(self.training)
        self.average = copy.deepcopy(self.model).requires_grad_(False)

    def _new_model(self) -> T5ForConditionalGeneration:
        special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
        config = T5Config(**{**special, **self.hparams["config"]})
        model = T5ForConditionalGeneration(config)
        if self.hparams["word_embeddings"]:
            tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            table = embeddings_from_encoder(self.hparams["word_embeddings"], tokens, config.d_model)
            with torch.no_grad():
                # One that is too long is refused by the caller.
                size = min(len(table), config.vocab_size)
                model.shared.weight[:size] = table[:size]
        return model

    def parameter_counts(self) -> tuple[int, int]:
        """Return the numbers of trainable and of all parameters."""
        size = sum(p.numel() for p in self.model.parameters())
        return size, size

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).logits
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            batch["labels"].flatten(),
            label_smoothing=self.hparams["label_smoothing"],
        )
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if not self.hparams["average_decay"]:  # the weights themselves
            self._update_average(1)
        elif self.global_step % 10 == 0:
            self._update_average(10)

    def on_train_end(self) -> None:
        if (unseen := self.global_step % 10) and self.hparams["average_decay"]:
            self._update_average(unseen)

    def _update_average(self, num_steps: int) -> None:
        """Let the average see the weights after this many further steps."""
        decay = self.hparams["average_decay"] ** num_steps
        # Early on the average follows the weights, else it would remember the start.
        decay = min(decay, (1 + self.global_step / 10) / (10 + self.global_step / 10))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for averaged, trained in pairs:
                averaged.lerp_(trained, 1 - decay)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = self.average(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).logits
        labels = batch["labels"]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        right = ((logits.argmax(-1) == labels) | (labels == -100)).all(1).float().mean()
        size = len(labels)
        self.log("val/loss", loss, batch_size=size, sync_dist=True, prog_bar=True)
        self.log("val/exact", right, batch_size=size, sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        # T5 leaves scores unscaled and starts its queries some sixteen times smaller than its other
        # matrices, so one rate for all is far too large for the queries (such a run did not learn).
        # Each tensor's rate is in proportion to its size at the start.
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            size = _initial_rms(name, self.model.config)
            groups.setdefault(size, []).append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": self.hparams["learning_rate"] * size,
                    "weight_decay": 0.0 if size == 1.0 else self.hparams["weight_decay"],
                }
                for size, parameters in groups.items()
            ],
            betas=(0.9, 0.98),
        )
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(total * self.hparams["warmup_fraction"]))
        decay = max(1, round(total * self.hparams["decay_fraction"]))
        last = self.hparams["final_fraction"]

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return min(1.0, max(last, (total - step) / decay))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def export(self, folder: str | Path) -> None:
        """Write the averaged weights as bfloat16, the configuration and the tokenizer.

        Args:
            folder: Where to; a folder that ``backbone.path`` can name afterwards.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = copy.deepcopy(self.average).to(torch.bfloat16)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def with_encoder_layers(
    model: T5ForConditionalGeneration, num_layers: int
) -> T5ForConditionalGeneration:
    """Give the encoder more layers without changing what the model computes.

    The last layers are each followed by a copy whose output matrices are zero, so that it adds
    nothing before it is trained (block expansion: Wu et al. 2024, arXiv 2401.02415, Sec. 3.2).

    Args:
        model: What to grow.
        num_layers: Encoder layers of the result.

    Returns:
        A new model, or ``model`` if it has as many layers already.

    Raises:
        ValueError: If ``model`` has more layers, or fewer than half as many.
    """
    old = model.config.num_layers
    if num_layers == old:
        return model
    if not old < num_layers <= 2 * old:
        raise ValueError(
            f"model.encoder_layers is {num_layers}, but model.start has {old} encoder layers; "
            f"give {old} to {2 * old}."
        )
    grown = T5ForConditionalGeneration(
        T5Config(**{**model.config.to_dict(), "num_layers": num_layers})
    )
    state = model.state_dict()
    grown.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith("encoder.block.")}, strict=False
    )
    copied = range(2 * old - num_layers, old)
    sources = [(k, False) for k in range(old)] + [(k, True) for k in copied]
    for block, (k, is_copy) in zip(_blocks(grown), sorted(sources), strict=True):
        own = block.state_dict()
        own |= {name: v for name, v in model.encoder.block[k].state_dict().items() if name in own}
        block.load_state_dict(own)
        if is_copy:
            nn.init.zeros_(block.layer[0].SelfAttention.o.weight)
            nn.init.zeros_(block.layer[1].DenseReluDense.wo.weight)
    return grown


def with_heads(model: T5ForConditionalGeneration, num_heads: int) -> T5ForConditionalGeneration:
    """Give every attention more heads without changing what the model computes.

    The outputs of the new heads are zero before they are trained. New heads of the encoder start by
    looking for the same word elsewhere: their queries are their keys, scaled so that a token's
    score with its like is about :data:`SAME_WORD_SCORE`, at any distance but zero. Which number
    belongs to what is found by matching words, and from random queries that is learned late.

    Args:
        model: What to grow.
        num_heads: Heads of each attention of the result.

    Returns:
        A new model, or ``model`` if it has as many heads already.

    Raises:
        ValueError: If ``model`` has more heads.
    """
    old, size = model.config.num_heads, model.config.d_kv
    if num_heads == old:
        return model
    if num_heads < old:
        raise ValueError(
            f"model.num_heads is {num_heads}, but model.start has {old} heads; give at least {old}."
        )
    config = T5Config(**{**model.config.to_dict(), "num_heads": num_heads})
    grown = T5ForConditionalGeneration(config)
    own = model.state_dict()
    for name, value in grown.state_dict().items():
        given = own[name]
        if value.shape == given.shape:
            value.copy_(given)
        elif name.endswith((".o.weight", "relative_attention_bias.weight")):
            value.zero_()[:, : given.shape[1]] = given
        else:  # q, k and v keep T5's own start in their new rows
            value[: given.shape[0]] = given
    new = slice(old * size, None)
    with torch.no_grad():
        for block in _blocks(grown):
            attention, norm = block.layer[0].SelfAttention, block.layer[0].layer_norm
            # Keys of a normalised state have about this squared length.
            length = size * norm.weight.square().mean()
            attention.q.weight[new] = attention.k.weight[new] * SAME_WORD_SCORE / length
        bias = _blocks(grown)[0].layer[0].SelfAttention.relative_attention_bias.weight
        bias[0, old:] = SELF_BIAS
    return grown


def _blocks(model: T5ForConditionalGeneration) -> list[Any]:
    """Return the encoder's blocks, whose attributes are known only at run time."""
    return list(model.encoder.block)


def _initial_rms(name: str, config: T5Config) -> float:
    """Return the standard deviation at which T5 starts a tensor (its norms at a third)."""
    if "layer_norm" in name:
        return 0.3
    if "shared" in name or "lm_head" in name:
        return 1.0
    if name.endswith("q.weight"):
        return (config.d_model * config.d_kv) ** -0.5
    if name.endswith("wo.weight"):
        return config.d_ff**-0.5
    return config.d_model**-0.5


def embeddings_from_encoder(
    spec: Mapping[str, Any], tokens: Sequence[str], dim: int, noise: float = 0.1
) -> Tensor:
    """Describe tokens by a sentence encoder and reduce the descriptions to ``dim`` numbers.

    Args:
        spec: Of a BERT-like encoder: ``name``, ``family`` and ``path`` or ``package``.
        tokens: Pieces of a unigram vocabulary; ``▁`` marks the beginning of a word.
        dim: Width of the embeddings, at most twice the encoder's.
        noise: Standard deviation of the noise that keeps equal descriptions apart.

    Returns:
        A table, shape (len(tokens), dim), of standard deviation 1. Tokens that are no text
        (specials, sentinels) and the names ``number0 ...`` have random parts.

    Raises:
        BackboneError: If the encoder is not installed.
    """
    folder = local_folder(spec)
    source = folder if folder is not None else spec["path"]
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoder = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    texts = [token.replace("▁", " ").strip() or "," for token in tokens]
    texts = ["number" if text[:6] == "number" and text[6:].isdigit() else text for text in texts]
    table = encoder.get_input_embeddings().weight.detach()
    rows = []
    with torch.no_grad():
        for start in range(0, len(texts), 256):
            batch = tokenizer(texts[start : start + 256], padding=True, return_tensors="pt")
            special = (batch["input_ids"] == tokenizer.cls_token_id) | (
                batch["input_ids"] == tokenizer.sep_token_id
            )
            mask = (batch["attention_mask"].bool() & ~special).unsqueeze(-1)
            words = (table[batch["input_ids"]] * mask).sum(1) / mask.sum(1).clamp(min=1)
            every = batch["attention_mask"].unsqueeze(-1)
            encoded = (encoder(**batch).last_hidden_state * every).sum(1) / every.sum(1)
            rows.append(torch.cat([_standard(words), _standard(encoded)], 1))
    described = torch.cat(rows)
    described = described - described.mean(0)
    u, s, _ = torch.linalg.svd(described, full_matrices=False)
    reduced = u[:, :dim] * s[:dim].sqrt()  # between whitened and plain: rare directions count too
    reduced = reduced / reduced.std()
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(len(tokens), dim, generator=generator)
    is_special = torch.tensor([token.startswith("<") for token in tokens])
    is_number = torch.tensor(
        [
            text == "number" and token[-1].isdigit()
            for token, text in zip(tokens, texts, strict=True)
        ]
    )
    weight = torch.full((len(tokens),), noise)
    weight[is_number], weight[is_special] = 0.8, 1.0
    weight = weight.unsqueeze(1)
    mixed = (1 - weight.square()).sqrt() * reduced + weight * random
    return EMBEDDING_STD * mixed / mixed.std()


def _standard(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)
