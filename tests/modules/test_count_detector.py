import csv
import json

import numpy as np
import pytest

from src.modules.count_detector import CountDetector
from tests.tiny_causal_lm import load_tiny, save_tiny_causal_lm
from tests.watermark_runs import MARK, detect, generate, lines

PROMPTS = ["The old lighthouse", "It was a long road that", "Nobody knew"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return save_tiny_causal_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def texts(spec, tmp_path_factory):
    run = generate(spec, tmp_path_factory.mktemp("run"), PROMPTS, num_tokens=80)
    return run / "generations.jsonl"


@pytest.fixture(scope="module")
def answers(spec, texts, tmp_path_factory):
    return detect(CountDetector(spec), texts, tmp_path_factory.mktemp("detect"))


def test_generated_texts_are_attributed_from_their_text_alone(answers):
    rows = lines(answers / "guesses.jsonl")
    # the random model writes no English, so its share of e is not the one that no_e is told by:
    # green counts tell hard and soft from the others, and its flat distributions leave
    # soft with more green than the constants for a language model expect
    for row in rows:
        if row["scheme"] == "hard":
            assert row["label"] == "hard"
            assert row["p_value"] < 1e-12
        elif row["scheme"] == "soft":
            assert row["label"] in ("hard", "soft")
            assert row["p_value"] < 1e-3
        else:
            assert row["label"] in ("none", "no_e")
        assert sum(row["probabilities"].values()) == pytest.approx(1.0)
        assert row["num_scored"] <= 79
        assert row["q_value"] >= row["p_value"]


def test_the_courses_guesses_are_numbers_1_to_4(answers):
    numbers = np.load(answers / "Q4_guesses.npy", allow_pickle=False)
    assert numbers.dtype.kind == "i"
    rows = lines(answers / "guesses.jsonl")
    for number, row in zip(numbers, rows, strict=True):
        best = max(row["probabilities"], key=row["probabilities"].get)
        assert number == ["none", "no_e", "hard", "soft"].index(best) + 1


def test_with_labels_there_is_an_evaluation(answers):
    metrics = json.loads((answers / "metrics.json").read_text())
    assert metrics["test/num_texts"] == 12
    assert metrics["test/tpr_at_1_fpr_hard"] == 1.0
    assert metrics["test/accuracy_low"] <= metrics["test/accuracy"] <= metrics["test/accuracy_high"]
    with (answers / "confusion.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["scheme"] for row in table] == ["none", "no_e", "hard", "soft"]
    for name in ("confusion.png", "roc.png", "page.html"):
        assert (answers / name).stat().st_size > 5000
    assert (answers / "roc.csv").read_text().startswith("scheme,false_alarms,found")


def test_an_answer_does_not_depend_on_the_neighbours(spec, texts, answers, tmp_path):
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[7]))
    (alone,) = lines(
        detect(CountDetector(spec), tmp_path / "one.jsonl", tmp_path) / "guesses.jsonl"
    )
    among = lines(answers / "guesses.jsonl")[7]
    different = {key for key in alone if alone[key] != among[key]}
    assert different <= {"index", "q_value"}


def test_bad_texts_get_a_stated_answer_and_the_others_theirs(spec, texts, tmp_path):
    good = texts.read_text().splitlines()[7]
    path = tmp_path / "mixed.jsonl"
    mark = json.loads(good)["watermark"]
    empty = json.dumps({"text": "", "watermark": mark})
    short = json.dumps({"text": "Hi", "watermark": mark})
    path.write_text("\n".join([good, "{torn", empty, short, good]))
    rows = lines(detect(CountDetector(spec), path, tmp_path) / "guesses.jsonl")
    assert [row["label"] for row in rows] == ["hard", "undecided", "undecided", "undecided", "hard"]
    assert "line 2 " in rows[1]["note"]
    assert "empty" in rows[2]["note"]
    assert "too little" in rows[3]["note"]
    assert rows[2]["z_score"] is None
    assert list(rows[2]["probabilities"].values()) == pytest.approx([0.25] * 4)
    assert set(np.load(tmp_path / "Q4_guesses.npy")) <= {1, 2, 3, 4}


def test_known_totals_are_kept(spec, texts, tmp_path):
    module = CountDetector(spec)
    rows = lines(detect(module, texts, tmp_path, counts=[4, 2, 3, 3]) / "guesses.jsonl")
    labels = [row["label"] for row in rows]
    assert [labels.count(s) for s in ("none", "no_e", "hard", "soft")] == [4, 2, 3, 3]
    with pytest.raises(ValueError, match="sum to 9"):
        detect(CountDetector(spec), texts, tmp_path / "wrong", counts=[3, 3, 3, 0])


def test_an_attack_is_studied_over_its_rates(spec, texts, tmp_path):
    module = CountDetector(spec, attack="truncation", attack_rates=[0.0, 0.9])
    folder = detect(module, texts, tmp_path, rates=[0.0, 0.9])
    with (folder / "study.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in table] == [0.0, 0.9]
    assert float(table[0]["num_tokens"]) == 80
    assert float(table[1]["num_tokens"]) < 12
    assert float(table[0]["accuracy_hard"]) == 1.0
    assert (folder / "study.png").stat().st_size > 1000
    assert len(lines(folder / "guesses.jsonl")) == 24


def test_the_command_line_can_say_what_the_file_does_not(spec, texts, tmp_path):
    array = np.array([json.loads(line)["text"] for line in texts.read_text().splitlines()])
    np.save(tmp_path / "texts.npy", array)
    with pytest.raises(ValueError, match="key, prf"):
        detect(CountDetector(spec), tmp_path / "texts.npy", tmp_path)
    module = CountDetector(spec, watermark={"prf": "keyed", "key": 5, "bias": 2.0})
    rows = lines(detect(module, tmp_path / "texts.npy", tmp_path) / "guesses.jsonl")
    assert [row["label"] for row in rows[6:9]] == ["hard"] * 3
    assert all(row["p_value"] < 1e-3 for row in rows[6:])
    assert all(row["label"] in ("none", "no_e") for row in rows[:6])
    assert not (tmp_path / "confusion.csv").exists()
    other = CountDetector(spec, watermark={"prf": "keyed", "key": 6})
    rows = lines(detect(other, tmp_path / "texts.npy", tmp_path / "other") / "guesses.jsonl")
    assert "hard" not in {row["label"] for row in rows}


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"tokenizer": "gpt2"}, "tokenizer of 'gpt2'"),
        ({"vocab_size": 100}, "for 100 tokens"),
        ({"prf": "md5"}, "must be one of"),
        ({"green_fraction": 2}, "strictly between"),
        ({"key": "secret"}, "not valid"),
    ],
)
def test_a_watermark_that_does_not_fit_is_refused(spec, tmp_path, mark, message):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "x", "watermark": {**MARK, **mark}}))
    with pytest.raises(ValueError, match=message):
        detect(CountDetector(spec), path, tmp_path)


def test_bad_arguments_are_refused(spec):
    for kwargs in ({"bias": "guessed"}, {"undecided_below": 2.0}, {"attack": "paraphrase"}):
        with pytest.raises(ValueError, match=r"choose|probability"):
            CountDetector(spec, **kwargs)


def test_pieces_join_to_the_text(spec):
    module = CountDetector(spec)
    module.tokenizer, _ = load_tiny(spec)
    text = "Zwölf Boxkämpfer 日本 😀 e\u0301 <b>"
    ids = module.tokenizer(text)["input_ids"]
    pieces = module._pieces(text, ids)
    assert "".join(pieces) == text
    assert len(pieces) == len(ids)


def test_the_shipped_samples_are_labelled_right(project_root):
    import collections

    from src.algorithms.watermark.detection import (
        count_log_likelihoods,
        count_pairs,
        flatten,
        letter_counts,
    )
    from src.algorithms.watermark.green_lists import Watermark
    from src.algorithms.watermark.schemes import SCHEMES

    rows = lines(project_root / "assets/watermark/samples.jsonl")
    assert collections.Counter(row["scheme"] for row in rows) == dict.fromkeys(SCHEMES, 20)
    assert {len(row["token_ids"]) for row in rows} == {100}
    mark = Watermark.from_mapping(rows[0]["watermark"])
    counts = count_pairs(*flatten([row["token_ids"] for row in rows]), mark.green_list())
    scores = count_log_likelihoods(
        counts, *letter_counts([row["text"] for row in rows]), 0.5, mark.bias
    )
    right = [SCHEMES[i] == row["scheme"] for i, row in zip(scores.argmax(1), rows, strict=True)]
    assert sum(right) >= 76  # counting alone confuses some hard and soft texts
    hard = [i for i, row in enumerate(rows) if row["scheme"] == "hard"]
    assert (counts.num_green[hard] == counts.num_scored[hard]).all()
    assert all("e" not in r["text"].lower() for r in rows if r["scheme"] == "no_e")
