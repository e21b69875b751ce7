import csv
import json

import numpy as np
import pytest

from src.algorithms.watermark.schemes import count_letter_e
from src.modules.watermarked_generation import WatermarkedGeneration
from tests.tiny_causal_lm import VOCAB_SIZE, load_tiny, save_tiny_causal_lm
from tests.watermark_runs import MARK, generate, lines

PROMPTS = ["The old lighthouse", "It was a long road that", "a", "Nobody knew"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return save_tiny_causal_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def run(spec, tmp_path_factory):
    return generate(spec, tmp_path_factory.mktemp("run"), PROMPTS, num_tokens=20, seed=3)


def test_every_prompt_has_a_row_under_every_scheme(run):
    rows = lines(run / "generations.jsonl")
    assert [(row["scheme"], row["prompt"]) for row in rows] == [
        (scheme, prompt) for scheme in ("none", "no_e", "hard", "soft") for prompt in PROMPTS
    ]
    for row in rows:
        assert list(row) == ["prompt", "text", "token_ids", "scheme", "watermark"]
        assert len(row["token_ids"]) == 20
        assert row["watermark"] == {
            **MARK,
            "vocab_size": VOCAB_SIZE,
            "tokenizer": "tiny",
            "temperature": 1.0,
        }


def test_texts_leave_the_prompt_out_and_read_back(run, spec):
    tokenizer, _ = load_tiny(spec)
    for row in lines(run / "generations.jsonl"):
        assert tokenizer(row["text"])["input_ids"] == row["token_ids"]
        if row["scheme"] == "no_e":
            assert count_letter_e(row["text"]) == 0


def test_the_courses_array_holds_the_marked_texts_in_order(run):
    array = np.load(run / "Q4_gens.npy", allow_pickle=False)
    assert array.dtype.kind == "U"
    expected = [
        row["text"]
        for scheme in ("no_e", "hard", "soft")
        for row in lines(run / "generations.jsonl")
        if row["scheme"] == scheme
    ]
    assert array.tolist() == expected


def test_quality_is_compared_with_no_mark(run):
    with (run / "quality.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["scheme"] for row in table] == ["none", "no_e", "hard", "soft"]
    assert float(table[0]["perplexity_ratio"]) == 1.0
    ratio = float(table[2]["perplexity"]) / float(table[0]["perplexity"])
    assert float(table[2]["perplexity_ratio"]) == pytest.approx(ratio)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["generate/num_texts"] == 16
    assert metrics["generate/perplexity_hard"] == pytest.approx(float(table[2]["perplexity"]))


def test_a_run_that_stopped_goes_on_to_the_same_texts(run, spec, tmp_path, monkeypatch):
    calls = []
    step = WatermarkedGeneration.predict_step

    def stop_after_two(self, batch, batch_idx):
        calls.append(batch["index"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(WatermarkedGeneration, "predict_step", stop_after_two)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        generate(spec, tmp_path, PROMPTS, num_tokens=20, seed=3)
    assert not (tmp_path / "out/generations.jsonl").exists()
    again = generate(spec, tmp_path, PROMPTS, num_tokens=20, seed=3)
    assert lines(again / "generations.jsonl") == lines(run / "generations.jsonl")
    done = {i for batch in calls[:2] for i in batch}
    assert done.isdisjoint(i for batch in calls[3:] for i in batch)


@pytest.mark.parametrize(
    ("mark", "kwargs", "message"),
    [
        ({"green_fraction": 1.0}, {}, "strictly between"),
        ({"bias": -1.0}, {}, "0 or more"),
        ({"bias": None}, {}, "bias is not set"),
        ({"prf": "md5"}, {}, "must be one of"),
        ({"vocab_size": 100}, {}, "512 logits"),
        ({}, {"num_tokens": 0}, "at least one token"),
        ({}, {"num_tokens": 250}, "exceeds the 256"),
        ({"context_width": 40}, {}, r"fewer than the 40 that choose .* watermark\.context_width"),
        ({}, {"top_p": 0.0}, "top_p"),
        ({}, {"schemes": ["gold"]}, "no scheme 'gold'"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_is_loaded(
    spec, tmp_path, monkeypatch, mark, kwargs, message
):
    monkeypatch.setattr(
        "src.modules.watermarked_generation.load_causal_lm",
        lambda spec: pytest.fail("the model was loaded"),
    )
    with pytest.raises(ValueError, match=message):
        generate(spec, tmp_path, PROMPTS, mark, **kwargs)
