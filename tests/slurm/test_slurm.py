"""The commands of docs/euler.md on a real Slurm of two nodes, which is started for it.

Two nodes by two ranks, a preempted job, killed jobs, a damaged checkpoint, a sweep through the
launcher, predictions shared out, and mistakes refused. Weights are compared with those of one
uninterrupted run.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_overrides

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(0)]
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
#: Seconds that a job may take; more on a machine that does much else.
PATIENCE = float(os.environ.get("TRIDENT_SLURM_PATIENCE", "180"))
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def install_slurm() -> None:
    """Install Slurm where that is allowed; skip only where it is not to be had."""
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged", "sbatch")):
        return
    if shutil.which("apt-get") is None:
        pytest.skip("Slurm is not installed, and there is no apt-get to install it")
    subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Slurm cannot be installed: {done.stderr.strip()[-300:]}")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


class Cluster:
    """A running Slurm, and the folder in which jobs are submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        cluster_file = folder / "cluster.sh"
        cluster_file.write_text(
            f"export TRIDENT_VENV={sys.prefix} PATH={Path(sys.executable).parent}:$PATH\n"
            f"export TRIDENT_GPU=rtx_3090 TRIDENT_LOGIN_HOST=login HF_HOME={folder}/huggingface\n"
        )
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PYTEST"))}
        self.environment = {
            **inherited,
            "SLURM_CONF": str(folder / "slurm" / "slurm.conf"),
            "TRIDENT_OUTPUTS": str(self.outputs),
            "TRIDENT_CLUSTER": str(cluster_file),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "USER": os.environ.get("USER", "root"),
        }
        self.cluster_file = cluster_file

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout[-2000:] + done.stderr[-3000:]
        assert not check or done.returncode == 0, f"{command}:\n{said}"
        return done

    def submit(self, *arguments: object) -> str:
        small = ("--cpus-per-task=1", "--mem-per-cpu=500", f"--output={self.folder}/%j.out")
        return self.run("sbatch", "--parsable", *small, *arguments).stdout.strip()

    def state(self, job: str) -> str:
        shown = self.run("scontrol", "show", "job", job).stdout
        return re.findall(r"JobState=(\w+)", shown)[0]

    def wait(self, job: str, *states: str) -> None:
        def is_there() -> bool:
            state = self.state(job)
            wrong = state in ENDED and state not in states
            assert not wrong, f"job {job} is {state}:\n{self.log(job)}"
            return state in states

        wait_for(is_there, f"{states} of job {job}, which is {self.state(job)}")

    def again(self, job: str) -> None:
        """Start a requeued job now, instead of after the two minutes that Slurm waits."""
        self.wait(job, "PENDING", "RUNNING")
        time.sleep(3)  # a job started in the second in which it ended has its credential revoked
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def log(self, job: str) -> str:
        path = self.folder / f"{job}.out"
        return path.read_text(errors="replace") if path.exists() else "(no log)"

    def run_folder(self, job: str) -> Path:
        return self.outputs / "train" / "lora" / f"slurm-{job}-0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("starting Slurm needs root")
    install_slurm()
    folder = Path(tempfile.mkdtemp(prefix="trident-slurm-"))
    folder.chmod(0o755)  # munge wants its socket in a place that all can reach
    cluster = Cluster(folder)
    try:
        cluster.run(HERE / "start.sh", folder / "slurm")
        yield cluster
    finally:
        cluster.run(HERE / "stop.sh", folder / "slurm")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def arguments(cluster: Cluster) -> list[str]:
    """A run of 32 steps in two epochs, with nothing after it; the state is saved every 3."""
    settings = {
        "data__num_train": 128,
        "data__max_source_length": 1000,
        "data__max_target_length": 1000,
        "callbacks__last__every_n_steps": 3,
        "test": "false",
        "baseline": "null",
        "summary": "null",
    }
    return tiny_overrides(cluster.folder, **settings)


@pytest.fixture(scope="module")
def uninterrupted(cluster: Cluster, arguments: list[str]) -> dict[str, torch.Tensor]:
    """The weights of two processes that Lightning starts, without Slurm."""
    folder = cluster.folder / "uninterrupted"
    cluster.run(
        sys.executable, "train.py", *arguments, "trainer.devices=2", f"hydra.run.dir={folder}"
    )
    return weights(folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    return saved["state_dict"]


def assert_equal(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def on_two_nodes(*more: object) -> list[object]:
    return ["--nodes=2", "--ntasks-per-node=1", *more, "scripts/euler/train.sbatch"]


def wait_for_steps(cluster: Cluster, job: str, newer_than: float = 0.0) -> Path:
    path = cluster.run_folder(job) / "checkpoints" / "last.ckpt"

    def is_saved() -> bool:
        state = cluster.state(job)
        assert state not in ENDED, f"job {job} is {state}:\n{cluster.log(job)}"
        return path.exists() and path.stat().st_mtime > newer_than

    wait_for(is_saved, f"a state of job {job}")
    return path


def ranks_of(cluster: Cluster, job: str) -> list[int]:
    """Return the process ids of a job's ranks."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"train.py" in words and words[0].endswith(b"python") and b"srun" not in words[0]:
            names = dict(item.split(b"=", 1) for item in environment if b"=" in item)
            if names.get(b"SLURM_JOB_ID") == job.encode() and b"SLURM_PROCID" in names:
                found.append(int(entry.name))
    return sorted(found)


# --------------------------------------------------------------------------------- runs


def test_two_nodes_by_two_ranks(
    cluster: Cluster, arguments: list[str], uninterrupted: dict[str, torch.Tensor]
) -> None:
    """Four processes with batches of two take the steps of two processes with batches of four."""
    given = [item for item in arguments if not item.startswith("data.batch_size")]
    shape = ("--nodes=2", "--ntasks-per-node=2")
    job = cluster.submit(*shape, "scripts/euler/train.sbatch", *given, "data.batch_size=2")
    cluster.wait(job, "COMPLETED")
    mine = weights(cluster.run_folder(job))
    for name, value in uninterrupted.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-5)
    folders = list(cluster.outputs.glob(f"train/lora/*{job}*"))
    assert folders == [cluster.run_folder(job)]  # all ranks agree on the run's folder


def test_a_preempted_job_requeues_and_goes_on_by_itself(
    cluster: Cluster, arguments: list[str], uninterrupted: dict[str, torch.Tensor]
) -> None:
    job = cluster.submit(*on_two_nodes("--gpus-per-node=rtx_3090:1"), *arguments)
    path = wait_for_steps(cluster, job)
    cluster.run("scancel", "--signal=USR1", job)
    cluster.again(job)
    saved = torch.load(path, weights_only=True)["global_step"]
    assert 0 < saved < 32
    cluster.wait(job, "COMPLETED")
    assert "Stopped by SIGUSR1" in cluster.log(job)
    assert "back in the queue" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)
    assert_equal(weights(cluster.run_folder(job)), uninterrupted)


def test_a_killed_rank_then_a_killed_job_with_a_damaged_checkpoint(
    cluster: Cluster, arguments: list[str], uninterrupted: dict[str, torch.Tensor]
) -> None:
    job = cluster.submit(*on_two_nodes(), *arguments)
    path = wait_for_steps(cluster, job)
    ranks = ranks_of(cluster, job)
    assert len(ranks) == 2, ranks
    os.kill(ranks[-1], signal.SIGKILL)
    cluster.wait(job, "FAILED")  # the other rank does not wait for it until the time is up
    assert torch.load(path, weights_only=True)["global_step"] < 32

    killed = time.time()
    cluster.run("scontrol", "requeue", job)
    cluster.again(job)
    wait_for_steps(cluster, job, newer_than=killed)
    cluster.run("scancel", "--signal=KILL", job)
    cluster.wait(job, "FAILED", "CANCELLED")
    assert torch.load(path, weights_only=True)["global_step"] < 32
    path.write_bytes(path.read_bytes()[:-1000])  # as a file system leaves it that loses its end

    cluster.run("scontrol", "requeue", job)
    cluster.again(job)
    cluster.wait(job, "COMPLETED")
    assert "last.ckpt is damaged" in cluster.log(job)
    assert_equal(weights(cluster.run_folder(job)), uninterrupted)


def test_a_sweep_through_the_launcher(cluster: Cluster, arguments: list[str]) -> None:
    sweep = cluster.folder / "sweep"
    drop = ("test=", "data.num_train")
    given = [item for item in arguments if not item.startswith(drop)]
    cluster.run(
        sys.executable,
        "train.py",
        "-m",
        "model=lora,adapter",
        "hydra/launcher=euler",
        f"euler.cluster_file={cluster.cluster_file}",
        "euler.cpus_per_task=1",
        "euler.mem_per_cpu=500",
        "euler.wait=true",
        f"hydra.sweep.dir={sweep}",
        "data.num_train=20",
        *given,
    )
    found = {
        json.loads(path.read_text())["method"]: path.parent for path in sweep.glob("*/metrics.json")
    }
    assert set(found) == {"lora", "adapter"}
    for folder in found.values():
        assert len((folder / "predictions.jsonl").read_text().splitlines()) == 7


def test_predictions_are_shared_out_over_nodes(cluster: Cluster) -> None:
    drop = ("trainer.max_epochs", "data.num_train", "data.num_val")
    given = [item for item in tiny_overrides(cluster.folder) if not item.startswith(drop)]
    cluster.environment["TRIDENT_ENTRY"] = "eval.py"
    try:
        job = cluster.submit(*on_two_nodes(), "task=solve", *given)
    finally:
        del cluster.environment["TRIDENT_ENTRY"]
    cluster.wait(job, "COMPLETED")
    folder = cluster.outputs / "eval" / "solve" / f"slurm-{job}-0"
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    assert len({row["question"] for row in rows}) == 7
    assert json.loads((folder / "metrics.json").read_text())["test/num_problems"] == 7


# ----------------------------------------------------------------------------- mistakes


def test_one_task_for_two_devices_is_refused(cluster: Cluster, arguments: list[str]) -> None:
    done = cluster.run(
        *("srun", "--job-name=two", "--nodes=1", "--ntasks-per-node=1", "--mem-per-cpu=500"),
        *(sys.executable, "train.py", *arguments, "trainer.devices=2"),
        check=False,
    )
    assert done.returncode == 2
    assert "Slurm gave the job 1 task(s)" in done.stderr
    assert "--ntasks-per-node=2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("euler.gpu=h100", "trainer=auto"),
            "h100 is no GPU type of this cluster; choose one of",
        ),
        (("trainer=auto", "trainer.devices=3"), "none has more than 2"),
        (("trainer=cpu", "euler.mem_per_cpu=900G"), "Slurm refuses the job"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_before_the_queue(
    overrides: tuple[str, ...], message: str, cluster: Cluster
) -> None:
    given = [item for item in tiny_overrides(cluster.folder) if not item.startswith("trainer=")]
    done = cluster.run(
        *(sys.executable, "train.py", "-m", "hydra/launcher=euler", "model=lora", *given),
        f"euler.cluster_file={cluster.cluster_file}",
        f"hydra.sweep.dir={cluster.folder}/refused",
        *overrides,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "refused" not in cluster.run("squeue", "--noheader", "--format=%o").stdout


def test_tensorboard_says_how_to_reach_it_and_how_to_stop_it(cluster: Cluster) -> None:
    cluster.outputs.mkdir(exist_ok=True)
    job = cluster.submit("scripts/euler/tensorboard.sbatch", cluster.outputs)
    port = 20000 + int(job) % 20000

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}", timeout=5) as page:
                return page.status == 200
        except OSError:
            assert cluster.state(job) not in ENDED, cluster.log(job)
            return False

    wait_for(answers, "TensorBoard")
    log = cluster.log(job)
    assert f"ssh -N -L {port}:localhost:{port} -J" in log
    assert f"scancel {job}" in log
    cluster.run("scancel", job)


def test_jupyter_keeps_its_token_or_says_what_is_missing(cluster: Cluster) -> None:
    job = cluster.submit("scripts/euler/jupyter.sbatch")
    has_lab = cluster.run(sys.executable, "-c", "import jupyterlab", check=False).returncode == 0
    if not has_lab:
        cluster.wait(job, "FAILED")
        assert "setup.sh --jupyter" in cluster.log(job)
        return
    wait_for(lambda: "token=" in cluster.log(job), "the address of JupyterLab")
    assert re.search(r"ssh -N -L \d+:[\d.]+:\d+ ", cluster.log(job))
    cluster.run("scancel", job)
