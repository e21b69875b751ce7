"""``mini_clip``: a CLIP small enough to train on a laptop and to ship.

The text tower is CLIP's in miniature (causal, open_clip's own BPE, read at end-of-text). It learns
by distillation: a phrase's embedding shall be the teacher's (Reimers & Gurevych 2020, arXiv
2004.09813). The image tower is a small ViT that learns CLIP's contrastive loss (Radford et al.
2021, arXiv 2103.00020) on rendered scenes, against the text tower's embeddings of their captions.

:meth:`MiniCLIP.export` writes a folder that open_clip itself loads (``local-dir:FOLDER``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from src.algorithms.inversion.encoder import TextEncoder
from src.backbones import load_clip
from src.modules.embedding_cache import digest_of, read_or_encode, weights_digest

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class MiniCLIP(LightningModule):
    """Train both towers together.

    Batches (``src/datamodules/scenes.py``) hold ``image``, ``caption``, ``phrase`` and
    ``phrase_index``; the datamodule's ``phrases`` are all phrases.

    Args:
        teacher: The spec of the text encoder that is distilled.
        cache_dir: Folder for the teacher's embeddings of all phrases (170 MB for 175,000).
        embed_dim: Width of the joint space; the teacher's, so that cosines carry over.
        text_width: Width of the text tower.
        text_layers: Its layers.
        vision_width: Width of the image tower.
        vision_layers: Its layers.
        learning_rate: Peak learning rate.
        image_weight: Weight of the contrastive loss.
        seed: Of the initial weights.
    """

    def __init__(
        self,
        teacher: Mapping[str, Any],
        cache_dir: str,
        embed_dim: int = 384,
        text_width: int = 128,
        text_layers: int = 4,
        vision_width: int = 128,
        vision_layers: int = 3,
        learning_rate: float = 2e-3,
        image_weight: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model: Any = None
        self._teacher_z: Tensor | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The model in open_clip's words."""
        h = self.hparams
        return {
            "embed_dim": h.embed_dim,
            "vision_cfg": {
                "image_size": 48,
                "patch_size": 8,
                "width": h.vision_width,
                "layers": h.vision_layers,
                "head_width": 32,
            },
            "text_cfg": {
                "context_length": 32,
                "vocab_size": 49408,
                "width": h.text_width,
                "heads": h.text_width // 32,
                "layers": h.text_layers,
            },
        }

    def configure_model(self) -> None:
        if self.model is not None:
            return
        h = self.hparams
        clip = load_clip(
            {
                "name": "mini_clip",
                "family": "clip",
                "random": True,
                "seed": h.seed,
                "config": self.config,
            }
        )
        self.model, self.tokenizer = clip.model.requires_grad_(True).train(), clip.tokenizer
        self.model.logit_scale.data.fill_(math.log(14.0))

    # --------------------------------------------------------------- teaching

    def on_fit_start(self) -> None:
        """Encode all phrases with the teacher once, and begin with the teacher's words."""
        h = self.hparams
        phrases: Sequence[str] = self.trainer.datamodule.phrases
        teacher = load_clip(h.teacher)
        encoder = TextEncoder(teacher.model.to(self.device), teacher.tokenizer)
        tokens = [encoder.tokenize(p)[: encoder.max_tokens] for p in phrases]
        made_of = f"{weights_digest(teacher.model)}-{digest_of(tokens)}"
        self._teacher_z = read_or_encode(
            Path(h.cache_dir) / f"teacher-{h.teacher['name']}-{made_of}.safetensors",
            f"the teacher's embeddings of {len(phrases)} phrases",
            lambda: {"z": encoder.encode_ids(tokens).half()},
            write=self.trainer.is_global_zero,
        )["z"]
        if self.global_step == 0:
            self._copy_words(encoder)

    def _copy_words(self, teacher: TextEncoder) -> None:
        """Start each BPE token from the teacher's embedding of its text, cut to the width."""
        width = self.model.token_embedding.weight.shape[1]
        source = teacher.embedding.weight.detach().float().cpu()
        source = source - source.mean(0)
        _, _, basis = torch.pca_lowrank(source, q=width, niter=2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.hparams.seed)
            rows = 0.01 * torch.randn(self.model.token_embedding.weight.shape)
        for token in range(rows.shape[0] - 2):
            ids = teacher.tokenize(self.tokenizer.decode([token]).strip())
            if ids:
                rows[token] += (source[list(ids)].mean(0) @ basis) * 0.5
        self.model.token_embedding.weight.data.copy_(rows.to(self.device))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, cut to the longest: unit embeddings (n, embed_dim)."""
        rows = self.tokenizer(list(texts)).to(self.device)
        end = self.tokenizer.eot_token_id
        rows[:, -1] = torch.where((rows == end).any(1), rows[:, -1], end)
        ends = (rows == end).int().argmax(dim=1)
        rows = rows[:, : int(ends.max()) + 1]
        m, length = self.model, rows.shape[1]
        x = m.token_embedding(rows) + m.positional_embedding[:length]
        x = m.transformer(x, attn_mask=m.attn_mask[:length, :length])
        x = m.ln_final(x[torch.arange(len(x), device=x.device), ends])
        return F.normalize((x @ m.text_projection).float(), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, H, W) in [0, 1]: unit embeddings (n, embed_dim)."""
        size = self.config["vision_cfg"]["image_size"]
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        return F.normalize(self.model.encode_image((images - MEAN[0]) / STD[0]).float(), dim=-1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        assert self._teacher_z is not None
        student = self.encode_texts(batch["phrase"])
        images = self.encode_images(batch["image"])
        texts = self.encode_texts(batch["caption"])
        teacher = F.normalize(
            self._teacher_z[batch["phrase_index"].cpu()].float().to(self.device), dim=-1
        )
        distil = 1 - (student * teacher).sum(-1).mean()
        # The pairs' cosines too: what is near what is what inversion and filters live on.
        pairs = F.mse_loss(student @ student.T, teacher @ teacher.T)
        logits = self.model.logit_scale.exp().clamp(max=100) * images @ texts.T
        # Scenes of a batch that share a caption are all right answers.
        same = torch.tensor(
            [[a == b for b in batch["caption"]] for a in batch["caption"]], device=self.device
        ).float()
        goal = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
        self.log_dict({"train/distil": distil, "train/contrast": contrast})
        self.log("train/loss", distil + contrast, prog_bar=True)
        return 4 * distil + 20 * pairs + self.hparams.image_weight * contrast

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        every = sorted(set(batch["caption"]))
        images, texts = self.encode_images(batch["image"]), self.encode_texts(every)
        guess = (images @ texts.T).argmax(1).tolist()
        right = [every[g] == c for g, c in zip(guess, batch["caption"], strict=True)]
        self.log("val/accuracy", sum(right) / len(right), batch_size=len(right), prog_bar=True)

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        decay = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups, lr=self.hparams.learning_rate, betas=(0.9, 0.98), fused=True
        )
        warm = max(1, min(200, steps // 10))

        def factor(step: int) -> float:
            done = min(1.0, step / max(1, steps))
            return min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * done) + 0.01)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def export(self, folder: str) -> None:
        """Write ``open_clip_config.json`` and float16 weights that open_clip loads."""
        from safetensors.torch import save_file

        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        config = {
            "model_cfg": self.config,
            "preprocess_cfg": {
                "mean": list(MEAN),
                "std": list(STD),
                "interpolation": "bicubic",
                "resize_mode": "squash",
            },
        }
        (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {
            k: v.detach().half().cpu().contiguous() for k, v in self.model.state_dict().items()
        }
        save_file(weights, str(out / "open_clip_model.safetensors"))
