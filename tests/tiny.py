"""A tokenizer of single characters and a T5 of some thousand weights: runs of seconds."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHARACTERS = "".join(map(chr, range(32, 127)))


def tiny_tokenizer(folder: Path) -> Path:
    """Write a tokenizer in the hub's form, one token a character, and return its folder."""
    names = ["<pad>", "</s>", "<unk>", *CHARACTERS]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def tiny_overrides(folder: Path, **more: object) -> list[str]:
    """Overrides of train.py or eval.py for a run on few problems with a random T5.

    Args:
        folder: Where the tokenizer is written.
        **more: Further overrides; two underscores stand for a dot.
    """
    settings = {
        "backbone": "t5_tiny",
        "backbone.tokenizer": tiny_tokenizer(folder / "tokenizer"),
        "backbone.config.vocab_size": 128,
        "data.num_train": 24,
        "data.num_val": 5,
        "data.num_test": 7,
        "data.batch_size": 4,
        "model.max_new_tokens": 4,
        "trainer": "cpu",
        "trainer.max_epochs": 2,
        "trainer.log_every_n_steps": 1,
        "callbacks.progress": "null",
        "+trainer.enable_progress_bar": "false",
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    return [f"{name}={value}" for name, value in settings.items()]
