"""Scaling laws: worked figures, planted laws, and what the reader of runs refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms import scaling
from src.algorithms.scaling import CHINCHILLA, CHINCHILLA_REPLICATED, BalancedLaw, JointLaw

SIZES = np.logspace(7.5, 10, 6)
DATA = np.logspace(9, 11.5, 6)


def test_the_audit_of_the_hundred_billion_model_has_the_worked_figures() -> None:
    found = scaling.audit(n=1e11, d=3e11, x=0.46, y=0.54)
    assert found.compute == pytest.approx(3e22)
    assert found.n_opt == pytest.approx(2.185e10, rel=1e-4)
    assert found.d_opt == pytest.approx(1.373e12, rel=1e-4)
    assert found.oversize == pytest.approx(4.58, rel=1e-3)
    assert found.d_for_n == pytest.approx(8.185e12, rel=1e-4)
    assert found.n_for_d == pytest.approx(5.981e9, rel=1e-4)


def test_the_audited_run_made_optimal_is_optimal() -> None:
    found = scaling.audit(1e11, 3e11, 0.46, 0.54)
    again = scaling.audit(1e11, found.d_for_n, 0.46, 0.54)
    assert again.oversize == pytest.approx(1)
    again = scaling.audit(found.n_for_d, 3e11, 0.46, 0.54)
    assert again.oversize == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1e11, 3e11, 0.46, 0.55), "sum to 1.01, they must sum to 1"),
        ((0.0, 3e11, 0.46, 0.54), "n is 0.0"),
        ((1e11, math.nan, 0.46, 0.54), "d is nan"),
        ((1e11, 3e11, 1.2, -0.2), "exponent x is 1.2"),
    ],
)
def test_an_audit_says_what_is_wrong(arguments: tuple[float, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        scaling.audit(*arguments)


@given(
    a=st.floats(1, 1e4),
    b=st.floats(1, 1e4),
    alpha=st.floats(0.1, 1.0),
    beta=st.floats(0.1, 1.0),
    log_c=st.floats(30, 70),
)
def test_the_split_makes_both_limits_equal_and_spends_the_budget(
    a: float, b: float, alpha: float, beta: float, log_c: float
) -> None:
    law, compute = BalancedLaw(a, alpha, b, beta), math.exp(log_c)
    n, d = law.split(compute)
    assert n * d == pytest.approx(compute, rel=1e-9)
    assert a / n**alpha == pytest.approx(b / d**beta, rel=1e-6)
    assert d == pytest.approx(law.data_for(n), rel=1e-6)


def test_the_exact_exponent_tends_to_its_limit() -> None:
    law = BalancedLaw(482.01, 0.3478, 2085.43, 0.3658)
    gaps = [abs(law.exponent(10.0**power) - law.limit) for power in (10, 20, 40, 80, 300)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.01
    assert law.limit == pytest.approx(0.3658 / (0.3478 + 0.3658))


@pytest.mark.parametrize(("law", "exponent"), [(CHINCHILLA, 0.452), (CHINCHILLA_REPLICATED, 0.513)])
def test_the_joint_optimum_is_the_least_loss_at_its_compute(law: JointLaw, exponent: float) -> None:
    assert law.exponent == pytest.approx(exponent, abs=5e-4)
    n, d = law.optimum(1e21)
    assert 6 * n * d == pytest.approx(1e21)
    around = n * np.linspace(0.8, 1.25, 2001)
    best = around[law.loss(around, 1e21 / (6 * around)).argmin()]
    assert best == pytest.approx(float(n), rel=1e-3)
    # The reducible terms stand as beta to alpha, not one to one.
    ratio = (law.A * n**-law.alpha) / (law.B * d**-law.beta)
    assert ratio == pytest.approx(law.beta / law.alpha)


def test_a_law_that_hardly_bends_has_its_optimum_at_infinity() -> None:
    n, d = JointLaw(3.0, 10.0, 1e-3, 1e-4, 1e-4).optimum(1e12)
    assert n == np.inf
    assert d == 0


def test_data_for_loss_inverts_the_law() -> None:
    d = CHINCHILLA.data_for_loss(np.array([1e9, 1e6]), 2.4)
    assert CHINCHILLA.loss(1e9, d[0]) == pytest.approx(2.4)
    assert np.isnan(d[1])  # a model of a million parameters never gets there


# ----------------------------------------------------------------------- fits


@pytest.mark.parametrize("law", [CHINCHILLA, CHINCHILLA_REPLICATED])
def test_a_planted_law_without_noise_is_recovered(law: JointLaw) -> None:
    fit = scaling.fit_joint(scaling.plant_runs(law, SIZES, DATA), num_bootstrap=0)
    for name in fit.names:
        assert fit[name] == pytest.approx(getattr(law, name), rel=2e-3)
    assert np.isnan(fit.interval("E")[0])


def test_a_planted_law_with_noise_lies_within_its_intervals() -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES, DATA, noise=0.005, seed=3)
    fit = scaling.fit_joint(runs, num_bootstrap=40, seed=1)
    for name in fit.names:
        low, high = fit.interval(name)
        assert low <= getattr(CHINCHILLA, name) <= high, name
        assert low < fit[name] < high
    assert fit.interval("alpha")[1] - fit.interval("alpha")[0] < 0.2


def test_the_same_seed_gives_the_same_intervals() -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES[::2], DATA[::2], noise=0.01, seed=0)
    fits = [scaling.fit_joint(runs, num_bootstrap=5, num_starts=4, seed=7) for _ in range(2)]
    assert np.array_equal(fits[0].intervals, fits[1].intervals)


def test_huber_ignores_the_outliers_that_least_squares_follows() -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES, DATA)
    loss = runs.loss.copy()
    loss[[3, 20]] *= 1.3
    bad = scaling.Runs(runs.params, runs.tokens, runs.flops, loss)
    robust = scaling.fit_joint(bad, num_bootstrap=0)
    squares = scaling.fit_joint(bad, delta=math.inf, num_bootstrap=0)
    assert robust["alpha"] == pytest.approx(CHINCHILLA.alpha, rel=0.02)
    assert abs(squares["alpha"] - CHINCHILLA.alpha) > 0.05


def test_the_gradient_is_that_of_the_objective() -> None:
    from scipy.optimize import check_grad

    runs = scaling.plant_runs(CHINCHILLA, SIZES[:3], DATA[:3], noise=0.01)
    problem = scaling._JointProblem(runs, irreducible=True, delta=1e-2)
    theta = problem.best_starts(1)[0] + 0.01
    error = check_grad(
        lambda t: problem._objective(t)[0], lambda t: problem._objective(t)[1], theta
    )
    assert error < 1e-4 * np.linalg.norm(problem._objective(theta)[1])


def test_e_is_found_where_it_is_and_rarely_where_it_is_not() -> None:
    """Under E = 0 the test at 5 % may raise at most a handful of alarms in 40 draws.

    P(more than 6 of 40) at a true rate of 5 % is 0.3 %.
    """
    law = JointLaw(0.0, 406.4, 410.7, 0.34, 0.28)
    alarms = 0
    for seed in range(40):
        runs = scaling.plant_runs(law, SIZES[::2], DATA[::2], noise=0.02, seed=seed)
        alarms += scaling.irreducible_test(runs, num_starts=3).p_value < 0.05
    assert alarms <= 6
    runs = scaling.plant_runs(CHINCHILLA, SIZES, DATA, noise=0.01)
    found = scaling.irreducible_test(runs)
    assert found.p_value < 1e-6
    assert found.aicc_gain > 10


def test_isoflop_parabolas_find_the_minimum_of_each_budget_and_its_growth() -> None:
    law = CHINCHILLA_REPLICATED
    n, d = [], []
    for compute in (1e19, 1e20, 1e21):
        centre = float(law.optimum(compute)[0])
        sizes = centre * np.geomspace(0.5, 2, 7)
        n += list(sizes)
        d += list(compute / (6 * sizes))
    n, d = np.array(n), np.array(d)
    fit = scaling.fit_isoflop(scaling.Runs(n, d, 6 * n * d, law.loss(n, d)), num_bootstrap=10)
    assert len(fit.parabolas) == 3
    for parabola, compute in zip(fit.parabolas, (1e19, 1e20, 1e21)):
        assert parabola.is_bracketed
        best_n, best_d = law.optimum(compute)
        assert parabola.n_opt == pytest.approx(float(best_n), rel=0.02)
        assert parabola.d_opt == pytest.approx(float(best_d), rel=0.02)
        assert parabola.loss == pytest.approx(float(law.loss(best_n, best_d)), rel=1e-3)
    assert fit.n_law is not None
    assert fit.d_law is not None
    assert -fit.n_law["exponent"] == pytest.approx(law.exponent, abs=0.005)
    assert -fit.d_law["exponent"] == pytest.approx(1 - law.exponent, abs=0.005)


def test_a_budget_whose_minimum_lies_outside_its_sizes_is_flagged() -> None:
    compute = 1e20
    n = float(CHINCHILLA.optimum(compute)[0]) * np.geomspace(3, 10, 5)
    runs = scaling.Runs(
        n, compute / (6 * n), np.full(5, compute), CHINCHILLA.loss(n, compute / (6 * n))
    )
    fit = scaling.fit_isoflop(runs, num_bootstrap=0)
    assert [p.is_bracketed for p in fit.parabolas] == [False]
    assert fit.n_law is None


def test_a_budget_whose_minimum_is_beyond_all_numbers_is_flagged() -> None:
    n = np.array([1e6, 2e6, 4e6])
    runs = scaling.Runs(n, 1e12 / n, np.full(3, 6e12), np.array([3.0, 3.1, 3.2000001]))
    (found,) = scaling.fit_isoflop(runs, num_bootstrap=0).parabolas
    assert not found.is_bracketed
    assert 0 < found.n_opt < 1e-300


def test_a_law_through_two_points_has_no_interval() -> None:
    fit = scaling.fit_power([1e6, 1e7], [3.0, 2.0], num_bootstrap=5)
    assert np.isnan(fit.interval("exponent")).all()
    assert fit["exponent"] == pytest.approx(np.log10(1.5))
    three = scaling.fit_power([1e6, 1e7, 1e8], [3.0, 2.0, 1.6], num_bootstrap=5)
    assert not np.isnan(three.interval("exponent")).any()


@pytest.mark.parametrize("num", [6, 7, 8])
def test_aicc_needs_eight_runs(num: int) -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES, DATA, noise=0.01)
    test = scaling.irreducible_test(runs.take(np.arange(num) * 3 % len(runs)), num_starts=2)
    assert (test.aicc_gain is None) == (num < 8)
    assert 0 <= test.p_value <= 1


@settings(max_examples=20, deadline=None)
@given(exponent=st.floats(0.02, 1.0), scale=st.floats(0.1, 1e3))
def test_a_power_law_is_recovered(exponent: float, scale: float) -> None:
    x = np.logspace(6, 9, 6)
    fit = scaling.fit_power(x, scale * x**-exponent, num_bootstrap=3)
    assert fit["exponent"] == pytest.approx(exponent, rel=1e-4)
    assert fit["scale"] == pytest.approx(scale, rel=1e-3)


def test_single_factor_runs_are_those_with_most_of_the_other_factor() -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES, DATA)
    by_size = scaling.single_factor_runs(runs, "params")
    assert np.array_equal(by_size.params, SIZES)
    assert np.allclose(by_size.tokens, DATA[-1])
    by_data = scaling.single_factor_runs(runs, "tokens")
    assert np.array_equal(by_data.tokens, DATA)
    assert np.allclose(by_data.params, SIZES[-1])


def test_too_few_runs_are_refused() -> None:
    runs = scaling.plant_runs(CHINCHILLA, SIZES[:2], DATA[:2])
    with pytest.raises(ValueError, match="4 runs cannot determine the 5 coefficients"):
        scaling.fit_joint(runs)
    assert scaling.fit_joint(runs, irreducible=False, num_bootstrap=0).names[0] == "A"
    with pytest.raises(ValueError, match="4 runs cannot test E"):
        scaling.irreducible_test(runs)
    with pytest.raises(ValueError, match="needs at least two values"):
        scaling.fit_joint(scaling.plant_runs(CHINCHILLA, SIZES[:1], DATA))


# ---------------------------------------------------------------------- FLOPs


@pytest.mark.parametrize("gated", [False, True])
def test_exact_flops_equal_those_that_torch_counts(gated: bool) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=48, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=3,
        num_heads=2, feed_forward_proj="gated-gelu" if gated else "relu", dropout_rate=0.0,
        decoder_start_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).train()
    source, target = 11, 7
    with FlopCounterMode(display=False) as counter:
        loss = model(
            input_ids=torch.ones(1, source, dtype=torch.long),
            labels=torch.ones(1, target, dtype=torch.long),
        ).loss
        loss.backward()
    assert counter.get_total_flops() == scaling.t5_training_flops(config, source, target)


# -------------------------------------------------------------------- reading


def write(path, text):
    path.write_text(text)
    return path


def test_a_table_of_runs_is_read_by_our_names_and_by_published_ones(tmp_path) -> None:
    ours = scaling.read_runs(
        write(tmp_path / "a.csv", "params,tokens,loss\n1e6,1e8,3\n2e6,1e8,2\n")
    )
    theirs = scaling.read_runs(
        write(tmp_path / "b.csv", "Model Size,Training FLOP,loss\n1e6,6e14,3\n2e6,12e14,2\n")
    )
    assert np.allclose(ours.tokens, theirs.tokens)
    assert np.allclose(ours.flops, theirs.flops)
    named = scaling.read_runs(
        write(tmp_path / "c.csv", "size,tokens,nll\n1e6,1e8,3\n"),
        columns={"params": "size", "loss": "nll"},
    )
    assert named.params.tolist() == [1e6]


def test_flops_come_from_six_nd_or_from_the_file(tmp_path) -> None:
    path = write(tmp_path / "a.csv", "params,tokens,flops,loss\n1e6,1e8,7e14,3\n")
    assert scaling.read_runs(path).flops.tolist() == [6e14]
    assert scaling.read_runs(path, flops="column").flops.tolist() == [7e14]


def test_the_runs_of_highest_loss_can_be_left_out(tmp_path) -> None:
    path = write(tmp_path / "a.csv", "params,tokens,loss\n1,1,3\n2,2,9\n3,3,2\n4,4,8\n")
    assert scaling.read_runs(path, drop_highest=2).loss.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params,loss\n1e6,3\n", "the column tokens is missing; it has params, loss"),
        ("params,tokens,loss\n1e6,1e8,3\n1e6,1e8,-2\n", "line 3, column 'loss'"),
        ("params,tokens,loss\n1e6,zero,3\n", "line 2, column 'tokens'"),
        ("", "no CSV table"),
        ("params,tokens,loss\n", "holds no run"),
    ],
)
def test_a_bad_table_is_refused_by_file_line_and_column(tmp_path, text: str, says: str) -> None:
    path = write(tmp_path / "runs.csv", text)
    with pytest.raises(ValueError, match=says) as caught:
        scaling.read_runs(path)
    assert "runs.csv" in str(caught.value)


def test_a_missing_table_says_how_to_get_one(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="experiment=scaling_ladder"):
        scaling.read_runs(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no column 'nll' for loss"):
        scaling.read_runs(
            write(tmp_path / "a.csv", "params,tokens,loss\n1,1,1\n"), columns={"loss": "nll"}
        )
