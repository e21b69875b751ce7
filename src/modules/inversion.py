"""Recover the texts behind embeddings, as a Lightning ``predict_step``.

The search itself is ``src/algorithms/inversion``; this file decides what it is given: the encoder,
the table of one-token embeddings and the trained proposer (both cached in ``cache_dir``), priors,
and how close identity must be for the way the targets were stored.

Batches come from ``src/datamodules/embeddings.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from src.algorithms.inversion import search
from src.algorithms.inversion.baselines import GCG, PEZ
from src.algorithms.inversion.encoder import TextEncoder
from src.algorithms.inversion.filling import RandomPhrases
from src.algorithms.inversion.hybrid import Hybrid, one_token_table
from src.algorithms.inversion.moves import Vocabulary
from src.algorithms.inversion.priors import Dictionary, rank_near_ties, word_prior
from src.algorithms.inversion.proposer import GapProposer
from src.backbones import PROJECT_ROOT, load_causal_lm, load_clip, load_tokenizer
from src.modules.embedding_cache import read_or_encode, weights_digest

log = logging.getLogger(__name__)

METHODS = ("hybrid", "pez", "gcg")

#: Longest random phrases that are encoded to learn where phrases lie.
LONGEST_RANDOM = 16

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
        budget: Most evaluations of one target's search; a gradient counts three. Checking the
            texts of its best states takes at most eight more.
        num_tokens: Length that ``pez`` and ``gcg`` are told: one, or a list with one for every row
            of the embeddings file.
        max_tokens: Longest text that ``hybrid`` tries.
        beam: States that ``hybrid`` keeps in a level.
        width: Insertions that it evaluates for each.
        table: Whether to encode every token once (cached), which makes one-token texts free.
        proposer: A proposer's file; ``auto`` for the cached or shipped one of this backbone;
            None to search without.
        use_gradient: Whether repair uses gradients beside a proposer.
        share: Whether targets see each other's candidates.
        word_list: A file of words or phrases, one a line: looked up first, and favoured.
        fragments: Known parts of the texts (one may be given as it is); growth begins from them as
            well.
        language_model: Spec of a causal LM that orders near ties by fluency; None for none.
        append_only: Whether to run the beam that only continues; None: on causal towers without a
            proposer.
        tolerance: Largest 1 - cosine that counts as identity, between 0 and 1; None: by the file's
            format.
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
        fragments: str | Sequence[str] = (),
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
        if tolerance is not None and not 0 < tolerance < 1:
            raise ValueError(
                f"model.tolerance is {tolerance}; give a number between 0 and 1, such as 1e-5, or "
                "null."
            )
        smallest = {"hybrid": 1, "pez": 3, "gcg": 4}[method]
        lengths = [num_tokens] if isinstance(num_tokens, int) else num_tokens
        for name, value, least in (
            ("budget", budget, smallest),
            ("num_tokens", min(lengths, default=0), 1),
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
        #: Set by a callback that shows progress: called with (new rows, how many of them are exact,
        #: 0) after a result, and with (0, 0, mean best cosine of the searches) after a round.
        self.on_progress: Callable[[int, int, float], None] | None = None
        self._model: Any = None
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
        data = self.trainer.datamodule
        check_width(getattr(data, "dim", encoder.dim), encoder.dim, h.backbone["name"])
        if h.method != "hybrid":
            check_lengths(h.num_tokens, getattr(data, "num_rows", None), encoder.max_tokens)
        if not data.predict_dataloader().dataset:
            return
        before = encoder.evaluations
        prior = dictionary = None
        if h.word_list:
            lines = Path(h.word_list).read_text(encoding="utf-8").splitlines()
            texts = [line.strip() for line in lines if line.strip()]
            dictionary = Dictionary.encode(encoder, texts)
            prior = word_prior(encoder, texts, bonus=0.5)
        vocabulary = self.load_vocabulary(prior)
        self.one_off_evaluations = encoder.evaluations - before
        if h.method != "hybrid":
            # A list of lengths is told batch by batch, in predict_step.
            method = PEZ if h.method == "pez" else GCG
            self.searcher: Any = method(vocabulary, h.num_tokens, seed=h.seed)
        else:
            fragments = [h.fragments] if isinstance(h.fragments, str) else h.fragments
            self.searcher = Hybrid(
                vocabulary,
                beam=h.beam,
                width=h.width,
                max_tokens=h.max_tokens,
                fragments=[encoder.tokenize(f) for f in fragments],
                append_only=h.append_only,
                dictionary=dictionary,
                use_gradient=h.use_gradient,
                seed=h.seed,
            )
        self._unrelated = self._background_rows(vocabulary.table)
        self.fluency = self._load_fluency() if h.language_model else None

    def load_vocabulary(self, prior: Tensor | None = None) -> Vocabulary:
        """Load or make what is known of the tokens before any target is seen.

        Args:
            prior: Added log-preference of each token (vocab,).
        """
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        table = self.load_table() if h.table else None
        if h.method != "hybrid":
            return Vocabulary(encoder, table, prior=prior)
        proposer = self.load_proposer(table) if h.proposer else None
        if proposer is not None:
            return Vocabulary(encoder, table, proposer, prior)
        longest = min(h.max_tokens, encoder.max_tokens, LONGEST_RANDOM)
        log.info(f"encoding random phrases of up to {longest} tokens ...")
        phrases = RandomPhrases.encode(encoder, encoder.allowed_ids(), longest, seed=h.seed)
        return Vocabulary(encoder, table, None, prior, phrases)

    def fingerprint(self) -> str:
        """Tell this encoder's weights from others of the same name."""
        return weights_digest(self._model)

    def load_table(self) -> Tensor:
        """Read the table of one-token embeddings from the cache, or make it: (vocab, dim).

        Each precision has its file: cosines of the table are taken for exact, so one of low
        precision would hide the right token from a search in float32.
        """
        h, encoder, name = self.hparams, self.encoder, self.hparams.backbone["name"]
        assert encoder is not None
        end = "" if h.precision == "float32" else f"-{h.precision}"
        path = Path(h.cache_dir) / f"tokens-{name}-{self.fingerprint()}{end}.safetensors"
        table = read_or_encode(
            path,
            f"one-token table of {name}",
            lambda: {"table": one_token_table(encoder, encoder.allowed_ids())},
            write=self.trainer.is_global_zero,
        )["table"]
        return table.float().to(self.device)

    def load_proposer(self, table: Tensor | None) -> GapProposer | None:
        """Find the proposer of this encoder: the given file, else the cache's, else the shipped.

        Raises:
            FileNotFoundError: If there is no file of the given name.
            ValueError: If the given file belongs to other weights, or a file lacks weights.
        """
        h, encoder = self.hparams, self.encoder
        assert encoder is not None
        name = f"proposer_{h.backbone['name']}.safetensors"
        shipped = PROJECT_ROOT / "assets" / "inversion" / name
        options = (
            [Path(h.cache_dir) / name, shipped] if h.proposer == "auto" else [Path(h.proposer)]
        )
        remedy = f"python train.py model=proposer backbone={h.backbone['name']}"
        if h.proposer != "auto" and not options[0].is_file():
            raise FileNotFoundError(
                f"model.proposer: there is no file {h.proposer}; make one with {remedy}, or give "
                "null."
            )
        own = self.fingerprint()
        for path in options:
            if not path.is_file():
                continue
            with safe_open(str(path), "pt") as file:
                meta = file.metadata() or {}
            if meta.get("fingerprint") != own:
                if h.proposer != "auto":
                    raise ValueError(
                        f"model.proposer: {path} was not made for these weights of "
                        f"{h.backbone['name']}; make one with {remedy}, or give auto or null."
                    )
                log.info(f"proposer: {path} belongs to other weights; left out")
                continue
            if table is None:
                log.info("proposer: needs model.table=true; left out")
                return None
            proposer = build_proposer(encoder, table, json.loads(meta["config"]))
            try:
                proposer.load_state_dict({k: v.float() for k, v in load_file(path).items()})
            except RuntimeError as error:
                raise ValueError(
                    f"model.proposer: {path} does not hold the weights of a proposer; remove it, "
                    f"and make one with {remedy}."
                ) from error
            log.info(f"proposer: read {path} ({path.stat().st_size / 1e6:.1f} MB)")
            return proposer.to(self.device).eval()
        log.info(
            f"proposer: none for {h.backbone['name']}; searching with gradients alone "
            f"(train one: {remedy})"
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
        model = load_causal_lm(spec).to(self.device)  # pyright: ignore[reportArgumentType]
        tokenizer = load_tokenizer(spec)

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
        tolerance = h.tolerance
        if tolerance is None:
            tolerance = search.TOLERANCE.get(batch["stored"], 1e-5)
        searcher = self.searcher
        if h.method != "hybrid" and not isinstance(h.num_tokens, int):
            # Rows with the same embedding hold the same text: the first one's length is theirs.
            lengths = [h.num_tokens[rows[0]] for rows in batch["index"]]
            searcher = replace(searcher, num_tokens=lengths)
        writers = [c for c in self.trainer.callbacks if hasattr(c, "write")]
        background = (self._unrelated @ targets.T).mean(0).tolist()
        rows: list[dict[str, Any]] = []

        def done(result: search.Inversion) -> None:
            new = self.rows_of(result, batch["index"][result.index], background[result.index])
            rows.extend(new)
            if writers:
                writers[0].write(new)
            if self.on_progress:
                self.on_progress(len(new), sum(row["exact"] for row in new), 0.0)

        def after_round(boards: Sequence[search.Board]) -> None:
            if self.on_progress and boards:
                self.on_progress(0, 0, sum(b.best for b in boards) / len(boards))

        search.invert(
            encoder,
            targets,
            searcher,
            budget=h.budget,
            tolerance=tolerance,
            share=h.share,
            on_done=done,
            on_round=after_round,
            known=getattr(searcher, "known", None),
        )
        return [] if writers else rows

    def rows_of(
        self, result: search.Inversion, indices: Sequence[int], background: float
    ) -> list[dict[str, Any]]:
        """Turn a result into rows, one for each row of the file that holds this embedding."""
        text, cosine, alternatives = result.text, result.cosine, result.alternatives
        moved, gap = False, result.runner_up_gap
        if self.fluency is not None and not result.exact and alternatives:
            ranked = rank_near_ties([(text, cosine), *alternatives], self.fluency)
            moved = ranked[0][0] != text
            (text, cosine), alternatives = ranked[0], ranked[1:]
            if moved:  # negative, where fluency chose a text that is farther away
                gap = cosine - max(c for _, c in alternatives)
        return [
            {
                "index": index,
                "text": text,
                "cosine": cosine,
                "exact": result.exact,
                "runner_up_gap": gap,
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


def check_lengths(num_tokens: int | Sequence[int], num_rows: int | None, longest: int) -> None:
    """Refuse lengths that do not fit the file of targets or the encoder.

    Args:
        num_tokens: One length, or one for every row of the file.
        num_rows: Rows of the file; None if that is not known.
        longest: Most tokens that the encoder's context holds.

    Raises:
        ValueError: If there are more or fewer lengths than rows, or one is too long.
    """
    lengths = [num_tokens] if isinstance(num_tokens, int) else num_tokens
    if not isinstance(num_tokens, int) and num_rows not in (None, len(lengths)):
        raise ValueError(
            f"model.num_tokens lists {len(lengths)} lengths, and the file has {num_rows} rows; "
            "give one number for all, or one a row."
        )
    if max(lengths) > longest:
        raise ValueError(
            f"model.num_tokens is {max(lengths)}, and the encoder reads at most {longest} tokens; "
            "give at most that."
        )


def build_proposer(encoder: TextEncoder, table: Tensor, config: Mapping[str, Any]) -> GapProposer:
    """Build a proposer for an encoder; its frozen parts come from there."""
    return GapProposer(table, encoder.embedding.weight.detach().float(), **config)
