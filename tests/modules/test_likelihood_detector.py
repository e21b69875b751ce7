import json

import numpy as np
import pytest

from src.modules.likelihood_detector import LikelihoodDetector
from tests.tiny_causal_lm import save_tiny_causal_lm
from tests.watermark_runs import detect, generate, lines

PROMPTS = ["The old lighthouse", "It was a long road that", "Nobody knew"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return save_tiny_causal_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def texts(spec, tmp_path_factory):
    run = generate(spec, tmp_path_factory.mktemp("run"), PROMPTS, num_tokens=80)
    return run / "generations.jsonl"


@pytest.mark.parametrize("kwargs", [{}, {"uses_prompt": True}, {"bias": "fitted"}])
def test_generated_texts_are_attributed_right(spec, texts, tmp_path, kwargs):
    rows = lines(detect(LikelihoodDetector(spec, **kwargs), texts, tmp_path) / "guesses.jsonl")
    right = [row["label"] == row["scheme"] for row in rows]
    # the flat random model leaves soft with few red tokens, and a bias that may be 0.5 nears none
    assert sum(right) >= (11 if "bias" not in kwargs else 10)
    # without a prompt the first token's context is not known
    skipped = 0 if kwargs.get("uses_prompt") else 1
    assert all(row["num_scored"] <= 80 - skipped for row in rows)
    assert any(row["num_scored"] == 80 - skipped for row in rows)


@pytest.mark.parametrize("uses_prompt", [False, True])
def test_an_answer_does_not_depend_on_the_neighbours(spec, texts, tmp_path, uses_prompt):
    # neighbours of other lengths, some empty: the batch is sorted and padded
    rows = lines(texts)
    for number, row in enumerate(rows):
        row["text"] = row["text"][: 23 * number]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    detector = LikelihoodDetector(spec, uses_prompt=uses_prompt)
    among = lines(detect(detector, path, tmp_path / "all") / "guesses.jsonl")
    assert len(among) == len(rows)
    for number in (1, 6):
        path.write_text(json.dumps(rows[number]))
        (alone,) = lines(detect(detector, path, tmp_path / f"{number}") / "guesses.jsonl")
        assert alone["num_scored"] == among[number]["num_scored"]
        np.testing.assert_allclose(
            list(alone["probabilities"].values()),
            list(among[number]["probabilities"].values()),
            rtol=1e-3,
            atol=1e-6,
        )


def test_empty_and_one_token_texts_are_undecided(spec, texts, tmp_path):
    mark = json.loads(texts.read_text().splitlines()[0])["watermark"]
    path = tmp_path / "short.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, "watermark": mark}) for t in ("", "a")))
    rows = lines(detect(LikelihoodDetector(spec), path, tmp_path) / "guesses.jsonl")
    assert [row["label"] for row in rows] == ["undecided", "undecided"]
    assert all(row["note"] for row in rows)
    assert set(np.load(tmp_path / "Q4_guesses.npy")) <= {1, 2, 3, 4}


def test_mistakes_are_refused_before_the_model_is_loaded(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "src.modules.likelihood_detector.load_causal_lm",
        lambda spec: pytest.fail("the model was loaded"),
    )
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "x"}))
    with pytest.raises(ValueError, match="key, prf"):
        detect(LikelihoodDetector(spec), path, tmp_path)
    with pytest.raises(ValueError, match="edit_rate"):
        LikelihoodDetector(spec, edit_rate=1.0)
