"""Train the proposer of one encoder: see ``src/algorithms/inversion/proposer.py``.

The encoder's embeddings of all phrases and of random parts of them are computed once and kept in
``cache_dir``; training then reads them only. The result goes where ``task=invert`` looks for it.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.algorithms.inversion.encoder import Ids
from src.algorithms.inversion.proposer import (
    draw_partial,
    missing_by_gap,
    neighbours_of,
    proposal_loss,
    training_gaps,
)
from src.modules.embedding_cache import digest_of, read_or_encode, write_tensors
from src.modules.inversion import Inversion, build_proposer

log = logging.getLogger(__name__)


class Proposer(Inversion):
    """Learn which token is missing where, from phrases and parts of them.

    Args:
        backbone: The spec of the text encoder.
        cache_dir: Where embeddings, the one-token table and the result are kept.
        parts_per_phrase: Random parts encoded of every phrase.
        hidden_dim: Width of the hidden layers.
        neighbour_dim: Width to which each neighbour's embedding is projected.
        num_negatives: Tokens sampled for the softmax.
        learning_rate: Peak learning rate of AdamW.
        num_validation: Pairs kept apart to measure how often a right insertion is near the top.
        precision: Of encoding the phrases.
        seed: Of everything random.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        cache_dir: str,
        parts_per_phrase: int = 2,
        hidden_dim: int = 896,
        neighbour_dim: int = 128,
        num_negatives: int = 4096,
        learning_rate: float = 1.5e-3,
        num_validation: int = 1000,
        precision: str = "bfloat16",
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, cache_dir, precision=precision, seed=seed)
        self.save_hyperparameters()
        self.proposer: Any = None

    def configure_model(self) -> None:
        if self.encoder is not None:
            return
        super().configure_model()
        assert self.encoder is not None
        # Built on a table of zeros here, so that the optimiser has its parameters; the table
        # comes in on_fit_start, where there is a device.
        empty = torch.zeros(self.encoder.embedding.weight.shape[0], self.encoder.dim)
        self.proposer = build_proposer(self.encoder, empty + 1e-9, self.config)

    @property
    def config(self) -> dict[str, int]:
        """What the network is built from, beside the encoder."""
        h = self.hparams
        return {"hidden_dim": h.hidden_dim, "neighbour_dim": h.neighbour_dim}

    def on_fit_start(self) -> None:
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        encoder.to(self.device)
        table = self.load_table()
        fresh = build_proposer(encoder, table, self.config).to(self.device)
        self.proposer.table, self.proposer.embeddings = fresh.table, fresh.embeddings
        self._prepare(self.trainer.datamodule.phrases)
        vocab = table.shape[0]
        counts = torch.zeros(vocab, dtype=torch.float64)
        for ids in self.tokens:
            counts[list(ids)] += 1
        allowed = torch.zeros(vocab, dtype=torch.float64)
        allowed[encoder.allowed_ids()] = 1
        tempered = counts.pow(0.75) * allowed
        self.rate = 0.5 * tempered / tempered.sum() + 0.5 * allowed / allowed.sum()
        expected = (h.num_negatives * self.rate).clamp(min=1e-12)
        self.log_rate = expected.log().float().to(self.device)
        prior = 0.5 * ((counts + 0.3) / counts.sum()).log().float()
        self.proposer.bias.data.copy_(prior)
        self.rng = random.Random(h.seed)

    def _prepare(self, phrases: Sequence[str]) -> None:
        """Tokenise, draw parts, and encode all of it; or read that from the cache."""
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        self.tokens: list[Ids] = [encoder.tokenize(p)[:20] for p in phrases]
        self.tokens = [ids for ids in self.tokens if ids]
        rng = random.Random(h.seed)
        noise = [t for ids in self.tokens[:5000] for t in ids]
        self.pairs: list[tuple[int, Ids, Ids]] = []
        for _ in range(h.parts_per_phrase):
            for i, ids in enumerate(self.tokens):
                if len(ids) >= 2:
                    part, kept = draw_partial(ids, rng, noise)
                    self.pairs.append((i, kept, part))
        rng.shuffle(self.pairs)
        made_of = digest_of(self.tokens, self.pairs, h.precision)
        name = f"phrases-{h.backbone['name']}-{self.fingerprint()}-{made_of}.safetensors"
        saved = read_or_encode(
            Path(h.cache_dir) / name,
            f"{len(self.tokens) + len(self.pairs)} phrases and parts",
            lambda: {
                "whole": encoder.encode_ids(self.tokens).half(),
                "part": encoder.encode_ids([part for _, _, part in self.pairs]).half(),
            },
            write=self.trainer.is_global_zero,
        )
        self.whole, self.part = saved["whole"], saved["part"]

    # --------------------------------------------------------------- training

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        h = self.hparams
        usable = max(1, len(self.pairs) - h.num_validation)
        chosen = (batch["draw"] % usable).tolist()
        phrase, pair, lengths, beside, place, answers = self._examples(chosen)
        device = self.device
        target = F.normalize(self.whole[phrase].float(), dim=-1).to(device)
        known = (pair >= 0)[:, None]
        partial = (self.part[pair.clamp(min=0)].float() * known).to(device)
        negatives = torch.multinomial(self.rate, h.num_negatives, replacement=True).to(device)
        queries, nothing = self.proposer.queries(
            target, partial, lengths.to(device), beside.to(device), place.to(device)
        )
        loss = proposal_loss(
            self.proposer,
            queries,
            nothing.float(),
            answers.to(device),
            negatives,
            self.log_rate,
        )
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _examples(self, chosen: Sequence[int]) -> tuple[Tensor, ...]:
        """Make (phrase, pair, length, neighbours, gap, answer); pair -1 is "nothing yet"."""
        rows: list[tuple[int, int, int, tuple[int, ...], int, int]] = []
        for k in chosen:
            i, kept, part = self.pairs[k]
            for beside, gap, answer in training_gaps(self.tokens[i], part, kept, self.rng):
                rows.append((i, k, len(part), beside, gap, answer))
            if self.rng.random() < 0.15:
                rows.append((i, -1, 0, (-1, -1, -1, -1), 0, self.rng.choice(self.tokens[i])))
        return tuple(torch.tensor(column) for column in zip(*rows, strict=True))

    def on_train_end(self) -> None:
        """Log how often the best right insertion is among the first 1, 8 and 64 of all gaps."""
        ranks = []
        features = self.proposer.token_features()
        mask = torch.full((features.shape[0],), -torch.inf, device=self.device)
        assert self.encoder is not None
        mask[self.encoder.allowed_ids()] = 0
        with torch.no_grad():
            for k in range(max(0, len(self.pairs) - self.hparams.num_validation), len(self.pairs)):
                i, kept, part = self.pairs[k]
                gaps = missing_by_gap(self.tokens[i], kept)
                n = len(gaps)
                queries, nothing = self.proposer.queries(
                    F.normalize(self.whole[i].float(), dim=-1).expand(n, -1).to(self.device),
                    self.part[k].float().expand(n, -1).to(self.device),
                    torch.full((n,), len(part), device=self.device),
                    torch.tensor([neighbours_of(part, g) for g in range(n)], device=self.device),
                    torch.arange(n, device=self.device),
                )
                logits = queries @ features.T + self.proposer.bias + mask
                logits = torch.cat([logits, nothing[:, None]], -1).log_softmax(-1)[:, :-1]
                best = max(float(logits[g, t]) for g in range(n) for t in gaps[g])
                ranks.append(int((logits > best).sum()))
        for first in (1, 8, 64):
            value = sum(r < first for r in ranks) / max(1, len(ranks))
            self.trainer.callback_metrics[f"val/top_{first}"] = torch.tensor(value)
            log.info(f"val/top_{first}: {value:.3f}")

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        parameters = [
            {
                "params": [p for n, p in self.proposer.named_parameters() if n != "bias"],
                "weight_decay": 0.01,
            },
            {"params": [self.proposer.bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(parameters, lr=self.hparams.learning_rate, betas=(0.9, 0.98))
        warm = max(1, min(300, steps // 4))

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / warm) * (
                0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)) + 0.01
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def export(self, folder: str) -> None:
        """Write ``proposer_NAME.safetensors`` (float16) to a folder and to the cache."""
        name = f"proposer_{self.hparams.backbone['name']}.safetensors"
        weights = {
            k: v.detach().half().cpu().contiguous() for k, v in self.proposer.state_dict().items()
        }
        meta = {"fingerprint": self.fingerprint(), "config": json.dumps(self.config)}
        for path in (Path(folder) / name, Path(self.hparams.cache_dir) / name):
            write_tensors(path, weights, meta)
            log.info(f"proposer: wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
