"""Compute-optimal allocation: closed forms, the audit of a run, and laws fitted to runs.

Two models of the loss of a language model with ``N`` parameters trained on ``D`` tokens:

* limited by one factor, ``L(N) = A / N^alpha`` and ``L(D) = B / D^beta`` (Kaplan et al. 2020,
  arXiv 2001.08361): :class:`BalancedLaw` makes the two limits equal and takes ``C = N * D``;
* jointly, ``L = E + A / N^alpha + B / D^beta`` with ``C = k * N * D`` and ``k = 6`` unless said
  otherwise (Hoffmann et al. 2022, arXiv 2203.15556): :class:`JointLaw`.

:func:`fit_joint` is their approach 3 (Huber loss on the log of the loss, L-BFGS from a grid of
starts, bootstrap intervals), :func:`fit_isoflop` their approach 2 (one parabola for each compute
budget). After the replication by Besiroglu et al. 2024 (arXiv 2404.10102) the Huber loss is
summed and not averaged, and the optimiser runs until it has converged.

Left out: laws in which the limits interact, repeated data, and learning-rate schedules that do
not end with the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]

#: Training FLOPs for each parameter and token: 2 forward, 4 backward.
FLOPS_PER_PARAMETER_TOKEN = 6.0


# --------------------------------------------------------------------------- closed forms


@dataclass(frozen=True)
class Audit:
    """What is optimal at the compute of one run.

    Attributes:
        compute: ``C = N * D`` of the run.
        n_opt: Optimal parameters at that compute, ``C^x``.
        d_opt: Optimal tokens at that compute, ``C^y``.
        d_for_n: Tokens for which the run's own ``N`` would be optimal, ``N^(y/x)``.
        n_for_d: Parameters for which the run's own ``D`` would be optimal, ``D^(x/y)``.
        oversize: ``N / n_opt``; above 1 the model is too large and short of data.
    """

    compute: float
    n_opt: float
    d_opt: float
    d_for_n: float
    n_for_d: float
    oversize: float


def audit(n: float, d: float, x: float, y: float, tolerance: float = 1e-6) -> Audit:
    """Compare a run with the allocation ``N = C^x``, ``D = C^y``, ``C = N * D``.

    Args:
        n: Parameters of the run, above 1.
        d: Training tokens of the run, above 1.
        x: Exponent of the parameters, in (0, 1).
        y: Exponent of the tokens, in (0, 1).
        tolerance: How far ``x + y`` may be from 1.

    Returns:
        The audit.

    Raises:
        ValueError: If a quantity is out of range or the exponents do not sum to one.
    """
    _require_above("n", n, 1.0)
    _require_above("d", d, 1.0)
    for name, value in (("x", x), ("y", y)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"the exponent {name} is {value}, it must lie between 0 and 1.")
    if abs(x + y - 1.0) > tolerance:
        raise ValueError(
            f"the exponents x={x} and y={y} sum to {x + y:g}, they must sum to 1 because C = N*D."
        )
    compute = n * d
    n_opt, d_opt = compute**x, compute**y
    return Audit(compute, n_opt, d_opt, n ** (y / x), d ** (x / y), n / n_opt)


@dataclass(frozen=True)
class BalancedLaw:
    """Two limits that act one at a time: ``L(N) = A / N^alpha`` and ``L(D) = B / D^beta``.

    Attributes:
        A: Scale of the limit by parameters, positive.
        alpha: Exponent of the parameters, positive.
        B: Scale of the limit by data, positive.
        beta: Exponent of the data, positive.

    Raises:
        ValueError: If a coefficient is not positive.
    """

    A: float
    alpha: float
    B: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("A", "alpha", "B", "beta"):
            _require_above(name, getattr(self, name), 0.0)

    def data_for(self, n: float) -> float:
        """Return the tokens at which both limits are equal: ``(B/A)^(1/beta) N^(alpha/beta)``."""
        return (self.B / self.A) ** (1 / self.beta) * n ** (self.alpha / self.beta)

    def exponent(self, compute: float) -> float:
        """Return the exact ``x`` with ``N = C^x`` at the point of equal limits and ``C = N*D``.

        ``x(C) = (ln C - ln(B/A)/beta) / ((alpha/beta + 1) ln C)``

        Args:
            compute: ``C``, above 1.

        Raises:
            ValueError: If ``compute`` is not above 1.
        """
        _require_above("compute", compute, 1.0)
        log_c = math.log(compute)
        shift = math.log(self.B / self.A) / self.beta
        return (log_c - shift) / ((self.alpha / self.beta + 1) * log_c)

    @property
    def limit(self) -> float:
        """``beta / (alpha + beta)``: what :meth:`exponent` tends to for large ``C``."""
        return self.beta / (self.alpha + self.beta)

    def split(self, compute: float) -> tuple[float, float]:
        """Return ``(N, D)`` with equal limits and ``N * D = C``."""
        n = compute ** self.exponent(compute)
        return n, compute / n


@dataclass(frozen=True)
class JointLaw:
    """``L(N, D) = E + A / N^alpha + B / D^beta``.

    Attributes:
        E: Irreducible loss, at least 0 (nats a token).
        A: Scale of the parameter term, positive.
        B: Scale of the data term, positive.
        alpha: Exponent of the parameters, positive.
        beta: Exponent of the data, positive.

    Raises:
        ValueError: If a coefficient is out of range.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not self.E >= 0:
            raise ValueError(f"E is {self.E}, it must be at least 0.")
        for name in ("A", "B", "alpha", "beta"):
            _require_above(name, getattr(self, name), 0.0)

    def loss(self, n: ArrayLike, d: ArrayLike) -> FloatArray:
        """Return the loss for parameters ``n`` and tokens ``d`` (broadcast together)."""
        n, d = np.asarray(n, float), np.asarray(d, float)
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    @property
    def exponent(self) -> float:
        """``beta / (alpha + beta)``: the optimal ``N`` grows as ``C`` to this power."""
        return self.beta / (self.alpha + self.beta)

    def optimum(
        self, compute: ArrayLike, flops: float = FLOPS_PER_PARAMETER_TOKEN
    ) -> tuple[FloatArray, FloatArray]:
        """Return the ``(N, D)`` of least loss with ``flops * N * D = C``.

        ``N = G (C/k)^(beta/(alpha+beta))``, ``D = (C/k)^(alpha/(alpha+beta)) / G`` with
        ``G = (alpha A / (beta B))^(1/(alpha+beta))`` (Hoffmann et al., Eq. 4). The two reducible
        terms are not equal there: they stand as ``beta : alpha``.

        Args:
            compute: Training FLOPs, positive.
            flops: ``k``, FLOPs for each parameter and token.
        """
        log_scaled = np.log(np.asarray(compute, float) / flops)
        total = self.alpha + self.beta
        log_g = math.log(self.alpha * self.A / (self.beta * self.B)) / total
        with np.errstate(over="ignore"):  # a law that hardly bends has its optimum at infinity
            n = np.exp(log_g + self.beta / total * log_scaled)
            return n, np.exp(self.alpha / total * log_scaled - log_g)

    def data_for_loss(self, n: ArrayLike, loss: float) -> FloatArray:
        """Return the tokens at which ``n`` parameters reach ``loss``; nan where they never do."""
        gap = loss - self.E - self.A * np.asarray(n, float) ** -self.alpha
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(
                gap > 0, (self.B / np.where(gap > 0, gap, 1)) ** (1 / self.beta), np.nan
            )


def _require_above(name: str, value: float, bound: float) -> None:
    if not (math.isfinite(value) and value > bound):
        raise ValueError(f"{name} is {value}, it must be a finite number above {bound:g}.")


#: Hoffmann et al. 2022, Sec. D.3, as printed.
CHINCHILLA = JointLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
#: The replication by Besiroglu et al. 2024, from the same runs.
CHINCHILLA_REPLICATED = JointLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


# --------------------------------------------------------------------------- FLOPs


def t5_training_flops(config: Any, source: int, target: int) -> float:
    """Count the training FLOPs of one example through a T5, matrix by matrix.

    A product of an (a, b) and a (b, c) matrix is 2abc FLOPs, and the backward pass costs twice
    the forward. Embedding look-ups, norms, softmax and activations are left out; attention scores
    and the output projection to the vocabulary are in, which ``6 N D`` cannot know.

    Args:
        config: A T5 configuration, or anything with its fields.
        source: Encoder tokens.
        target: Decoder tokens.

    Returns:
        FLOPs of forward and backward for one example.
    """
    d, inner = config.d_model, config.num_heads * config.d_kv
    matrices = 3 if "gated" in config.feed_forward_proj else 2
    feed_forward = 2 * matrices * d * config.d_ff
    encoder = source * (8 * d * inner + 4 * inner * source + feed_forward)
    decoder = target * (8 * d * inner + 4 * inner * target + feed_forward)
    cross = 4 * d * inner * (source + target) + 4 * inner * source * target
    head = 2 * target * d * config.vocab_size
    forward = config.num_layers * encoder + config.num_decoder_layers * (decoder + cross) + head
    return 3.0 * forward


# --------------------------------------------------------------------------- runs

#: What published tables call the columns, beside our own names.
COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "params": ("params", "n", "parameters", "model size", "n_params", "model_size"),
    "tokens": ("tokens", "d", "training tokens", "n_tokens", "training_tokens"),
    "flops": ("flops", "c", "compute", "training flop", "training flops", "compute_flops"),
    "loss": ("loss", "final loss", "final_loss", "val/loss", "val_loss", "test/loss"),
}


@dataclass(frozen=True)
class Runs:
    """Finished training runs, one entry each.

    Attributes:
        params: Parameters ``N``, shape (runs,).
        tokens: Training tokens ``D``, shape (runs,).
        flops: Training FLOPs ``C``, shape (runs,).
        loss: Final loss in nats a token, shape (runs,).
    """

    params: FloatArray
    tokens: FloatArray
    flops: FloatArray
    loss: FloatArray

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, index: NDArray[Any]) -> Runs:
        """Return the runs at ``index`` (integers or a mask)."""
        return Runs(self.params[index], self.tokens[index], self.flops[index], self.loss[index])


def read_runs(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    flops: str = "6nd",
    drop_highest: int = 0,
) -> Runs:
    """Read a table of runs from a CSV file.

    Args:
        path: A CSV with a header. Needs parameters, loss, and tokens or FLOPs; the missing one of
            these two follows from ``C = 6 N D``. Common names are recognised
            (:data:`COLUMN_ALIASES`), whatever their case.
        columns: Our name to the file's name, for tables that call them something else.
        flops: ``"6nd"`` computes the FLOPs, ``"column"`` takes the file's own count.
        drop_highest: Leave out this many runs of highest loss (the replication of Besiroglu et
            al. leaves out 5).

    Returns:
        The runs, in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, an entry is no positive number, or an argument is
            unknown. The message names the file, the line and the column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such table of runs; give a CSV with the columns params, tokens, loss "
            "(data.path=FILE), or make one with `python train.py experiment=scaling_ladder`."
        )
    if flops not in ("6nd", "column"):
        raise ValueError(f"flops={flops!r} is unknown; choose 6nd or column.")
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: this is no CSV table ({error}).") from error
    names = {str(name).strip().lower(): name for name in table.columns}
    found: dict[str, FloatArray] = {}
    for ours, aliases in COLUMN_ALIASES.items():
        wanted = (columns or {}).get(ours)
        choices = (wanted.lower(),) if wanted else aliases
        theirs = next((names[choice] for choice in choices if choice in names), None)
        if theirs is not None:
            found[ours] = _positive_column(path, table, theirs)
        elif wanted:
            raise ValueError(
                f"{path}: there is no column {wanted!r} for {ours}; it has "
                f"{', '.join(map(str, table.columns))}."
            )
    needed = {"params", "loss", "flops" if flops == "column" else "tokens"}
    if "tokens" not in found and "flops" in found and "params" in found:
        found["tokens"] = found["flops"] / (FLOPS_PER_PARAMETER_TOKEN * found["params"])
    if missing := sorted(needed - found.keys()):
        raise ValueError(
            f"{path}: the column {missing[0]} is missing; it has "
            f"{', '.join(map(str, table.columns))}. Name it with "
            f"'report.columns={{{missing[0]}: THEIR_NAME}}'."
        )
    if flops == "6nd":
        found["flops"] = FLOPS_PER_PARAMETER_TOKEN * found["params"] * found["tokens"]
    runs = Runs(found["params"], found["tokens"], found["flops"], found["loss"])
    if drop_highest:
        if drop_highest >= len(runs):
            raise ValueError(
                f"drop_highest={drop_highest} leaves none of the {len(runs)} runs of {path}."
            )
        keep = np.sort(np.argsort(runs.loss, kind="stable")[: len(runs) - drop_highest])
        runs = runs.take(keep)
    if not len(runs):
        raise ValueError(f"{path}: the table holds no run.")
    return runs


def _positive_column(path: Path, table: pd.DataFrame, name: str) -> FloatArray:
    values = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=float)
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        raise ValueError(
            f"{path}, line {bad[0] + 2}, column {name!r}: {str(table[name].iloc[bad[0]])!r} is no "
            "positive number."
        )
    return values


# --------------------------------------------------------------------------- fits


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs.

    Attributes:
        names: Names of the coefficients.
        values: Estimates, in that order.
        intervals: 95 % bootstrap intervals (percentile), shape (coefficients, 2); nan if none
            were asked for.
        samples: The bootstrap estimates, shape (resamples, coefficients).
        objective: Summed Huber loss of the log residuals, in units of ``delta^2``.
        residuals: ``ln(observed) - ln(fitted)`` of each run.
        num_starts: Starting points tried.
    """

    names: tuple[str, ...]
    values: FloatArray
    intervals: FloatArray
    samples: FloatArray
    objective: float
    residuals: FloatArray
    num_starts: int

    def __getitem__(self, name: str) -> float:
        return float(self.values[self.names.index(name)])

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95 % interval of a coefficient."""
        low, high = self.intervals[self.names.index(name)]
        return float(low), float(high)

    @property
    def law(self) -> JointLaw:
        """The joint law of these coefficients (``E`` is 0 where it was not fitted)."""
        return JointLaw(**{"E": 0.0, **dict(zip(self.names, map(float, self.values)))})


def fit_joint(
    runs: Runs,
    irreducible: bool = True,
    delta: float = 1e-3,
    num_bootstrap: int = 200,
    num_starts: int = 24,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Fit:
    """Fit ``E + A/N^alpha + B/D^beta`` to runs (approach 3 of Hoffmann et al.).

    Minimises ``sum_i Huber_delta(ln L_hat_i - ln L_i)`` over ``ln A, ln B, ln E, alpha, beta``
    with L-BFGS-B and the exact gradient.

    Args:
        runs: The runs.
        irreducible: Whether ``E`` is fitted or held at 0.
        delta: Where Huber turns from square to straight, in units of log loss; ``inf`` is least
            squares.
        num_bootstrap: Resamples of the runs for the intervals; 0 leaves them out.
        num_starts: Starting points that are optimised to the end.
        seed: Seed of the resampling.
        progress: Wraps the resampling loop, for a progress bar.

    Returns:
        The fit.

    Raises:
        ValueError: If there are fewer runs than coefficients, or no spread in ``N`` or ``D``.

    Note:
        The paper optimises from every point of its grid. Here the objective is evaluated on the
        whole grid (4,500 points with ``E``, 900 without) and the ``num_starts`` best points are
        optimised. ``ln N`` and ``ln D`` are centred, and residuals are in units of ``delta``, so
        that the optimiser's relative tolerance cannot stop it early.
    """
    names = ("E", "A", "B", "alpha", "beta") if irreducible else ("A", "B", "alpha", "beta")
    if len(runs) < len(names):
        raise ValueError(
            f"{len(runs)} runs cannot determine the {len(names)} coefficients "
            f"{', '.join(names)}; give at least {len(names)} runs."
        )
    for label, values in (("params", runs.params), ("tokens", runs.tokens)):
        if np.ptp(values) == 0:
            raise ValueError(
                f"every run has {label}={values[0]:g}; a joint law needs at least two values of it."
            )
    problem = _JointProblem(runs, irreducible, delta)
    theta, objective = problem.solve(problem.best_starts(num_starts))
    values = problem.coefficients(theta)
    rng = np.random.default_rng(seed)
    samples = []
    for _ in progress(range(num_bootstrap)):
        resample = runs.take(_resample(rng, runs))
        again = _JointProblem(resample, irreducible, delta, center=problem.center)
        # The estimate itself is a good start; two of the grid guard against a second basin.
        starts = np.vstack([theta, again.best_starts(2)])
        samples.append(again.coefficients(again.solve(starts)[0]))
    array = np.array(samples).reshape(-1, len(names))
    residuals = np.log(runs.loss) - problem.log_prediction(theta)
    return Fit(
        names, values, _percentiles(array, len(names)), array, objective, residuals, num_starts
    )


def _resample(rng: np.random.Generator, runs: Runs) -> NDArray[np.int64]:
    """Draw runs with replacement until the draw still has two values of N and of D."""
    while True:
        index = rng.integers(0, len(runs), len(runs))
        if np.ptp(runs.params[index]) > 0 and np.ptp(runs.tokens[index]) > 0:
            return index


def _percentiles(samples: FloatArray, num: int) -> FloatArray:
    if not len(samples):
        return np.full((num, 2), np.nan)
    return np.percentile(samples, [2.5, 97.5], axis=0).T


class _JointProblem:
    """The objective of :func:`fit_joint` in its working parameters.

    ``theta = (a', b', alpha, beta[, e])`` with ``a' = ln A - alpha * mean(ln N)``,
    ``b' = ln B - beta * mean(ln D)``, ``e = ln E``.
    """

    def __init__(
        self,
        runs: Runs,
        irreducible: bool,
        delta: float,
        center: tuple[float, float] | None = None,
    ) -> None:
        log_n, log_d = np.log(runs.params), np.log(runs.tokens)
        self.center = center or (float(log_n.mean()), float(log_d.mean()))
        self.log_n, self.log_d = log_n - self.center[0], log_d - self.center[1]
        self.log_loss = np.log(runs.loss)
        self.irreducible, self.delta = irreducible, delta
        # ln E below every loss by far stands for E = 0.
        low = float(self.log_loss.min())
        self.bounds = [(low - 30, 60.0), (low - 30, 60.0), (1e-4, 5.0), (1e-4, 5.0)]
        if irreducible:
            self.bounds.append((low - 12, float(self.log_loss.max())))

    def best_starts(self, num: int) -> FloatArray:
        """Return the ``num`` best points of the grid, shape (num, coefficients).

        The grid of the paper spans ``alpha, beta`` in 0..2 and every magnitude of A, B and E; in
        centred coordinates the magnitudes are those of the terms at the middle of the runs.
        """
        middle = float(np.median(self.log_loss))
        terms = middle + np.array([-6.0, -4.0, -3.0, -2.0, -1.0, 0.0])
        exponents = np.array([0.05, 0.2, 0.5, 1.0, 2.0])
        axes: list[FloatArray] = [terms, terms, exponents, exponents]
        if self.irreducible:
            low = float(self.log_loss.min())
            axes.append(low + np.array([-6.0, -1.0, -0.5, -0.2, -0.05]))
        grid = np.array(list(product(*axes)))
        log_terms = self._log_terms(grid)  # (grid, runs, terms)
        residual = np.logaddexp.reduce(log_terms, axis=-1) - self.log_loss
        order = np.argsort(self._huber(residual).sum(-1), kind="stable")
        return grid[order[:num]]

    def solve(self, starts: FloatArray) -> tuple[FloatArray, float]:
        """Optimise from each start; return the best parameters and their objective."""
        best, best_value = starts[0], math.inf
        for start in starts:
            result = optimize.minimize(
                self._objective,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=self.bounds,
                options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-8},
            )
            if result.fun < best_value:
                best, best_value = result.x, float(result.fun)
        return best, best_value

    def coefficients(self, theta: FloatArray) -> FloatArray:
        """Turn working parameters into ``([E,] A, B, alpha, beta)``."""
        a, b, alpha, beta = theta[:4]
        scales = [math.exp(a + alpha * self.center[0]), math.exp(b + beta * self.center[1])]
        head = [math.exp(theta[4])] if self.irreducible else []
        return np.array([*head, *scales, alpha, beta])

    def log_prediction(self, theta: FloatArray) -> FloatArray:
        """Return ``ln L_hat`` of each run."""
        return np.logaddexp.reduce(self._log_terms(theta[None])[0], axis=-1)

    def _log_terms(self, theta: FloatArray) -> FloatArray:
        a, b, alpha, beta = (theta[:, i, None] for i in range(4))
        terms = [a - alpha * self.log_n, b - beta * self.log_d]
        if self.irreducible:
            terms.append(np.broadcast_to(theta[:, 4, None], terms[0].shape))
        return np.stack(terms, axis=-1)

    def _huber(self, residual: FloatArray) -> FloatArray:
        if math.isinf(self.delta):
            return residual**2 / 2
        size = np.abs(residual) / self.delta
        return np.where(size <= 1, size**2 / 2, size - 0.5)

    def _objective(self, theta: FloatArray) -> tuple[float, FloatArray]:
        log_terms = self._log_terms(theta[None])[0]
        prediction = np.logaddexp.reduce(log_terms, axis=-1)
        residual = prediction - self.log_loss
        if math.isinf(self.delta):
            slope = residual
        else:
            slope = np.clip(residual / self.delta, -1, 1) / self.delta
        weight = np.exp(log_terms - prediction[:, None]) * slope[:, None]  # d/d(log term)
        gradient = [
            weight[:, 0].sum(),
            weight[:, 1].sum(),
            -(weight[:, 0] * self.log_n).sum(),
            -(weight[:, 1] * self.log_d).sum(),
        ]
        if self.irreducible:
            gradient.append(weight[:, 2].sum())
        return float(self._huber(residual).sum()), np.array(gradient)


@dataclass(frozen=True)
class IrreducibleTest:
    """Whether adding ``E`` improves the fit.

    Attributes:
        f: F statistic of the nested least-squares fits of the log loss.
        p_value: Its upper tail, halved because ``E`` cannot be negative.
        aicc_gain: AICc without ``E`` minus AICc with it; above 0 speaks for ``E``. None for fewer
            than eight runs, where it is not defined.
    """

    f: float
    p_value: float
    aicc_gain: float | None


def irreducible_test(runs: Runs, num_starts: int = 24) -> IrreducibleTest:
    """Test ``E = 0`` against ``E > 0`` in the joint law.

    Both models are fitted by least squares to the log loss; with ``n`` runs
    ``F = (RSS_0 - RSS_1) / (RSS_1 / (n - 5))`` with 1 and ``n - 5`` degrees of freedom. As ``E``
    lies on the boundary under the null, the p-value is half the upper tail (Chernoff 1954).

    Args:
        runs: At least six runs.
        num_starts: Starting points of each fit.

    Raises:
        ValueError: If there are fewer than six runs.
    """
    num = len(runs)
    if num < 6:
        raise ValueError(
            f"{num} runs cannot test E, which takes five coefficients; give 6 or more."
        )
    rss = [
        float(np.sum(fit_joint(runs, with_e, math.inf, 0, num_starts).residuals ** 2))
        for with_e in (False, True)
    ]
    rss[1] = min(max(rss[1], 1e-300), rss[0])
    f = (rss[0] - rss[1]) / (rss[1] / (num - 5))
    p_value = 0.5 * float(stats.f.sf(f, 1, num - 5)) if f > 0 else 1.0
    if num < 8:
        return IrreducibleTest(f, p_value, None)
    aicc = [  # k counts the variance too
        num * math.log(value / num) + 2 * k + 2 * k * (k + 1) / (num - k - 1)
        for value, k in zip((max(rss[0], 1e-300), rss[1]), (5, 6))
    ]
    return IrreducibleTest(f, p_value, aicc[0] - aicc[1])


def fit_power(
    x: ArrayLike, y: ArrayLike, num_bootstrap: int = 200, seed: int = 0, delta: float = 1e-3
) -> Fit:
    """Fit ``y = scale / x^exponent`` by Huber loss on ``ln y``.

    Args:
        x: Parameters, tokens or compute, positive, shape (points,).
        y: Loss, or an optimal allocation, positive, shape (points,).
        num_bootstrap: Resamples for the intervals.
        seed: Seed of the resampling.
        delta: Where Huber turns from square to straight.

    Returns:
        A fit of ``scale`` and ``exponent``; a rising law has a negative exponent. Through two
        points there is one law and no telling how sure it is: its intervals are nan.

    Raises:
        ValueError: If there are fewer than two different ``x``, or a value is not positive.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.size < 2 or np.ptp(x) == 0:
        raise ValueError(f"a power law needs two different x, got {np.unique(x).size}.")
    if (x <= 0).any() or (y <= 0).any():
        raise ValueError("a power law needs positive x and y.")
    log_x, log_y = np.log(x), np.log(y)
    center = log_x.mean()

    def solve(u: FloatArray, v: FloatArray) -> FloatArray:
        slope, intercept = np.polyfit(u - center, v, 1)

        def objective(theta: FloatArray) -> tuple[float, FloatArray]:
            r = theta[0] + theta[1] * (u - center) - v
            size = np.abs(r) / delta
            g = np.clip(r / delta, -1, 1) / delta
            value = np.where(size <= 1, size**2 / 2, size - 0.5).sum()
            return float(value), np.array([g.sum(), (g * (u - center)).sum()])

        found = optimize.minimize(
            objective,
            np.array([intercept, slope]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9},
        )
        return found.x

    def coefficients(theta: FloatArray) -> list[float]:
        return [math.exp(theta[0] - theta[1] * center), -float(theta[1])]

    theta = solve(log_x, log_y)
    rng = np.random.default_rng(seed)
    samples = []
    while len(samples) < num_bootstrap and np.unique(x).size > 2:
        index = rng.integers(0, x.size, x.size)
        if np.ptp(log_x[index]) > 0:
            samples.append(coefficients(solve(log_x[index], log_y[index])))
    array = np.array(samples).reshape(-1, 2)
    residuals = log_y - (theta[0] + theta[1] * (log_x - center))
    size = np.abs(residuals) / delta
    value = float(np.where(size <= 1, size**2 / 2, size - 0.5).sum())
    return Fit(
        ("scale", "exponent"),
        np.array(coefficients(theta)),
        _percentiles(array, 2),
        array,
        value,
        residuals,
        1,
    )


@dataclass(frozen=True)
class Parabola:
    """One budget of approach 2: ``L = c0 + c1 u + c2 u^2`` with ``u = ln N``.

    Attributes:
        compute: Geometric mean of the group's FLOPs.
        coefficients: ``(c2, c1, c0)``, as ``numpy.polyval`` takes them.
        n_opt: Parameters at the vertex.
        d_opt: Tokens at the vertex, ``C / (k N)`` with the group's own mean ``k = C / (N D)``.
        loss: Loss at the vertex.
        index: Positions of the group's runs.
        is_bracketed: Whether the vertex lies within the group's sizes and the curve opens upwards.
    """

    compute: float
    coefficients: tuple[float, float, float]
    n_opt: float
    d_opt: float
    loss: float
    index: NDArray[np.int64]
    is_bracketed: bool


@dataclass(frozen=True)
class IsoFlop:
    """Approach 2 as a whole.

    Attributes:
        parabolas: One for each compute budget with at least three sizes.
        n_law: ``N_opt = scale * C^-exponent`` over the bracketed budgets; None if fewer than two.
        d_law: The same for ``D_opt``.
    """

    parabolas: tuple[Parabola, ...]
    n_law: Fit | None
    d_law: Fit | None


def fit_isoflop(
    runs: Runs, tolerance: float = 0.1, num_bootstrap: int = 200, seed: int = 0
) -> IsoFlop:
    """Fit a parabola to each compute budget, and power laws through their minima.

    Args:
        runs: The runs.
        tolerance: The FLOPs of one budget's runs lie within this share of the smallest of them.
        num_bootstrap: Resamples for the laws' intervals.
        seed: Seed of the resampling.

    Returns:
        The parabolas and the two laws. A budget whose vertex lies outside its own sizes is kept,
        flagged, and left out of the laws: it would be an extrapolation.
    """
    parabolas = []
    for index in _budgets(runs.flops, tolerance):
        if np.unique(runs.params[index]).size < 3:
            continue
        u = np.log(runs.params[index])
        c2, c1, c0 = map(float, np.polyfit(u - u.mean(), runs.loss[index], 2))
        center = float(u.mean())
        vertex = center - c1 / (2 * c2) if c2 else math.inf
        is_bracketed = c2 > 0 and bool(u.min() <= vertex <= u.max())
        compute = float(np.exp(np.log(runs.flops[index]).mean()))
        ratio = float(np.exp(np.log(runs.flops / (runs.params * runs.tokens))[index].mean()))
        n_opt = math.exp(min(max(vertex, -700.0), 700.0)) if c2 > 0 else math.nan
        expanded = (c2, c1 - 2 * c2 * center, c0 - c1 * center + c2 * center**2)
        parabolas.append(
            Parabola(
                compute,
                expanded,
                n_opt,
                compute / (ratio * n_opt),
                c0 - c1**2 / (4 * c2) if c2 > 0 else math.nan,
                index,
                is_bracketed,
            )
        )
    good = [p for p in parabolas if p.is_bracketed]
    n_law = d_law = None
    if len(good) >= 2:
        compute = [p.compute for p in good]
        n_law = fit_power(compute, [p.n_opt for p in good], num_bootstrap, seed)
        d_law = fit_power(compute, [p.d_opt for p in good], num_bootstrap, seed)
    return IsoFlop(tuple(parabolas), n_law, d_law)


def _budgets(flops: FloatArray, tolerance: float) -> list[NDArray[np.int64]]:
    """Group runs by compute; each group spans at most a factor of ``1 + tolerance``."""
    groups: list[list[int]] = []
    for position in np.argsort(flops, kind="stable"):
        if groups and flops[position] <= flops[groups[-1][0]] * (1 + tolerance):
            groups[-1].append(int(position))
        else:
            groups.append([int(position)])
    return [np.array(group) for group in groups]


def single_factor_runs(runs: Runs, factor: str, share: float = 0.75) -> Runs:
    """Pick the runs that are limited by one factor only.

    Args:
        runs: The runs.
        factor: ``"params"`` picks, for each model size, its run with most tokens; ``"tokens"``
            picks, for each number of tokens, its run with most parameters.
        share: Of these picks, the share that is kept: those with most of the other factor.

    Returns:
        The runs whose loss stands for ``L(N)`` or ``L(D)``.
    """
    own = getattr(runs, factor)
    other = runs.tokens if factor == "params" else runs.params
    groups = [np.flatnonzero(own == value) for value in np.unique(own)]
    picks = np.array([group[np.argmax(other[group])] for group in groups])
    return runs.take(picks[other[picks] >= np.quantile(other[picks], 1 - share) * (1 - 1e-9)])


def plant_runs(
    law: JointLaw,
    params: Sequence[float],
    tokens: Sequence[float],
    noise: float = 0.0,
    seed: int = 0,
) -> Runs:
    """Make the runs a law would give on the grid ``params x tokens``.

    Args:
        law: The law.
        params: Model sizes.
        tokens: Data sizes.
        noise: Standard deviation of the log loss.
        seed: Seed of the noise.
    """
    n, d = (axis.ravel() for axis in np.meshgrid(params, tokens, indexing="ij"))
    n, d = np.asarray(n, float), np.asarray(d, float)
    wobble = np.random.default_rng(seed).normal(0.0, noise, n.size) if noise else 0.0
    return Runs(n, d, FLOPS_PER_PARAMETER_TOKEN * n * d, law.loss(n, d) * np.exp(wobble))
