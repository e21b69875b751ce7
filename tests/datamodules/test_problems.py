"""The datamodule: splits and their sources, targets, batches, shares of ranks, resume."""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from src.algorithms.answers import parse_output
from src.datamodules.problems import SOURCES, MathProblems, target_text
from src.datamodules.readers import mask_numbers

GSM8K = [
    {"question": f"Bo has {n} pens and buys {n + 1} more on day {n}. How many has Bo?",
     "answer": f"{n}+{n + 1}=<<{n}+{n + 1}={2 * n + 1}>>{2 * n + 1}\n#### {2 * n + 1}"}
    for n in range(2, 22)
]  # fmt: skip
SVAMP = [
    {"ID": str(n), "Body": f"Kim had {n} kites. He lost {n - 1} of them.",
     "Question": "How many kites are left?", "Equation": f"( {n}.0 - {n - 1}.0 )", "Answer": 1.0,
     "Type": "Subtraction"}
    for n in range(5, 12)
]  # fmt: skip


class Characters:
    """A tokenizer of one token a character, which counts its calls."""

    pad_token_id = 0

    def __init__(self):
        self.calls = 0

    def __call__(self, texts):
        self.calls += 1
        return {"input_ids": [[*(ord(c) for c in text), 1] for text in texts]}

    @staticmethod
    def decode(ids):
        return "".join(chr(i) for i in ids if i > 1)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, GSM8K)))
    (tmp_path / "SVAMP.json").write_text(json.dumps(SVAMP))
    return tmp_path


def made(**kwargs):
    sizes = {"num_train": 60, "num_val": 11, "num_test": 13}
    return MathProblems(Characters(), **{**sizes, **kwargs})


def on_rank(data, rank, world_size):
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    return data


def test_batches_hold_what_their_documentation_says():
    data = made(batch_size=4, mask_numbers=True)
    data.setup("fit")
    data.setup("test")
    train, test = next(iter(data.train_dataloader())), next(iter(data.test_dataloader()))
    assert set(train) == {"input_ids", "attention_mask", "labels", "index"}
    assert set(test) == {*train, "question", "gold", "tolerance", "numbers"}
    for batch, split in ((train, "train"), (test, "test")):
        for name in ("input_ids", "attention_mask", "labels", "index"):
            assert batch[name].dtype == torch.int64
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert torch.equal(batch["attention_mask"] == 0, batch["input_ids"] == 0)
        assert (batch["labels"] != 0).all()
        for row, index in enumerate(batch["index"].tolist()):
            problem = data.problems[split][index]
            source = Characters.decode(batch["input_ids"][row].tolist())
            target = Characters.decode(batch["labels"][row].tolist())
            assert source == "solve: " + problem.masked
            assert target == problem.equation
            assert parse_output(target, "equation", problem.numbers) == problem.answer
            if split == "test":
                assert batch["question"][row] == problem.question
                assert Fraction(batch["gold"][row]) == problem.answer
                assert Fraction(batch["tolerance"][row]) == problem.tolerance
                assert batch["numbers"][row] == problem.numbers
    assert any((train["labels"] == -100).flatten().tolist())


@pytest.mark.parametrize("target", ["equation", "rationale", "answer"])
@pytest.mark.parametrize("equation_order", ["infix", "prefix"])
def test_targets_are_worth_the_answer(target, equation_order):
    data = made(target=target, equation_order=equation_order)
    for problem in data.load("train"):
        for mask in (False, True) if target == "equation" else (False,):
            text = target_text(problem, target, mask, equation_order)
            assert text is not None
            assert parse_output(text, target, problem.numbers) == problem.answer
            assert ("number" in text) == mask
            if target == "equation":
                assert (text[0] in "+-*/") == (equation_order == "prefix")


def test_tokens_are_made_once():
    data = made()
    data.setup("fit")
    calls = data.tokenizer.calls
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        assert len(list(loader)) == len(loader)
        list(data.val_dataloader())
    data.setup("fit")
    assert data.tokenizer.calls == calls == 4  # sources and targets of two splits


def test_same_seed_same_batches():
    def batches(seed):
        data = made(seed=seed, batch_size=8)
        data.setup("fit")
        return [batch["input_ids"].tolist() for batch in data.train_dataloader()]

    assert batches(1) == batches(1)
    assert batches(1) != batches(2)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_loses_and_doubles_nothing(world_size, stage):
    loader = {"validate": "val_dataloader", "test": "test_dataloader"}.get(
        stage, "predict_dataloader"
    )
    seen = []
    for rank in range(world_size):
        data = on_rank(made(batch_size=4), rank, world_size)
        data.setup(stage)
        seen += [i for batch in getattr(data, loader)() for i in batch["index"].tolist()]
    count = 11 if stage == "validate" else 13
    assert sorted(seen) == list(range(count))


def test_skipped_problems_are_left_out_of_prediction_only():
    data = made(batch_size=4)
    data.setup("predict")
    data.skip({0, 3, 12})
    shares = []
    for rank in range(2):
        on_rank(data, rank, 2)
        shares += [i for batch in data.predict_dataloader() for i in batch["index"].tolist()]
    assert sorted(shares) == sorted(set(range(13)) - {0, 3, 12})
    on_rank(data, 0, 1)
    assert sum(len(batch["index"]) for batch in data.test_dataloader()) == 13
    data.skip(set(range(13)))
    assert list(data.predict_dataloader()) == []


def test_two_ranks_train_on_what_one_process_would_see():
    whole = made(batch_size=8)
    whole.setup("fit")
    ranks = [on_rank(made(batch_size=4), rank, 2) for rank in range(2)]
    for data in ranks:
        data.setup("fit")
    steps = zip(whole.train_dataloader(), *(data.train_dataloader() for data in ranks), strict=True)
    for one, first, second in steps:
        together = first["index"].tolist() + second["index"].tolist()
        assert sorted(together) == sorted(one["index"].tolist())


def test_each_split_comes_from_its_own_place(files):
    data = made(test=str(files / "SVAMP.json"), num_test=None)
    data.setup("fit")
    data.setup("test")
    assert {problem.meta["source"] for problem in data.problems["train"]} == {"procedural"}
    assert {problem.meta["source"] for problem in data.problems["test"]} == {"svamp"}
    assert len(data.problems["test"]) == 7

    data = made(train=str(files / "train.jsonl"), num_train=None, num_val=None, val_fraction=0.25)
    data.setup("fit")
    assert (len(data.problems["train"]), len(data.problems["val"])) == (15, 5)
    assert {problem.meta["source"] for problem in data.problems["val"]} == {"gsm8k"}
    data.setup("test")
    assert {problem.meta["source"] for problem in data.problems["test"]} == {"procedural"}


def test_held_out_problems_depend_on_the_seed_and_share_no_wording(tmp_path):
    rows = [
        {"question": f"{name} has {n} pens and loses {m}. How many are left?",
         "answer": f"{n}-{m}=<<{n}-{m}={n - m}>>{n - m}\n#### {n - m}"}
        for name in ("Al", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal")
        for n, m in ((9, 3), (8, 2), (7, 5))
    ]  # fmt: skip
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    def split(seed):
        data = made(train=str(path), seed=seed, val_fraction=0.3, num_train=None)
        data.setup("fit")
        parts = [{p.question for p in data.problems[name]} for name in ("train", "val")]
        masked = [{mask_numbers(question)[0] for question in part} for part in parts]
        assert not masked[0] & masked[1]
        assert len(parts[0] | parts[1]) == 24
        return parts[1]

    assert split(0) == split(0)
    assert len({frozenset(split(seed)) for seed in range(4)}) > 1


def test_split_and_seed_are_logged(files, caplog):
    with caplog.at_level(logging.INFO):
        data = made(train=str(files / "train.jsonl"), seed=5, num_train=None)
        data.setup("fit")
    assert "held out 2 of 20 training problems for validation, seed 5" in caplog.text
    assert data.describe()["seed"] == 5
    assert data.describe()["num_train"] == 18


def test_too_long_is_left_out_of_training_counted_and_never_cut(files, caplog):
    limit = max(len(row["question"]) for row in GSM8K) + len("solve: ")  # end token: one too many
    data = MathProblems(
        Characters(), train=str(files / "train.jsonl"), val=str(files / "train.jsonl"),
        max_source_length=limit,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    dropped = 20 - len(data.problems["train"])
    assert 0 < dropped < 20
    assert list(data.num_left_out.values()).count(dropped) == 1
    assert f"{dropped} of 20 train problems left out" in caplog.text
    assert f"{dropped} of 20 val problems are longer" in caplog.text
    longest = max(batch["input_ids"].shape[1] for batch in data.val_dataloader())
    assert longest == limit + 1
    data = MathProblems(Characters(), train=str(files / "train.jsonl"), max_source_length=5)
    with pytest.raises(ValueError, match="nothing is left"):
        data.setup("fit")


def test_problems_without_the_target_are_left_out_of_training_only(tmp_path):
    rows = [*GSM8K, {"question": "Bo has no pens. How many?", "answer": "None.\n#### 0"}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = MathProblems(Characters(), train=str(path), val=str(path), test=str(path))
    data.setup("fit")
    assert len(data.problems["train"]) == 20
    assert data.num_left_out["train/without a equation"] == 1
    assert len(data.problems["val"]) == 21


def test_bad_rows_are_counted(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*map(json.dumps, GSM8K), '{"question": "?"}']))
    with pytest.raises(ValueError, match="line 21, field answer"):
        made(train=str(path)).setup("fit")
    data = made(train=str(path), on_bad_row="skip")
    data.setup("fit")
    assert data.describe()["train/bad_rows"] == 1


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="grade-school-math"):
        made(source="gsm8k", train=str(tmp_path / "no.jsonl")).setup("fit")
    with pytest.raises(ValueError, match=r"data\.train is not set.*mawps-asdiv-a_svamp"):
        MathProblems(Characters(), source="svamp").setup("fit")
    with pytest.raises(ValueError, match=r"data\.test is not set.*nlu-asdiv-dataset"):
        MathProblems(Characters(), source="asdiv").setup("test")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"source": "mathqa"}, ", ".join(SOURCES)),
        ({"target": "sum"}, "equation, rationale, answer"),
        ({"equation_order": "postfix"}, "infix, prefix"),
        ({"on_bad_row": "warn"}, "error, skip"),
        ({"target": "answer", "mask_numbers": True}, "mask_numbers"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_test": 0}, "num_test is 0"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        made(**kwargs)


class Recorder(LightningModule):
    """Learns nothing; notes the batches it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return self.weight.sum()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_interrupted_training_goes_on_with_the_same_batches(tmp_path):
    checkpoint = tmp_path / "middle.ckpt"

    class Saver(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 10:
                trainer.save_checkpoint(checkpoint)

    def fit(ckpt_path=None):
        data = made(batch_size=8)  # seven batches an epoch
        module = Recorder()
        trainer = Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=20,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            default_root_dir=tmp_path, limit_val_batches=0, callbacks=[] if ckpt_path else Saver(),
        )  # fmt: skip
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
        return module.seen

    whole = fit()
    assert [epoch for epoch, _ in whole] == [0] * 7 + [1] * 7 + [2] * 6
    assert fit(checkpoint) == whole[10:]
