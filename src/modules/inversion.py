"""Recover the texts behind embeddings, as a Lightning ``predict_step``.

The search itself is ``src/algorithms/inversion``; this file decides what it is given: the encoder,
the table of one-token embeddings and the trained proposer (both cached in ``cache_dir``), priors,
and how close identity must be for the way the targets were stored.

Batches come from ``src/datamodules/embeddings.py``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.algorithms.inversion import search
from src.algorithms.inversion.baselines import GCG, PEZ
from src.algorithms.inversion.encoder import TextEncoder
from src.algorithms.inversion.hybrid import Hybrid, one_token_table
from src.algorithms.inversion.moves import Vocabulary
from src.algorithms.inversion.priors import Dictionary, rank_near_ties, word_prior
from src.algorithms.inversion.proposer import GapProposer
from src.backbones import PROJECT_ROOT, load_causal_lm, load_clip, load_tokenizer

log = logging.getLogger(__name__)

METHODS = ("hybrid", "pez", "gcg")

#: Widths of embeddings and which encoders of configs/backbone have them.
WIDTHS = {
    384: "minilm, mini_clip",
    512: "vit_b32_openai, vit_b32_random",
    768: "vit_l14_openai",
    1024: "vit_h14_laion2b, vit_h14_random",
}


class Inversion(LightningModule):
    """Search for the text behind each embedding of a batch.

    Args:
        backbone: The spec of the text encoder.
        cache_dir: Where the one-token table and proposers are kept.
        method: ``hybrid``, or ``pez`` or ``gcg``, which need ``num_tokens``.
        budget: Most evaluations for one target; a gradient counts three.
        num_tokens: Length that ``pez`` and ``gcg`` are told.
        max_tokens: Longest text that ``hybrid`` tries.
        beam: States that ``hybrid`` keeps in a level.
        width: Insertions that it evaluates for each.
        table: Whether to encode every token once (cached), which makes one-token texts free.
        proposer: A proposer's file; ``auto`` for the cached or shipped one of this backbone;
            None to search without.
        use_gradient: Whether repair uses gradients beside a proposer.
        share: Whether targets see each other's candidates.
        word_list: A file of words or phrases, one a line: looked up first, and favoured.
        fragments: Known parts of the texts; growth begins from them as well.
        language_model: Spec of a causal LM that orders near ties by fluency; None for none.
        append_only: Whether to run the beam that only continues; None: on causal towers.
        tolerance: Largest 1 - cosine that counts as identity; None: by the file's format.
        batch_size: Most sequences in one forward pass.
        precision: ``float32`` or ``bfloat16``, for the search; identity is decided in float32.
        seed: Of everything random.

    Raises:
        ValueError: If a setting is out of its range.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        cache_dir: str,
        method: str = "hybrid",
        budget: int = 20_000,
        num_tokens: int | list[int] = 8,
        max_tokens: int = 20,
        beam: int = 6,
        width: int = 24,
        table: bool = True,
        proposer: str | None = "auto",
        use_gradient: bool = True,
        share: bool = True,
        word_list: str | None = None,
        fragments: Sequence[str] = (),
        language_model: Mapping[str, Any] | None = None,
        append_only: bool | None = None,
        tolerance: float | None = None,
        batch_size: int = 256,
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"model.method is {method!r}; choose one of {', '.join(METHODS)}.")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"model.precision is {precision!r}; choose float32 or bfloat16.")
        smallest = {"hybrid": 1, "pez": 3, "gcg": 4}[method]
        lengths = [num_tokens] if isinstance(num_tokens, int) else num_tokens
        for name, value, least in (
            ("budget", budget, smallest),
            ("num_tokens", min(lengths), 1),
            ("max_tokens", max_tokens, 1),
            ("beam", beam, 1),
            ("width", width, 1),
            ("batch_size", batch_size, 1),
        ):
            if value < least:
                raise ValueError(
                    f"model.{name} is {value}, too little for a single step of {method}; "
                    f"give at least {least}."
                )
        if word_list is not None and not Path(word_list).is_file():
            raise FileNotFoundError(f"model.word_list: there is no file {word_list}.")
        self.save_hyperparameters()
        self.encoder: TextEncoder | None = None
        #: Set by a callback that shows progress: called with (rows done, rows, best cosines).
        self.on_progress: Callable[[int, int, float], None] | None = None
        self._model: Any = None
        self.background: dict[int, float] = {}
        self.one_off_evaluations = 0

    # ------------------------------------------------------------------ set-up

    def configure_model(self) -> None:
        if self.encoder is not None:
            return
        h = self.hparams
        clip = load_clip(h.backbone)
        self._model = clip.model
        self.encoder = TextEncoder(clip.model, clip.tokenizer, h.batch_size, h.precision)

    def on_predict_start(self) -> None:
        """Check the width, then load or make the table, the proposer and the priors."""
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        encoder.to(self.device)
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        check_width(getattr(data, "dim", encoder.dim), encoder.dim, h.backbone["name"])
        if not data.predict_dataloader().dataset:
            return
        before = encoder.evaluations
        table = self.load_table() if h.table else None
        proposer = None
        if h.method == "hybrid" and h.proposer:
            proposer = self.load_proposer(table)
        prior = dictionary = None
        if h.word_list:
            lines = Path(h.word_list).read_text(encoding="utf-8").splitlines()
            texts = [line.strip() for line in lines if line.strip()]
            dictionary = Dictionary.encode(encoder, texts)
            prior = word_prior(encoder, texts, bonus=0.5)
        vocabulary = Vocabulary(encoder, table, proposer, prior)
        self.one_off_evaluations = encoder.evaluations - before
        if h.method == "pez":
            self.searcher: Any = PEZ(vocabulary, h.num_tokens, seed=h.seed)
        elif h.method == "gcg":
            self.searcher = GCG(vocabulary, h.num_tokens, seed=h.seed)
        else:
            self.searcher = Hybrid(
                vocabulary,
                beam=h.beam,
                width=h.width,
                max_tokens=h.max_tokens,
                fragments=[encoder.tokenize(f) for f in h.fragments],
                append_only=h.append_only,
                dictionary=dictionary,
                use_gradient=h.use_gradient,
                seed=h.seed,
            )
        self._unrelated = self._background_rows(table)
        self.fluency = self._load_fluency() if h.language_model else None

    def fingerprint(self) -> str:
        """Tell this encoder's weights from others of the same name: a hash of parts of them."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            if "visual" not in name and tensor.is_floating_point():
                flat = tensor.detach().flatten()
                part = flat[:: max(1, flat.numel() // 32)].float().cpu().contiguous()
                digest.update(name.encode() + part.numpy().tobytes())
        return digest.hexdigest()[:16]

    def load_table(self) -> Tensor:
        """Read the table of one-token embeddings from the cache, or make it: (vocab, dim)."""
        encoder, name = self.encoder, self.hparams.backbone["name"]
        assert encoder is not None
        path = Path(self.hparams.cache_dir) / f"tokens-{name}-{self.fingerprint()}.safetensors"
        if path.is_file():
            table = load_file(path)["table"].float().to(self.device)
            what = "read"
        else:
            log.info(f"encoding every token of {name} once ...")
            table = one_token_table(encoder, encoder.allowed_ids())
            if self.trainer.is_global_zero:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(".tmp")
                save_file({"table": table.cpu().contiguous()}, str(temporary))
                temporary.replace(path)
            what = "wrote"
        size = path.stat().st_size / 1e6 if path.is_file() else 0.0
        log.info(f"one-token table: {what} {path} ({size:.0f} MB)")
        return table

    def load_proposer(self, table: Tensor | None) -> GapProposer | None:
        """Find the proposer of this encoder: the given file, else the cache's, else the shipped."""
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        name = f"proposer_{h.backbone['name']}.safetensors"
        shipped = PROJECT_ROOT / "assets" / "inversion" / name
        options = (
            [Path(h.cache_dir) / name, shipped] if h.proposer == "auto" else [Path(h.proposer)]
        )
        if h.proposer != "auto" and not options[0].is_file():
            raise FileNotFoundError(
                f"model.proposer: there is no file {h.proposer}; make one with "
                f"python train.py experiment=proposer backbone={h.backbone['name']}, or give null."
            )
        own = self.fingerprint()
        for path in options:
            if not path.is_file():
                continue
            with safe_open(str(path), "pt") as file:
                meta = file.metadata() or {}
            if meta.get("fingerprint") != own:
                log.info(f"proposer: {path} belongs to other weights; left out")
                continue
            if table is None:
                log.info("proposer: needs model.table=true; left out")
                return None
            proposer = build_proposer(encoder, table, json.loads(meta["config"]))
            proposer.load_state_dict(
                {k: v.float() for k, v in load_file(path).items()}, strict=False
            )
            log.info(f"proposer: read {path} ({path.stat().st_size / 1e6:.1f} MB)")
            return proposer.to(self.device).eval()
        log.info(
            f"proposer: none for {h.backbone['name']}; searching with gradients alone "
            f"(train one: python train.py experiment=proposer backbone={h.backbone['name']})"
        )
        return None

    def _background_rows(self, table: Tensor | None) -> Tensor:
        """Give embeddings of texts that have nothing to do with any target: (n, dim)."""
        assert self.encoder is not None
        if table is not None:
            known = table[(table.abs().sum(1) > 0).nonzero().flatten()]
            return known[:: max(1, len(known) // 2000)]
        allowed = self.encoder.allowed_ids()
        return self.encoder.encode_ids([(t,) for t in allowed[:: max(1, len(allowed) // 256)]])

    def _load_fluency(self) -> Callable[[Sequence[str]], list[float]]:
        spec = self.hparams.language_model
        model, tokenizer = load_causal_lm(spec).to(self.device), load_tokenizer(spec)

        def fluency(texts: Sequence[str]) -> list[float]:
            out = []
            for text in texts:
                start = tokenizer.bos_token or tokenizer.eos_token or ""
                ids = tokenizer(start + text, return_tensors="pt").input_ids.to(self.device)
                with torch.no_grad():
                    out.append(-float(model(input_ids=ids, labels=ids).loss))
            return out

        return fluency

    # ------------------------------------------------------------------ search

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        targets: Tensor = batch["embedding"].to(self.device)
        tolerance = h.tolerance or search.TOLERANCE.get(batch["stored"], 1e-5)
        writers = [c for c in self.trainer.callbacks if hasattr(c, "write")]  # pyright: ignore
        background = (self._unrelated @ targets.T).mean(0).tolist()
        best = [-1.0] * len(targets)
        rows: list[dict[str, Any]] = []
        spent = encoder.evaluations

        def done(result: search.Inversion) -> None:
            new = self.rows_of(result, batch["index"][result.index], background[result.index])
            rows.extend(new)
            if writers:
                writers[0].write(new)  # pyright: ignore[reportAttributeAccessIssue]
            if self.on_progress:
                self.on_progress(len(new), sum(row["exact"] for row in new), 0.0)

        def after_round(boards: Sequence[search.Board]) -> None:
            for board in boards:
                best[board.index] = board.best
            if self.on_progress and boards:
                self.on_progress(0, 0, sum(b.best for b in boards) / len(boards))

        search.invert(
            encoder,
            targets,
            self.searcher,
            budget=h.budget,
            tolerance=tolerance,
            share=h.share,
            on_done=done,
            on_round=after_round,
            known=getattr(self.searcher, "known", None),
        )
        self.total_evaluations = getattr(self, "total_evaluations", 0)
        self.total_evaluations += encoder.evaluations - spent
        return [] if writers else rows

    def rows_of(
        self, result: search.Inversion, indices: Sequence[int], background: float
    ) -> list[dict[str, Any]]:
        """Turn a result into rows, one for each row of the file that holds this embedding."""
        text, cosine, alternatives = result.text, result.cosine, result.alternatives
        moved = False
        if self.fluency is not None and not result.exact and alternatives:
            ranked = rank_near_ties([(text, cosine), *alternatives], self.fluency)
            moved = ranked[0][0] != text
            (text, cosine), alternatives = ranked[0], ranked[1:]
        return [
            {
                "index": index,
                "text": text,
                "cosine": cosine,
                "exact": result.exact,
                "runner_up_gap": result.runner_up_gap,
                "evaluations": result.evaluations,
                "seconds": round(result.seconds, 3),
                "alternatives": [{"text": t, "cosine": c} for t, c in alternatives],
                "background": background,
                "found_by": "fluency" if moved else result.found_by,
                "gains": result.gains,
                "trace": result.trace,
            }
            for index in indices
        ]


def check_width(width: int, expected: int, name: str) -> None:
    """Refuse embeddings of another width than the encoder's.

    Raises:
        ValueError: If they differ; it names encoders of the given width.
    """
    if width != expected:
        others = WIDTHS.get(width)
        raise ValueError(
            f"the embeddings have {width} dimensions, backbone {name!r} makes {expected}; "
            + (
                f"encoders of that width here: {others}."
                if others
                else f"no encoder here has that width (known: {', '.join(map(str, WIDTHS))})."
            )
        )


def build_proposer(encoder: TextEncoder, table: Tensor, config: Mapping[str, Any]) -> GapProposer:
    """Build a proposer for an encoder; its frozen parts come from there."""
    return GapProposer(table, encoder.embedding.weight.detach().float(), **config)


def exact_interval(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.96, hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, centre - half), min(1.0, centre + half)
