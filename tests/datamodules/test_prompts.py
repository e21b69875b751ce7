import pytest

from src.datamodules.prompts import Prompts, read_prompts


def write(tmp_path, data):
    path = tmp_path / "prompts.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def indices(data):
    return [batch["index"] for batch in data.predict_dataloader()]


def test_each_prompt_comes_under_each_scheme_in_batches_of_one_scheme(tmp_path):
    data = Prompts(write(tmp_path, "one\n\ntwo\r\n  \nthree\n"), ["none", "soft"], batch_size=2)
    data.setup("predict")
    assert data.prompts == ["one", "two", "three"]
    batches = list(data.predict_dataloader())
    assert [(b["scheme"], b["index"]) for b in batches] == [
        ("none", [0, 1]),
        ("none", [2]),
        ("soft", [3, 4]),
        ("soft", [5]),
    ]
    assert batches[3]["prompt"] == ["three"]
    assert batches[3]["prompt_index"] == [2]


def test_rows_that_are_there_are_left_out(tmp_path):
    data = Prompts(write(tmp_path, "one\ntwo\nthree\n"), ["none", "soft"], batch_size=9)
    data.setup("predict")
    data.skip({0, 1, 2, 4})
    assert indices(data) == [[3, 5]]


def test_the_shipped_prompts_are_twenty(project_root):
    assert len(read_prompts(project_root / "assets/watermark/prompts.txt")) == 20


def test_bad_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_prompts(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match="no prompt"):
        read_prompts(write(tmp_path, "\n \n"))
    with pytest.raises(ValueError, match="line 2 "):
        read_prompts(write(tmp_path, b"good\nbad \xff\ngood\n"))
    with pytest.raises(ValueError, match="each scheme once"):
        Prompts("x", ["soft", "soft"])
    with pytest.raises(ValueError, match="batch_size"):
        Prompts("x", ["soft"], batch_size=0)
