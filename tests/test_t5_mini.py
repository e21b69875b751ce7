"""The commands that make t5_mini and adapt it to SVAMP, on tiny sizes, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, script, *overrides],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_the_recipe_runs_and_leaves_a_backbone(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Ann has {n} pens and buys {n + 3} more. How many has she?",
            "answer": f"She has {n}+{n + 3}=<<{n}+{n + 3}={2 * n + 3}>>{2 * n + 3}.\n"
            f"#### {2 * n + 3}",
        }
        for n in range(2, 9)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder = tmp_path / "run"
    run(
        "train.py", "experiment=pretrain_t5_mini", f"data.path={path}", "data.num_steps=4",
        "data.batch_size=4", "data.num_val=4", "model.word_embeddings=null",
        "model.config.d_model=16", "model.config.d_ff=16", "model.config.num_layers=1",
        "model.config.num_decoder_layers=1", "trainer.val_check_interval=2",
        "trainer.precision=32-true", "trainer.accelerator=cpu", f"hydra.run.dir={folder}",
    )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["val/loss"] > 0
    names = {file.name for file in (folder / "t5_mini").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


def test_adaptation_on_published_files_is_measured_on_svamp(tmp_path: Path) -> None:
    nouns = ["kites", "drums", "owls", "hats", "keys", "rings", "pens", "cups"]
    lines = ["Question,Numbers,Equation,Answer"]
    lines += [
        f'"Kim has number0 {noun} . Lee gave Kim number1 {noun} . How many {noun} has Kim ?",'
        "2.0 3.0,+ number0 number1,5.0"
        for noun in nouns
    ]
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    problem = {
        "ID": "x-1", "Body": "Kim had 7 cups. She broke 2 of them", "Type": "Subtraction",
        "Question": "How many cups are left?", "Equation": "( 7.0 - 2.0 )", "Answer": 5.0,
    }  # fmt: skip
    (tmp_path / "SVAMP.json").write_text(json.dumps([problem] * 3), encoding="utf-8")
    trained, scored = tmp_path / "trained", tmp_path / "scored"
    run(
        "train.py", "experiment=svamp", "model=full", f"data.train={tmp_path / 'train.csv'}",
        "data.num_generated=8", "data.num_distracted=4", "data.num_tales=8",
        "data.num_procedural=8", "data.val_fraction=0.3",
        "trainer.max_epochs=2", "trainer.accelerator=cpu", f"hydra.run.dir={trained}",
    )  # fmt: skip
    # No problem is solved after either epoch: a choice by accuracy would keep the first.
    kept = torch.load(trained / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    last = torch.load(trained / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    assert kept["global_step"] == last["global_step"] > 0
    for name, weight in last["state_dict"].items():
        torch.testing.assert_close(kept["state_dict"][name], weight, rtol=0, atol=0)
    run(
        "eval.py", "experiment=svamp", f"ckpt_path={trained}",
        f"data.test={tmp_path / 'SVAMP.json'}", "trainer.accelerator=cpu",
        f"hydra.run.dir={scored}",
    )  # fmt: skip
    metrics = json.loads((scored / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["test/accuracy"] <= 1
    rows = (scored / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3
