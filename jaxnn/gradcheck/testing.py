"""One line for a test suite: the failure message is the whole report."""

from collections.abc import Callable
from typing import Any

from jaxnn.gradcheck.check import check_gradients
from jaxnn.gradcheck.report import GradientReport
from jaxnn.gradcheck.vjp import check_vjp


def assert_gradients(
    loss: Callable[..., Any],
    gradient: Callable[..., Any],
    params: Any,
    *args: Any,
    autodiff_only: bool = False,
) -> GradientReport:
    """`check_gradients`, as an assertion: GradientError, an AssertionError, holds the report.

    >>> def test_the_gradient_of_a_square():
    ...     jaxnn.assert_gradients(lambda w: jnp.sum(w**2), lambda w: 2 * w, np.array([0.3, 0.7]))
    >>> test_the_gradient_of_a_square()
    """
    report = check_gradients(loss, gradient, params, *args, autodiff_only=autodiff_only)
    return report.raise_if_wrong()


def assert_vjp(
    function: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    derivative_of: Callable[..., Any] | None = None,
    cotangent: Callable[..., Any] | None = None,
) -> GradientReport:
    """`check_vjp`, as an assertion.

    >>> jaxnn.assert_vjp(jnp.tanh, np.array([0.3, 0.7])).ok
    True
    """
    report = check_vjp(
        function, *args, reference=reference, derivative_of=derivative_of, cotangent=cotangent
    )
    return report.raise_if_wrong()
