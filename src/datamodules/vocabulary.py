"""The tokenizer of ``t5_mini``: a unigram vocabulary with single digits and names for numbers.

Decides what a token is. The model is SentencePiece's unigram language model (Kudo 2018,
arXiv 1804.10959), trained by SentencePiece and run by the
``tokenizers`` library. Three things differ from T5's own:

- text is lower-cased and the space before ``. , ? ! '`` dropped, because the published problem sets
  write it either way and a small vocabulary cannot afford both;
- digits stand alone, so that any number can be copied and computed with;
- ``number0`` to ``number15`` and each operator are one token.

Left out on purpose: byte fallback. A character outside ASCII and the training text is ``<unk>``.
"""

from __future__ import annotations

import random
import string
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from src.datamodules.pretraining import mask_numbers, read_gsm8k
from src.datamodules.worlds import make_story

NUM_NUMBERS = 16
NUM_SENTINELS = 100
SPECIAL = ("<pad>", "</s>", "<unk>")


def load_or_train_tokenizer(
    folder: str | Path | None,
    path: str | None,
    vocab_size: int,
    num_stories: int = 30000,
    seed: int = 0,
) -> Any:
    """Load the tokenizer of a folder, or train one where there is none.

    Args:
        folder: A folder that holds a ``tokenizer.json``; null always trains.
        path: GSM8K's ``train.jsonl``, or null for generated text alone.
        vocab_size: Tokens in all, sentinels included.
        num_stories: Generated problems to train on besides.
        seed: Their seed.

    Returns:
        A fast tokenizer with T5's special tokens.
    """
    if folder is not None and (Path(folder) / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return train_tokenizer(_texts(path, num_stories, seed), vocab_size)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train the vocabulary.

    Args:
        texts: What it is to encode well.
        vocab_size: Tokens in all, at least 256.

    Returns:
        A tokenizer with ``</s>`` at the end of each text, ``<pad>`` as 0 and the sentinels
        ``<extra_id_0>`` to ``<extra_id_99>`` last, as T5 has them.

    Raises:
        ValueError: If ``vocab_size`` is too small for the fixed tokens.
    """
    fixed = [f"▁number{i}" for i in range(NUM_NUMBERS)]
    fixed += [f"▁{sign}" for sign in "+-*/^()=$%"] + [f"▁{d}" for d in string.digits]
    num_learned = vocab_size - len(SPECIAL) - len(fixed) - NUM_SENTINELS
    if num_learned < len(string.printable):
        raise ValueError(f"vocab_size is {vocab_size}, expected at least 256.")
    normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace("’", "'"),
            normalizers.Replace(Regex(r" +(?=[.,?!'])"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    with tempfile.TemporaryDirectory() as folder:
        SentencePieceTrainer.Train(
            sentence_iterator=(normalizer.normalize_str(text) for text in texts),
            model_prefix=f"{folder}/unigram",
            model_type="unigram",
            vocab_size=num_learned,
            character_coverage=1.0,
            split_digits=True,
            max_sentence_length=10000,
            input_sentence_size=60000,
            shuffle_input_sentence=False,
            num_threads=1,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        learned = SentencePieceProcessor(model_file=f"{folder}/unigram.model")
    names = [learned.IdToPiece(i) for i in range(learned.GetPieceSize())]
    scores = [learned.GetScore(i) for i in range(learned.GetPieceSize())]
    pieces = [
        (p, s)
        for p, s in zip(names, scores, strict=True)
        if p not in {*fixed, "<unk>", "<s>", "</s>"}
    ]
    known = {piece for piece, _ in pieces}
    floor = min(scores) - 2.0
    alphabet = [c for c in string.printable if not c.isspace() and not c.isupper()]
    extra = [(c, floor) for c in alphabet if c not in known]
    pieces += extra
    # Single characters stay whatever their score: without them a word may be unknown.
    too_many = len(pieces) - num_learned
    rare = {p for p, _ in [x for x in reversed(pieces) if len(x[0]) > 1][: max(0, too_many)]}
    pieces = [(piece, score) for piece, score in pieces if piece not in rare]
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(piece, -1.0) for piece in fixed] + pieces[:num_learned]
    vocabulary += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(NUM_SENTINELS))]

    core = Tokenizer(Unigram(vocabulary, unk_id=2, byte_fallback=False))
    core.normalizer = normalizer
    core.pre_tokenizer = metaspace
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[f"<extra_id_{i}>" for i in range(NUM_SENTINELS)],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def _texts(path: str | None, num_stories: int, seed: int) -> Iterator[str]:
    for problem in read_gsm8k(path) if path else []:
        yield mask_numbers(problem.question)[0]
        yield problem.rationale
    rng = random.Random(f"{seed}/vocabulary")
    for _ in range(num_stories):
        yield make_story(rng).text
    for word in ("work:", "tree:", "uses:", "ask:", "solve:", "compute:", "larger:", "answer:"):
        yield " ".join([word] * 50)
