"""The tokenizer: single digits, whole names of numbers, T5's special tokens."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from src.datamodules.vocabulary import load_or_train_tokenizer, train_tokenizer
from src.datamodules.worlds import make_story


@pytest.fixture(scope="module")
def tokenizer():
    rng = random.Random(1)
    return train_tokenizer((make_story(rng).text for _ in range(400)), 700)


def test_digits_stand_alone_and_names_of_numbers_do_not_break(tokenizer) -> None:
    assert tokenizer.tokenize("1250 + 7") == ["▁1", "2", "5", "0", "▁+", "▁7"]
    assert tokenizer.tokenize("( number0 - number15 )") == [
        "▁(", "▁number0", "▁-", "▁number15", "▁)",
    ]  # fmt: skip


def test_equations_survive_a_round_trip(tokenizer) -> None:
    for text in ("( number0 - number1 ) * 12.5 / number10", "300 - 17 * 2", "number3 ^ 2 + 0.01"):
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_where_t5_has_them(tokenizer) -> None:
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == len(tokenizer) - 1
    assert tokenizer.convert_tokens_to_ids("<extra_id_99>") == len(tokenizer) - 100
    assert len(tokenizer) <= 700


def test_ascii_is_never_unknown(tokenizer) -> None:
    text = 'Zoë’s #1 e-mail: a_b@c.d; 100% {x|y} ~ "q" & <tag> \\ ^ `'
    ids = tokenizer(text.replace("ë", "e"))["input_ids"]
    assert tokenizer.unk_token_id not in ids


def test_both_styles_of_punctuation_are_one_text(tokenizer) -> None:
    assert tokenizer("Tom 's dog , how many ?") == tokenizer("tom's dog, how many?")


def test_it_loads_from_a_folder(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    text = "How many number2 apples <extra_id_3> ?"
    assert AutoTokenizer.from_pretrained(tmp_path)(text) == tokenizer(text)
    assert load_or_train_tokenizer(tmp_path, None, 1)(text) == tokenizer(text)


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 256"):
        train_tokenizer(["text"], 150)
