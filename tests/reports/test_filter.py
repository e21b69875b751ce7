import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from src.backbones import load_clip
from src.reports.filter import FilterReport, encode_images, open_image
from tests.tiny_clip import CAUSAL, write_bert

TINY: dict[str, Any] = CAUSAL


def picture(colour: tuple[int, int, int], mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (24, 20), colour)
    image.paste((255, 255, 255), (4, 4, 12, 12))
    return image.convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "images"
    out.mkdir()
    picture((200, 30, 30)).save(out / "red.png")
    picture((30, 30, 200)).save(out / "blue.jpg")
    return out


def write_filter(path: Path, folder: Path, threshold: float | None = 0.999) -> Path:
    """A filter whose concept 0 is the embedding of red.png, and concept 1 far from all."""
    clip = load_clip(TINY)
    z, _, _ = encode_images(clip, [folder / "red.png"], 4)
    content = {"embeddings": torch.cat([z, -z])}
    if threshold is not None:
        content["thresholds"] = torch.tensor([threshold, threshold])
    save_file(content, path)
    return path


def report(folder: Path, **kwargs: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    out = folder.parent / "out"
    path = kwargs.pop("filter_path", None) or write_filter(folder.parent / "f.safetensors", folder)
    metrics = FilterReport(str(out), TINY, str(folder), str(path), **kwargs)()
    return metrics, [json.loads(line) for line in (out / "filter.jsonl").read_text().splitlines()]


def test_the_decisions_are_the_definition(folder: Path) -> None:
    metrics, rows = report(folder)
    clip = load_clip(TINY)
    for row in rows:
        with torch.no_grad():
            z = clip.model.encode_image(clip.preprocess(open_image(folder / row["file"]))[None])
        red, _, _ = encode_images(clip, [folder / "red.png"], 1)
        score = float(F.cosine_similarity(z, red)[0])
        assert row["scores"] == pytest.approx([score, -score], abs=1e-5)
        assert row["blocked"] == (score > 0.999)
    assert [row["file"] for row in rows] == ["blue.jpg", "red.png"]
    assert rows[1]["blocked"]
    assert rows[1]["concepts"][0]["concept"] == 0
    assert metrics["filter/num_images"] == 2
    assert metrics["filter/num_blocked"] == sum(row["blocked"] for row in rows)
    with Image.open(folder.parent / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 100


def test_odd_images_are_read(folder: Path) -> None:
    picture((90, 90, 90), "L").save(folder / "grey.png")
    picture((90, 10, 90), "CMYK").save(folder / "cmyk.jpg")
    picture((90, 10, 90), "1").save(folder / "bits.bmp")
    frames = [picture((200, 200, 0)), picture((0, 0, 0))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    picture((1, 2, 3), "RGBA").save(folder / "alpha.webp")
    Image.new("I;16", (9, 9), 40000).save(folder / "deep.tif")
    Image.new("RGB", (9000, 9000)).save(folder / "huge.png")
    metrics, rows = report(folder)
    assert metrics["filter/num_unreadable"] == 0
    assert metrics["filter/num_images"] == len(rows) == 9
    first = open_image(folder / "moving.gif").getpixel((20, 18))
    assert isinstance(first, tuple)
    assert first[0] > 150


def test_unreadable_images_are_named_and_the_others_go_on(folder: Path) -> None:
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.gif").write_text("not an image")
    (folder / "notes.txt").write_text("ignored")
    metrics, rows = report(folder)
    assert metrics["filter/num_unreadable"] == 3
    assert metrics["filter/num_images"] == 2
    assert {row["file"] for row in rows if "error" in row} == {"torn.png", "empty.jpg", "text.gif"}


def test_a_folder_of_unreadable_images_is_an_error(folder: Path) -> None:
    path = write_filter(folder.parent / "f.safetensors", folder)
    for file in folder.glob("*.*"):
        file.write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"none of the 2 images .* blue\.jpg"):
        report(folder, filter_path=path)


def test_a_text_file_without_lines_is_refused(folder: Path) -> None:
    (folder.parent / "Q5.txt").touch()
    with pytest.raises(ValueError, match=r"filter\.texts has 0 lines"):
        report(folder, texts=str(folder.parent / "Q5.txt"))


def test_a_study_of_another_form_is_named(folder: Path) -> None:
    (folder.parent / "study.json").write_text('{"unrelated": []}')
    with pytest.raises(ValueError, match=r"study\.json is no study; expected .*'concepts'"):
        report(folder, study=str(folder.parent / "study.json"))


def test_the_study_measures_what_it_is_told(folder: Path) -> None:
    clip = load_clip(TINY)
    with torch.no_grad():
        z = clip.model.encode_text(clip.tokenizer(["a red cat", "the old man"]))
    path = folder.parent / "texts.safetensors"
    save_file({"embeddings": z, "thresholds": torch.tensor([0.9, 0.9])}, path)
    study = {
        "concepts": [
            {"text": "a red cat", "paraphrases": ["the red cat", "cat"]},
            {"text": "the old man", "paraphrases": ["an old man"]},
        ],
        "unrelated": ["two books on a table", "green"],
    }
    (folder.parent / "study.json").write_text(json.dumps(study))
    (folder / "captions.json").write_text(json.dumps({"red.png": "a red cat", "blue.jpg": "x"}))
    (folder.parent / "Q5.txt").write_text("a red cat\nthe young man\n")
    metrics, _ = report(
        folder,
        filter_path=path,
        study=str(folder.parent / "study.json"),
        texts=str(folder.parent / "Q5.txt"),
    )
    assert metrics["filter/recovered_exactly"] == 1
    assert 0 <= metrics["filter/text_false_alarm"] <= 1
    assert 0 <= metrics["filter/image_miss"] <= 1
    written = json.loads((folder.parent / "out" / "study.json").read_text())
    assert written["concepts"][0]["recovered"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert written["concepts"][0]["recovered"]["blocked"]
    with Image.open(folder.parent / "out" / "thresholds.png") as figure:
        assert figure.width > 500


@pytest.mark.parametrize(
    ("captions", "has_curve", "has_false_alarm"),
    [
        ({"red.png": "a red cat", "blue.jpg": "x"}, True, True),
        ({"red.png": "a red cat"}, False, False),
        ({"red.png": "a red cat", "blue.jpg": "a red cat"}, False, False),
        ({"red.png": "a red cat", "blue.jpg": "the old man"}, True, False),
        ({}, False, False),
    ],
)
def test_a_study_measures_what_its_images_allow(
    folder: Path, captions: dict[str, str], has_curve: bool, has_false_alarm: bool
) -> None:
    study = {
        "concepts": [
            {"text": "a red cat", "paraphrases": ["the red cat"]},
            {"text": "the old man", "paraphrases": []},
        ],
        "unrelated": ["green"],
    }
    (folder.parent / "study.json").write_text(json.dumps(study))
    (folder / "captions.json").write_text(json.dumps(captions))
    metrics, _ = report(folder, study=str(folder.parent / "study.json"))
    assert ("filter/images_equal_error" in metrics) == has_curve
    assert ("filter/image_false_alarm" in metrics) == has_false_alarm
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("text", ["[]", '{"a.png": 1}', "{"])
def test_captions_of_another_form_are_named(folder: Path, text: str) -> None:
    (folder / "captions.json").write_text(text)
    with pytest.raises(ValueError, match=r"captions\.json is no list of captions; expected"):
        report(folder)


@pytest.mark.parametrize(("paraphrases", "unrelated"), [([], ["green"]), (["cat"], [])])
def test_a_study_of_nothing_is_refused(folder: Path, paraphrases: list, unrelated: list) -> None:
    concepts = [{"text": "a red cat", "paraphrases": paraphrases}] * 2
    study = {"concepts": concepts, "unrelated": unrelated}
    (folder.parent / "study.json").write_text(json.dumps(study))
    with pytest.raises(ValueError, match=r"study\.json is no study; .* none of them empty"):
        report(folder, study=str(folder.parent / "study.json"))


def test_a_recovered_text_counts_by_its_tokens(folder: Path) -> None:
    study = {
        "concepts": [{"text": t, "paraphrases": ["cat"]} for t in ("a red-eyed cat", "green")],
        "unrelated": ["green"],
    }
    (folder.parent / "study.json").write_text(json.dumps(study))
    (folder.parent / "Q5.txt").write_text("a red - eyed cat\ngrey\n")
    metrics, _ = report(
        folder, study=str(folder.parent / "study.json"), texts=str(folder.parent / "Q5.txt")
    )
    assert metrics["filter/recovered_exactly"] == 1


def test_bad_input_is_refused(folder: Path, tmp_path: Path) -> None:
    path = write_filter(tmp_path / "f.safetensors", folder)
    bare = write_filter(tmp_path / "bare.safetensors", folder, threshold=None)
    empty = tmp_path / "empty"
    empty.mkdir()

    def make(images: Path = folder, file: Path = path, **kwargs: Any) -> FilterReport:
        return FilterReport(str(tmp_path / "o"), TINY, str(images), str(file), **kwargs)

    with pytest.raises(FileNotFoundError, match=r"data\.path: there is no folder"):
        make(images=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"filter\.path"):
        make(file=tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image"):
        make(images=empty)
    with pytest.raises(ValueError, match="no thresholds"):
        make(file=bare)
    assert make(file=bare, threshold=0.3).filter.thresholds.tolist() == pytest.approx([0.3, 0.3])
    (tmp_path / "bad.safetensors").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="not a safetensors file"):
        make(file=tmp_path / "bad.safetensors")
    (tmp_path / "lines.txt").write_text("one\n")
    with pytest.raises(ValueError, match="1 lines, the filter 2"):
        make(texts=str(tmp_path / "lines.txt"))
    save_file(
        {"embeddings": torch.ones(1, 5), "thresholds": torch.ones(1)}, tmp_path / "w.safetensors"
    )
    with pytest.raises(ValueError, match="5 dimensions"):
        make(file=tmp_path / "w.safetensors")()
    spec = {"name": "b", "family": "clip", "path": str(write_bert(tmp_path / "b")), "text": "hf"}
    with pytest.raises(ValueError, match="reads texts only"):
        FilterReport(str(tmp_path / "o"), spec, str(folder), str(path))()
