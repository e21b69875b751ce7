"""A text tower as the search sees it: token ids in, unit embeddings out, gradients on request.

The tower is an open_clip model's. Sequences are cut at their end instead of padded to the context
length, which is exact: a causal tower (CLIP) reads its end-of-text position only, a bidirectional
one (a transformers encoder) gets no padding to attend to. A tower that is neither (SigLIP pools
the last of 64 padded positions) is fed at full length. Every sequence that is encoded is counted.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ids = tuple[int, ...]


class TextEncoder:
    """Encode token sequences of any length with an open_clip text tower.

    Args:
        model: An open_clip ``CLIP`` or ``CustomTextCLIP``, float32, in evaluation mode.
        tokenizer: The open_clip tokenizer that belongs to it.
        batch_size: Most sequences in one forward pass.
        precision: ``float32``, or ``bfloat16`` to search with autocast (identity is always
            decided in float32).

    Attributes:
        evaluations: Sequences encoded so far; one with a backward pass counts three.
        dim: Width of an embedding.
        causal: Whether a token sees only those before it.
    """

    def __init__(
        self, model: Any, tokenizer: Any, batch_size: int = 256, precision: str = "float32"
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.dtype = getattr(torch, precision)
        self.evaluations = 0
        tower = getattr(model, "text", model)
        self._inner: Any = getattr(tokenizer, "tokenizer", None)  # transformers' own, if it is one
        self._hf = hasattr(tower, "transformer") and hasattr(tower, "pooler")
        if precision != "float32":
            # A copy in low precision is twice as fast as casting at every call.
            tower = copy.deepcopy(tower).to(self.dtype)
        self._tower = tower
        if self._hf:
            inner = self._inner
            self.prefix: Ids = (inner.cls_token_id,)
            self.suffix: Ids = (inner.sep_token_id,)
            self.context_length = min(tokenizer.context_length, tower.context_length)
            self.embedding = tower.transformer.get_input_embeddings()
            self._encode: Callable[[Tensor], Tensor] = tower
            # CLIP would put [MASK] where a token is missing; so does the search.
            self.blank: int | None = inner.mask_token_id
            self.causal = False
        else:
            self.embedding = tower.token_embedding
            self.context_length = tower.context_length
            self.causal = tower.attn_mask is not None
            pool = getattr(model, "text_pool_type", None) or getattr(tower, "pool_type", None)
            self.prefix, self.suffix, self.pad_id = _special_ids(tokenizer)
            self._encode = self._cut_forward if self.causal and pool == "argmax" else self._padded
            self.blank = None

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the model, and the low-precision copy if there is one; give the encoder itself."""
        self.model.to(device)
        self._tower.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def max_tokens(self) -> int:
        """Most tokens a phrase can have, without the special ones."""
        return self.context_length - len(self.prefix) - len(self.suffix)

    @property
    def dim(self) -> int:
        return int(self.model.visual.output_dim) if not self._hf else self._tower.output_dim

    # ------------------------------------------------------------------ texts

    def tokenize(self, text: str) -> Ids:
        """Give the ids of a text without special tokens and padding."""
        if self._hf:
            clean = self.tokenizer.clean_fn(text)
            ids = self._inner(clean, add_special_tokens=False).input_ids
        else:
            row = self.tokenizer([text])[0].tolist()
            ids = row[len(self.prefix) :]
            end = self.suffix[0] if self.suffix else self.pad_id
            ids = ids[: ids.index(end)] if end in ids else ids
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, with single spaces."""
        if self._inner is not None:
            return self._inner.decode(list(ids), skip_special_tokens=True)
        return re.sub(r"\s+", " ", self.tokenizer.decode(list(ids))).strip()

    def canonical(self, ids: Sequence[int]) -> Ids:
        """Give the ids that the tokenizer makes of the text of ``ids``."""
        return self.tokenize(self.decode(ids))

    def allowed_ids(self) -> list[int]:
        """List the tokens that a text can hold.

        Left out are special and unused tokens, and those of which the tokenizer reads nothing when
        it is given their text, such as control characters. A piece that only continues a word is
        read as other tokens when alone; it is kept, since it survives behind another.
        """
        size = self.embedding.weight.shape[0]
        if self._inner is not None:
            special = {*self.prefix, *self.suffix, *self._inner.all_special_ids}
            names = self._inner.convert_ids_to_tokens(list(range(min(size, len(self._inner)))))
            special |= {i for i, t in enumerate(names) if re.fullmatch(r"\[unused\d+\]", t)}
            size = len(names)
        else:
            special = {*self.prefix, *self.suffix}
            size = min(size, len(self.tokenizer.decoder))
        ids = [i for i in range(size) if i not in special]
        # Letters and digits always survive: only the few others are worth a look.
        return [i for i in ids if (text := self.decode([i])).isalnum() or self.tokenize(text)]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode texts through the model's public ``encode_text``, in float32, normalised.

        Returns:
            Shape (n, dim).
        """
        rows = self.tokenizer(list(texts)).to(self.device)
        self.evaluations += len(rows)
        with torch.no_grad():
            return F.normalize(self.model.encode_text(rows).float(), dim=-1)

    # ------------------------------------------------------------ token ids

    def rows(self, ids: Sequence[Ids]) -> Tensor:
        """Stack sequences of one length with their special tokens: (n, L)."""
        full = [(*self.prefix, *x, *self.suffix) for x in ids]
        return torch.tensor(full, dtype=torch.long, device=self.device)

    def encode_ids(self, ids: Sequence[Ids]) -> Tensor:
        """Encode sequences of any lengths, grouped by length, without gradients.

        Args:
            ids: Token ids without special tokens.

        Returns:
            Unit embeddings (n, dim), float32, in the order given.
        """
        out = torch.empty(len(ids), self.dim, device=self.device)
        by_length: dict[int, list[int]] = {}
        for i, x in enumerate(ids):
            by_length.setdefault(len(x), []).append(i)
        with torch.no_grad():
            for where in by_length.values():
                for at in range(0, len(where), self.batch_size):
                    part = where[at : at + self.batch_size]
                    out[part] = self.forward_rows(self.rows([ids[i] for i in part]))
        return out

    def forward_rows(self, rows: Tensor) -> Tensor:
        """Encode rows that hold their special tokens: (n, L) to unit embeddings (n, dim)."""
        self.evaluations += len(rows)
        return F.normalize(self._encode(rows).float(), dim=-1)

    def encode_embeddings(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Encode rows whose token embeddings are replaced; differentiable in them.

        Args:
            embeddings: Input embeddings (n, L, width), special tokens included.
            rows: The ids (n, L); pooling and padding masks read them.

        Returns:
            Unit embeddings (n, dim).
        """
        self.evaluations += len(rows)

        def replace(module: Any, args: Any, looked_up: Tensor) -> Tensor:
            # A tower that is fed at full length keeps the table's rows for its padding.
            return torch.cat([embeddings, looked_up[:, embeddings.shape[1] :]], dim=1)

        hook = self.embedding.register_forward_hook(replace)
        try:
            z = self._encode(rows)
        finally:
            hook.remove()
        return F.normalize(z.float(), dim=-1)

    def gradients(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiate each row's cosine by its token embeddings.

        Args:
            rows: Ids (n, L), special tokens included.
            targets: Unit target embeddings (n, dim), one a row.

        Returns:
            Gradients (n, L, width) and unit embeddings (n, dim). Counts three evaluations a row.
        """
        grads, zs = [], []
        for at in range(0, len(rows), self.batch_size):
            part = rows[at : at + self.batch_size]
            with torch.enable_grad(), torch.inference_mode(False):
                x = self.embedding.weight[part].detach().clone().requires_grad_(True)
                z = self.encode_embeddings(x, part.clone())
                score = (z * targets[at : at + self.batch_size].clone()).sum()
                (grad,) = torch.autograd.grad(score, x)
            self.evaluations += 2 * len(part)
            grads.append(grad.detach().float() if grad.dtype == torch.bfloat16 else grad.detach())
            zs.append(z.detach())
        return torch.cat(grads), torch.cat(zs)

    def _cut_forward(self, rows: Tensor) -> Tensor:
        """Run a causal open_clip tower on rows that end with end-of-text: (n, L) to (n, dim)."""
        tower, length = self._tower, rows.shape[1]
        x = self.embedding(rows) + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        x = tower.ln_final(x[:, -1])
        projection = tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection

    def _padded(self, rows: Tensor) -> Tensor:
        """Run a tower that needs its full context; padding embeddings stay the table's."""
        short = self.context_length - rows.shape[1]
        full = F.pad(rows, (0, short), value=self.pad_id)
        # A CLIP is its own text tower; a CustomTextCLIP has one, whose forward encodes text.
        return getattr(self._tower, "encode_text", self._tower)(full)


def _special_ids(tokenizer: Any) -> tuple[Ids, Ids, int]:
    """Give what an open_clip tokenizer puts before and behind a text, and pads with."""
    row = tokenizer([""])[0].tolist()
    if hasattr(tokenizer, "sot_token_id"):
        return (tokenizer.sot_token_id,), (tokenizer.eot_token_id,), row[-1]
    # An HFTokenizer for a native tower. Its row decides, not the inner tokenizer: SigLIP's pads
    # with the token that ends a text, CLIPA's writes padding over that token.
    length = len(tokenizer.tokenizer("").input_ids)
    half = 1 if length > 1 else 0
    return tuple(row[:half]), tuple(row[half:length]), row[-1]
