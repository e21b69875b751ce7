"""Pretraining text: what the objectives promise, and a stream that resumes exactly."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms.answers import evaluate, to_infix
from src.datamodules import pretraining
from src.datamodules.pretraining import (
    SHARES,
    PretrainingExamples,
    PretrainingText,
    _tidy,
    corrupt_spans,
    mask_numbers,
    read_gsm8k,
)
from src.datamodules.procedural import ProceduralProblems
from src.datamodules.readers import Problem
from src.datamodules.vocabulary import train_tokenizer
from src.datamodules.worlds import Story, make_story

ROWS = [
    {
        "question": "Ann has 12 red and 5 blue pens. She gives away 4. How many are left?",
        "answer": "She had 12+5=<<12+5=17>>17 pens.\nNow 17-4=<<17-4=13>>13 are left.\n#### 13",
    },
    {
        "question": "A rope of 30 feet is cut in half. How long is each part?",
        "answer": "Each is 30/2=<<30/2=15>>15 feet.\n#### 15",
    },
]

TRAIN_TEMPLATES = ProceduralProblems("train").template_ids


def normal(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gsm8k") / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer():
    rng = random.Random(0)
    return train_tokenizer((make_story(rng).text for _ in range(400)), 700)


def test_annotations_compose_into_one_equation(gsm8k: Path) -> None:
    first, second = read_gsm8k(gsm8k)
    assert first.tree is not None
    assert to_infix(first.tree) == "number0 + number1 - number2"
    assert evaluate(first.tree, ("12", "5", "4")) == 13
    assert second.tree is not None
    assert to_infix(second.tree) == "number0 / 2"
    assert "<<" not in first.rationale
    assert [step[1] for step in first.steps] == ["12+5", "17-4"]


def test_a_missing_or_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_gsm8k(tmp_path / "none.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "?"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        read_gsm8k(bad)


@pytest.mark.parametrize("objective", sorted(SHARES))
def test_each_objective_makes_examples(objective: str, gsm8k: Path) -> None:
    examples = PretrainingExamples(read_gsm8k(gsm8k), {objective: 1.0})
    for i in range(20):
        name, source, target = examples.example(0, i)
        assert name == objective
        assert source.strip()
        assert target or objective == "spans"
        # The prefix of the task itself belongs to adaptation.
        assert not source.startswith("solve:")
        assert examples.example(0, i) == (name, source, target)


@pytest.mark.parametrize("objective", sorted(SHARES))
def test_the_task_and_its_held_out_templates_are_left_for_adaptation(
    objective: str, gsm8k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Problem] = []

    def spy(self: ProceduralProblems, index: int) -> Problem:
        told.append(draw(self, index))
        return told[-1]

    draw = ProceduralProblems.problem
    monkeypatch.setattr(ProceduralProblems, "problem", spy)
    examples = PretrainingExamples(
        read_gsm8k(gsm8k), {objective: 1.0}, masked_fraction=1.0, procedural_fraction=1.0
    )
    for i in range(40):
        told.clear()
        _, source, target = examples.example(0, i)
        assert all(problem.equation not in (source, target) for problem in told)
        if objective in ("tree", "uses", "ask"):
            assert {p.meta["template"] for p in told} <= TRAIN_TEMPLATES
            [*_, problem] = told  # `ask` draws again where the question tells everything
            assert objective == "ask" or normal(source) == normal(f"{objective}: {problem.masked}")
        elif objective not in ("spans", "continue"):
            assert not told


EQUATION = "number0 - number1"
WRITTEN = Story(
    "Ann had number0 kites. She lost number1. How many kites were left?", ("9", "4"),
    ("-", "number0", "number1"), "How many kites were left?", "tale",
)  # fmt: skip
QUESTION_FIRST = replace(
    WRITTEN, text="How many kites were left? Ann had number0 kites. She lost number1."
)


@pytest.mark.parametrize("retold", [False, True])
def test_tales_are_retold_on_request_alone(retold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "make_tale", lambda rng: WRITTEN)
    monkeypatch.setattr(pretraining, "retell_tale", lambda rng: QUESTION_FIRST)
    examples = PretrainingExamples(
        [], {"work": 1.0}, masked_fraction=1.0, tale_fraction=1.0, retold=retold
    )
    _, source, target = examples.example(0, 0)
    assert source.startswith("work: How many" if retold else "work: Ann had")
    assert target == EQUATION


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_things_told_side_by_side_have_their_share(
    fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "make_binding", lambda rng: QUESTION_FIRST)
    monkeypatch.setattr(pretraining, "make_tale", lambda rng: WRITTEN)
    examples = PretrainingExamples(
        [], {"work": 1.0}, masked_fraction=1.0, tale_fraction=1.0, binding_fraction=fraction
    )
    sources = [examples.example(0, i)[1] for i in range(200)]
    share = sum(source.startswith("work: How many") for source in sources) / 200
    assert abs(share - fraction) < 0.12


def test_a_thing_is_looked_up_in_both_forms() -> None:
    examples = PretrainingExamples([], {"find": 1.0})
    made = [examples.example(0, i)[1:] for i in range(100)]
    assert 30 < sum(source.startswith("find ") for source, _ in made) < 70
    for source, number in made:
        asked = re.match(r"find (\w+):|uses: .* How many (\w+)", source)
        assert asked, source
        assert re.search(rf"\b{number} {asked[1] or asked[2]}\b", source)


def test_what_is_asked_for_is_not_among_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([QUESTION_FIRST, QUESTION_FIRST, WRITTEN])
    monkeypatch.setattr(pretraining, "retell_tale", lambda rng: next(told))
    examples = PretrainingExamples(
        [], {"ask": 1.0}, procedural_fraction=0.0, tale_fraction=1.0, retold=True
    )
    _, source, target = examples.example(0, 0)
    assert source == f"ask: {WRITTEN.text.removesuffix(WRITTEN.question).strip()} = {EQUATION}"
    assert target == WRITTEN.question


def test_unknown_or_empty_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="the objectives are"):
        PretrainingExamples([], {"poetry": 1.0})
    with pytest.raises(ValueError, match="positive"):
        PretrainingExamples([], {"work": 0.0})


def test_masked_numbers_keep_their_order() -> None:
    assert mask_numbers("$1,250 for 3.5 kg") == ("$ number0 for number1 kg", ["1250", "3.5"])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 90), st.floats(0.05, 0.6), st.integers(0, 1000))
def test_corrupted_spans_fit_back_into_the_text(length: int, rate: float, seed: int) -> None:
    ids, sentinels = list(range(1000, 1000 + length)), list(range(100))
    source, target = corrupt_spans(ids, random.Random(seed), sentinels, rate)
    spans: dict[int, list[int]] = {}
    for token in target:
        if token < 100:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    restored = [t for token in source for t in (spans[token] if token < 100 else [token])]
    assert restored == ids
    assert spans[last] == [], "the target ends in a sentinel that opens nothing"
    assert any(spans.values())


def test_a_resumed_stream_goes_on_where_it_was(tokenizer, gsm8k: Path) -> None:
    def stream(start: int) -> list[torch.Tensor]:
        data = PretrainingText(tokenizer, str(gsm8k), num_steps=7, batch_size=4, pool_batches=3)
        return [batch["input_ids"] for batch in data._loader(0, start, 7)]

    whole, rest = stream(0), stream(4)
    assert len(whole) == 7
    assert len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_accumulated_gradients_are_refused(tokenizer, gsm8k: Path) -> None:
    data = PretrainingText(tokenizer, str(gsm8k), num_steps=7, batch_size=4, pool_batches=3)
    data.trainer = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        accumulate_grad_batches=2, global_step=0, global_rank=0, world_size=1
    )
    with pytest.raises(ValueError, match=r"accumulate_grad_batches .* data\.batch_size"):
        data.train_dataloader()


def test_processes_share_out_the_examples_of_a_step(tokenizer, gsm8k: Path) -> None:
    def rows(rank: int, world_size: int, batch_size: int, done: int = 0) -> list[set[Any]]:
        data = PretrainingText(
            tokenizer, str(gsm8k), num_steps=6, batch_size=batch_size, pool_batches=3
        )
        data.trainer = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
            accumulate_grad_batches=1, global_rank=rank, world_size=world_size, global_step=done
        )
        batches = data.train_dataloader()
        return [{tuple(t for t in row if t) for row in b["input_ids"].tolist()} for b in batches]

    alone, first, second = rows(0, 1, 8), rows(0, 2, 4), rows(1, 2, 4)
    assert len(first) == len(second) == 6
    assert [a | b for a, b in zip(first, second, strict=True)] == alone
    assert sum(map(len, first)) < sum(map(len, alone))
    assert rows(1, 2, 4, done=4) == second[4:]


def test_batches_are_padded_and_end_in_eos(tokenizer) -> None:
    data = PretrainingText(tokenizer, None, num_steps=2, batch_size=8, max_length=40)
    for batch in data._loader(0, 0, 2):
        lengths = batch["attention_mask"].sum(1)
        ends = batch["input_ids"][torch.arange(8), lengths - 1]
        assert (ends == tokenizer.eos_token_id).all()
        assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
        assert (batch["labels"] != tokenizer.pad_token_id).all()
        assert batch["input_ids"].shape[1] <= 41


@pytest.mark.parametrize("setting", ["masked_fraction", "procedural_fraction"])
def test_shares_beyond_one_are_refused(tokenizer, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        PretrainingText(tokenizer, **{setting: 1.5})


@pytest.mark.parametrize("setting", ["num_steps", "batch_size", "max_length", "num_val"])
def test_numbers_below_one_are_refused(tokenizer, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        PretrainingText(tokenizer, **{setting: 0})


def test_punctuation_is_written_both_ways() -> None:
    spaced, attached = (
        "Tom has $ number0 , or more . How many ?",
        "Tom has $number0, or more. How many?",
    )
    for text in (spaced, attached):
        rng = random.Random(0)
        assert {_tidy(text, rng) for _ in range(20)} == {spaced, attached}
