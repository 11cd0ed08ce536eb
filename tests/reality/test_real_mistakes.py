"""Every real mistake is detected, no right gradient is accused, and no wrong cause is given."""

import functools
from pathlib import Path

import jax
import pytest

import real_mistakes

from .fresh import layers, losses, models, networks, sequences, suspicious
from .tuned import layers as tuned_layers
from .tuned import networks as tuned_networks
from .tuned import rules

FRESH = [
    case
    for module in (layers, losses, models, networks, sequences, suspicious)
    for case in module.CASES
]
TUNED = [case for module in (tuned_layers, tuned_networks, rules) for case in module.CASES]
CASES = FRESH + TUNED
MISTAKES = [case for case in CASES if "right" not in case.tags]

#: What a person has read and found true, beside "unknown", which is no wrong cause of anything.
TRUE = {
    "batch_norm_without_gamma": {"missing_factor"},
    "batch_statistics_held_constant": {"path_missing"},
    "bias_gradient_summed_over_everything": {"sum_without_axis"},
    "categorical_divergence_reversed": {"sign"},
    "causal_mask_in_the_backward_pass_alone": {"partial"},
    "cbow_with_an_extra_slope": {"wrong_activation_derivative"},
    "clip_with_the_cotangent_squared": {"nonlinear_in_cotangent"},
    "convolution_without_its_stride": {"wrong_window"},
    "costs_own_dependence_on_a_parameter": {"path_missing"},
    "cumulative_product_at_a_zero": {"partial"},
    "dropout_mask_drawn_again": {"wrong_mask"},
    "dropout_mask_not_applied_backward": {"mask_missing"},
    "focal_loss_without_the_sigmoids_slope": {"missing_activation_derivative"},
    "forget_gate_for_its_slope": {"wrong_activation_derivative"},
    "gaussian_log_variance_quartered": {"wrong_constant"},
    "group_norm_sums_the_first_row_only": {"partial"},
    "hidden_layer_divided_by_m_twice": {"extra_mean"},
    "hidden_sigmoid_left_out": {"missing_activation_derivative"},
    "huber_ignores_its_cotangent": {"ignores_cotangent"},
    "ignored_labels_pull": {"mask_missing"},
    "l2_norm_with_eps_in_its_own_derivative": {"wrong_activation_derivative"},
    "length_of_a_zero_row": {"beyond_kink", "non_finite"},
    "lstm_cell_gradient_set_for_added": {"path_missing"},
    "odd_spectrum_with_a_nyquist_bin": {"partial", "scale"},
    "only_the_first_cameras_gradient": {"path_missing"},
    "output_slope_missing_under_squared_error": {"missing_activation_derivative"},
    "overlapping_maxima_overwritten": {"duplicates_overwritten"},
    "posterior_without_the_factor_of_the_log_scale": {"missing_activation_derivative"},
    "ranking_loss_by_its_labels": {"wrong_value"},
    "repeated_words_overwritten": {"duplicates_overwritten"},
    "residual_without_its_identity": {"path_missing"},
    "rotary_embedding_turned_the_same_way": {"jacobian"},
    "sign_of_the_second_argument": {"sign"},
    "softmax_by_its_diagonal": {"jacobian_diagonal"},
    "softplus_threshold_asked_of_the_output": {"wrong_mask"},
    "state_not_passed_back": {"path_missing"},
    "state_overwritten_in_place": {"scale"},
    "svm_true_class_counted": {"scale"},
    "tanh_for_its_derivative": {"wrong_activation_derivative"},
    "triplet_moves_only_the_anchor": {"path_missing"},
    "update_gate_for_one_minus_it": {"wrong_value"},
    "updated_weights_and_no_output_slope": {"missing_activation_derivative", "stale_weights"},
    "value_used_twice_passed_on_for_each_path": {"counted_per_path"},
    "weight_decay_with_the_wrong_sign": {"sign"},
}

#: Where the line that was needed is named.
TOLD_AT_THE_LINE = {
    "bias_gradient_summed_over_everything",
    "categorical_divergence_reversed",
    "cbow_with_an_extra_slope",
    "convolution_in_depth_without_the_windows_offset",
    "convolution_without_its_stride",
    "costs_own_dependence_on_a_parameter",
    "focal_loss_without_the_sigmoids_slope",
    "gaussian_log_variance_quartered",
    "group_norm_sums_the_first_row_only",
    "hidden_sigmoid_left_out",
    "ignored_labels_pull",
    "lstm_cell_gradient_set_for_added",
    "only_the_first_cameras_gradient",
    "output_slope_missing_under_squared_error",
    "overlapping_maxima_overwritten",
    "posterior_without_the_factor_of_the_log_scale",
    "ranking_loss_by_its_labels",
    "repeated_words_overwritten",
    "residual_without_its_identity",
    "rms_norm_gain_twice",
    "shared_heads_counted_by_the_other_number",
    "softplus_threshold_asked_of_the_output",
    "state_not_passed_back",
    "svm_true_class_counted",
    "triangular_solve_not_masked",
    "triplet_moves_only_the_anchor",
    "update_gate_for_one_minus_it",
    "updated_weights_and_no_output_slope",
    "value_used_twice_passed_on_for_each_path",
}


def named(cases):
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.fixture(autouse=True)
def promotion():
    """The arithmetic of people's programs: ranks and dtypes are promoted."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def report_of_the_mistake(name):
    """What is said of a mistake; one of its tests asks for it first."""
    case = next(case for case in MISTAKES if case.name == name)
    return real_mistakes.report_of(real_mistakes.versions(case)[0])


@pytest.mark.slow
@pytest.mark.parametrize("case", named(MISTAKES))
def test_a_mistake_is_detected_and_its_cause_is_true(case):
    report = report_of_the_mistake(case.name)
    assert not report.ok
    assert not report.not_judged
    assert {*report.cause.split("+")} <= TRUE.get(case.name, set()) | {"unknown"}, report.verdict


@pytest.mark.slow
@pytest.mark.parametrize("case", named(c for c in MISTAKES if c.name in TOLD_AT_THE_LINE))
def test_the_line_is_named(case):
    explanation = report_of_the_mistake(case.name).explanation
    named = real_mistakes.named_lines(explanation)
    assert named & real_mistakes.needed_lines(case), explanation


@pytest.mark.sampled(1)
@pytest.mark.parametrize("case", named(CASES))
def test_a_right_gradient_is_accepted(case):
    report = real_mistakes.report_of(real_mistakes.versions(case)[1])
    assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize("case", named(case for case in CASES if "right" in case.tags))
def test_a_right_gradient_that_looks_wrong_is_accepted(case):
    report = real_mistakes.report_of(real_mistakes.versions(case)[0])
    assert report.ok, report


def test_thirty_are_fresh_and_ten_look_wrong():
    assert len([case for case in FRESH if "right" not in case.tags]) == 30
    assert len(suspicious.CASES) == 10


def test_each_case_has_its_own_name_and_says_where_it_was_found():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.source and case.cause for case in CASES)


def test_what_is_expected_is_of_a_mistake_that_there_is():
    assert TRUE.keys() | TOLD_AT_THE_LINE <= {case.name for case in MISTAKES}


def test_the_lines_are_those_of_the_loss():
    """The first line with the text; a range of lines names none."""
    (case,) = (case for case in MISTAKES if case.name == "state_overwritten_in_place")
    (line,) = real_mistakes.needed_lines(case)
    source = Path(models.__file__).read_text(encoding="utf-8").splitlines()
    assert source[line - 1].strip() == case.line
    said = "`x` (line 3); or so at lines 7 and 9; it may be anywhere in lines 20 to 30"
    assert real_mistakes.named_lines(said) == {3, 7, 9}


def test_the_command_prints_a_table(capsys):
    assert real_mistakes.main(["weight_decay", "--checker", "scipy.optimize.check_grad"]) == 0
    printed = capsys.readouterr().out
    assert "tuned: 1 cases" in printed
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith("scipy")] == [
        ["1/1", "0/1", "0"]
    ]


def test_a_name_that_no_case_has_is_refused(capsys):
    assert real_mistakes.main(["no_such_mistake"]) == 2
    assert "no case whose name has no_such_mistake" in capsys.readouterr().err
