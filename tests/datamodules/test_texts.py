import json
from pathlib import Path

import numpy as np
import pytest

from src.datamodules.texts import Texts, read_texts


def jsonl(tmp_path, *lines):
    path = tmp_path / "texts.jsonl"
    parts = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    path.write_bytes(b"\n".join(parts))
    return path


def test_a_bad_line_names_itself_and_loses_no_other(tmp_path):
    good = {"text": "good", "scheme": "hard", "prompt": "p", "watermark": {"key": 3}}
    path = jsonl(
        tmp_path,
        good,
        b"{broken",
        b'{"text": "\xff"}',
        {"no": 1},
        {"text": 3},
        {"text": "x", "scheme": "gold"},
        [1],
        {"text": "x", "watermark": 4},
        b"",
        good,
    )
    rows = read_texts(path)
    assert [row["error"] is None for row in rows] == [True] + [False] * 7 + [True]
    for number, row in enumerate(rows[1:8], start=2):
        assert row["error"].startswith(f"line {number} ")
    assert rows[8] == {**rows[0], "text_index": 8}
    assert rows[0]["scheme"] == "hard"
    assert rows[0]["watermark"] == {"key": 3}


def test_one_bad_line_of_ten_thousand(tmp_path):
    lines = [json.dumps({"text": f"text {i}"}) for i in range(10_000)]
    lines[6_000] = lines[6_000][:-1]
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines))
    rows = read_texts(path)
    assert [row["text_index"] for row in rows if row["error"]] == [6_000]
    assert "line 6001 " in rows[6_000]["error"]
    assert sum(row["text"] == f"text {row['text_index']}" for row in rows) == 9_999


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    (row,) = read_texts(jsonl(tmp_path, b'{"text": "a\\ud800b"}'))
    row["text"].encode()
    assert row["text"][0] == "a"
    assert row["text"][-1] == "b"


def test_arrays_of_strings_are_read(tmp_path):
    path = tmp_path / "texts.npy"
    np.save(path, np.array(["one", "zwei ä", ""]))
    assert [row["text"] for row in read_texts(path)] == ["one", "zwei ä", ""]


def test_an_array_that_needs_pickle_is_refused(tmp_path):
    path = tmp_path / "texts.npy"
    np.save(path, np.array(["one", None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="dtype=str"):
        read_texts(path)
    np.save(path, np.arange(3))
    with pytest.raises(ValueError, match="expected strings"):
        read_texts(path)
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match="not a plain array"):
        read_texts(path)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name, data in (("b", b"two"), ("a", b"one"), ("c", b"\xff\xfe")):
        (tmp_path / f"{name}.txt").write_bytes(data)
    rows = read_texts(tmp_path)
    assert [row["text"] for row in rows] == ["one", "two", ""]
    assert "c.txt" in rows[2]["error"]


def test_what_is_no_input_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_texts(tmp_path / "nothing.jsonl")
    (tmp_path / "texts.csv").write_text("x")
    with pytest.raises(ValueError, match="no known kind"):
        read_texts(tmp_path / "texts.csv")
    with pytest.raises(ValueError, match=r"no \.txt file"):
        read_texts(tmp_path)
    with pytest.raises(ValueError, match="no line"):
        read_texts(jsonl(tmp_path))


def test_an_attack_repeats_the_texts_at_each_rate_and_needs_labels(tmp_path):
    path = jsonl(tmp_path, {"text": "a", "scheme": "none"}, {"text": "b", "scheme": "soft"})
    data = Texts(str(path), attack="deletion", rates=[0.0, 0.5])
    data.setup("predict")
    assert [(r["index"], r["text"], r["rate"]) for r in data.rows()] == [
        (0, "a", 0.0),
        (1, "b", 0.0),
        (2, "a", 0.5),
        (3, "b", 0.5),
    ]
    data.skip({0, 1, 2})
    assert [[row["index"] for row in batch] for batch in data.predict_dataloader()] == [[3]]
    with pytest.raises(ValueError, match="no scheme"):
        Texts(str(jsonl(tmp_path, {"text": "a"})), attack="deletion", rates=[0.1]).setup("predict")


def test_no_text_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"txt": "one", "scheme": "hard"}\n{"txt": "two"}\n')
    with pytest.raises(ValueError, match=r"texts\.jsonl .* line 1 .* the fields txt, scheme"):
        read_texts(path)
