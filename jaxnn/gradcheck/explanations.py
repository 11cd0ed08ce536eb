"""What each code means: the fault, its equation, why it happens and how to see it by hand.

Plain text and nothing else: no jax is needed to read a lesson. `fault` is the sentence of a report:
{equation} is where it happened, {factor} by what constant, {detail} where within the array.
"""

from typing import NamedTuple


class Lesson(NamedTuple):
    """One fault, told to the person who made it."""

    fault: str
    equation: str
    why: str
    see: str


LESSONS = {
    "sign": Lesson(
        "{equation} has the wrong sign{within}",
        "dZ2 = A2 − Y: prediction minus target, because the loss has −Y log A in it.",
        "Written as Y − A2, or a minus carried along that a later equation has already used up. "
        "Descent then climbs: the loss rises from the first step.",
        "The ratio of yours to the true derivative is −1 and the cosine is −1.",
    ),
    "missing_mean": Lesson(
        "{equation} is summed over the batch where the loss is a mean: it is {factor} times too "
        "large{within}",
        "dW = 1/m dZᵀ A: the loss is a mean over m examples, and so is its derivative.",
        "The 1/m was left out, or np.sum stands where the mean is meant. A small learning rate "
        "hides it, until somebody changes the batch size.",
        "The ratio is exactly m and the cosine 1. Take a batch size that is no other size of the "
        "network, so that m can be recognised.",
    ),
    "extra_mean": Lesson(
        "{equation} is divided by the batch size once too often: it is {factor} of what it should "
        "be{within}",
        "1/m belongs into the chain once: in dZ or in dW and db, not in both, and nowhere if the "
        "loss is a sum.",
        "dZ2 = (A2 − Y)/m follows one book and dW2 = 1/m dZ2ᵀ A1 another.",
        "The ratio is exactly 1/m and the cosine 1. Training looks merely slow.",
    ),
    "bias_mean_for_sum": Lesson(
        "{equation} is averaged over the batch where it must be summed: the 1/m is in it twice",
        "db = 1/m Σ_i dZ_i, or Σ_i dZ_i where dZ already has the 1/m.",
        "np.mean and 1/m in one line, or np.mean of a dZ that has been divided by m before. The "
        "weights are right, so that the network trains and only its biases lag behind.",
        "This bias alone has ratio 1/m; the weights of the same layer have ratio 1.",
    ),
    "bias_not_reduced": Lesson(
        "{equation} still has one row for each example{within}: sum over the batch",
        "db = 1/m Σ_i dZ_i: the bias is added to every example, so every example's derivative "
        "arrives at it.",
        "A broadcast in the forward pass (+ b) is a sum in the backward pass, and the sum was "
        "forgotten.",
        "Compare shapes: db must have the shape of b.",
    ),
    "scale": Lesson(
        "{equation} is multiplied by {factor}{within}",
        "Every constant of the loss appears once in its derivative, and no constant of the "
        "optimiser does: no learning rate, no 1 − β.",
        "The 2 of a square kept or dropped, a mean over classes as well as examples, the learning "
        "rate or momentum's 1 − β already inside the gradient.",
        "The ratio is one constant over the whole array and the cosine is 1.",
    ),
    "zero": Lesson(
        "{equation} is zero everywhere{within}",
        "Only a parameter that the loss does not depend on has derivative 0.",
        "An array made by zeros_like that is never filled, an integer division, a dead branch of "
        "the chain, a stop_gradient.",
        "The ratio is 0. The parameter never moves from where it was initialised.",
    ),
    "transpose": Lesson(
        "{equation} is transposed",
        "dW has the shape of W: dZᵀ A for examples as rows, dZ Aᵀ for examples as columns.",
        "Factors in the other order: (dZᵀ A)ᵀ = Aᵀ dZ. With a square W nothing complains.",
        "Yours.T matches the true derivative. Test with layers of different widths.",
    ),
    "labels_not_subtracted": Lesson(
        "{equation} is the prediction alone: the labels are not subtracted",
        "dZ2 = A2 − Y.",
        "The line that subtracts 1 at the true class was lost, or works on a copy.",
        "Every leaf is wrong, with cosines around 0.3: the network is pushed towards predicting "
        "nothing, whatever the labels are.",
    ),
    "softmax_jacobian_missing": Lesson(
        "{equation} leaves out the softmax's Jacobian or a part of it: it is {detail}",
        "dZ_j = Σ_k dA_k A_k (δ_jk − A_j), which with dA = −Y/A is A − Y. Every output depends on "
        "every logit, because they share one denominator.",
        "The derivative by A2 was taken for the derivative by Z2, or the softmax was treated as "
        "if each output depended on its own logit only.",
        "dZ2 is 0 for every class but the true one. True rows of dZ2 sum to 0 and yours do not.",
    ),
    "mse_derivative": Lesson(
        "{equation} is the derivative of a squared error, where the loss is cross-entropy: it is "
        "{detail}",
        "Cross-entropy of a softmax: dZ2 = A2 − Y, with no further factor. A squared error would "
        "have the output's derivative as well.",
        "Taken from a text about another loss, or the output layer written by copying the hidden "
        "layer, σ′ included.",
        "dZ2 is too small exactly where the network is surely wrong: it learns slowest from its "
        "worst mistakes.",
    ),
    "missing_activation_derivative": Lesson(
        "{equation} lacks the activation's derivative{within}",
        "dZ1 = dA1 ∘ σ′(Z1).",
        "The chain goes through the activation as well as through the weights, and that link is "
        "easily skipped. With the sigmoid the result is about four times too large and points "
        "nearly the right way: it trains.",
        "This layer and all below are wrong, all above are right; cosine near 1 but not 1.",
    ),
    "derivative_at_activation": Lesson(
        "{equation} takes the activation's derivative at A where Z belongs{within}",
        "dZ1 = dA1 ∘ σ′(Z1), which is A1 ∘ (1 − A1): the formula in A is not evaluated with σ "
        "again.",
        "sigmoid_prime(z) computes σ(z)(1 − σ(z)) and is called with A1. It is in published code, "
        "it trains, and nobody noticed.",
        "σ′ of a number between 0 and 1 is always between 0.196 and 0.25: yours hardly varies.",
    ),
    "wrong_activation_derivative": Lesson(
        "{equation} has the derivative of something else than the activation: {detail}",
        "σ: A(1 − A). tanh: 1 − A². ReLU: 1 where Z > 0, else 0.",
        "The activation was changed in the forward pass and not in the backward pass, or a formula "
        "in A was given Z.",
        "This layer and all below are wrong, all above are right.",
    ),
    "missing_regularisation": Lesson(
        "{equation} lacks the derivative of the regularisation, or has it with another factor: "
        "{detail}",
        "loss + λ/2 Σ‖W‖² has derivative dW + λW.",
        "The penalty was added to the loss that is printed and not to the gradient, or λ and λ/2 "
        "were mixed up.",
        "Yours minus the true derivative is a multiple of W itself.",
    ),
    "swapped_leaves": Lesson(
        "{equation} is in the place of another: it is the derivative that belongs to {detail}",
        "Each derivative goes back to the parameter it was taken by.",
        "A tuple returned in one order and unpacked in another.",
        "Two leaves match the truth when they change places.",
    ),
    "weights_not_transposed": Lesson(
        "{equation} multiplies by W the way the forward pass does: here W goes transposed{within}",
        "Forward Z2 = A1 W2ᵀ, backward dA1 = dZ2 W2; with examples as columns Z2 = W2 A1 and "
        "dA1 = W2ᵀ dZ2.",
        "Copied from the forward pass. Only a square W lets it through.",
        "Use layers of different widths: the product then fails.",
    ),
    "stale_weights": Lesson(
        "{equation} uses weights that have already been updated, with step {factor}",
        "Every derivative is taken at one and the same point: update after the whole backward "
        "pass.",
        "W2 −= lr·dW2 stands before the line that computes dA1, often in a loop over the layers.",
        "The error in dW1 grows with the learning rate and is 0 when it is 0.",
    ),
    "wrong_layer_input": Lesson(
        "{equation} uses another layer's values as its input: it has {detail}",
        "dW_l = 1/m dZ_lᵀ A_{l−1}: the input of this very layer, after its activation.",
        "An index off by one, or Z where A belongs.",
        "dW is wrong and db, made of the same dZ, is right.",
    ),
    "partial": Lesson(
        "{equation} is only partly there: {detail}",
        "Every example, row and column contributes.",
        "A slice that ends one too early (m − 1), a loop that returns in its first pass, an "
        "accumulator that is overwritten where it should be added to.",
        "Yours equals the derivative of a loss over fewer examples, or some rows are 0.",
    ),
    "structure": Lesson(
        "The gradient has another structure than the parameters: {detail}",
        "The gradient is a tree like the parameters, leaf for leaf, under the same names.",
        "A leaf was forgotten, renamed, or a tuple was returned for a dict.",
        "Compare jax.tree.structure(params) with that of the gradient.",
    ),
    "shape": Lesson(
        "{equation} has the wrong shape: {detail}",
        "A derivative has the shape of what it is taken by.",
        "keepdims, a sum over the wrong axis, a missing reshape. Broadcasting may hide it in the "
        "update and change the parameter's shape.",
        "Compare the shapes of dW and W, db and b.",
    ),
    "dtype": Lesson(
        "{equation} is no array of real numbers: {detail}",
        "A derivative is a real number for each real parameter.",
        "A comparison in place of a product (bool), an integer array that was filled in place "
        "(every value truncated), an object array of a ragged list.",
        "Print the gradient's dtype.",
    ),
    "non_finite": Lesson(
        "{equation} has NaN or infinite entries{within}",
        "exp overflows beyond 709 in float64 and 88 in float32; log(0), 0/0 and ∞ − ∞ follow.",
        "A softmax without subtracting the maximum, e⁻ᶻ/(1 + e⁻ᶻ)² for σ′, log of a probability "
        "that was rounded to 0.",
        "np.isfinite on each intermediate, in the order of the equations.",
    ),
    "nondeterministic": Lesson(
        "{equation} is not the same twice at one point{within}",
        "A gradient is a function of the parameters and the data.",
        "A random mask drawn anew, a state kept from call to call (momentum inside the gradient), "
        "parameters changed in place.",
        "Call it twice and compare.",
    ),
    "differs_under_jit": Lesson(
        "{equation} is another one under jax.jit{within}",
        "A traced function does the same as the plain one.",
        "A branch on isinstance(x, np.ndarray) or on a Python value, a global that was read when "
        "the function was traced.",
        "Compare gradient(params) with jax.jit(gradient)(params).",
    ),
    "differs_under_vmap": Lesson(
        "{equation} is another one under jax.vmap{within}",
        "vmap(g) on two equal copies gives g twice.",
        "A sum or a maximum without an axis, a shape read from the wrong axis, a custom batching "
        "rule.",
        "Compare jax.vmap(gradient) on stacked copies with the plain call.",
    ),
    "ties": Lesson(
        "{equation} gives the whole gradient to several entries that share one{within}",
        "A maximum of equal entries has one gradient: dx_i = w_i · dy with w_i ≥ 0 and Σ w_i = 1. "
        "The first may take all of it, or each an equal share.",
        "A mask x == x.max(), which is 1 at every one of the equal entries: zeros after a ReLU, "
        "pixels of one colour, repeated data.",
        "Move all of the equal entries up together: the maximum rises by as much, and yours says "
        "several times that.",
    ),
    "beyond_kink": Lesson(
        "{equation} is none of the derivatives that a kink leaves open{within}",
        "ReLU′(0) is from 0 to 1, |x|′(0) from −1 to 1: between the derivatives on both sides.",
        "A formula that holds on both sides of the kink and not on it, or one that adds up both "
        "sides where they meet.",
        "Differences of the loss to the right and to the left: yours lies outside both.",
    ),
    "ignores_cotangent": Lesson(
        "{equation}: the backward pass gives the same whatever comes from above",
        "A vector-Jacobian product is ct · J: linear in the cotangent ct.",
        "The backward rule returns the derivative itself, which is right only where the function "
        "is the end of the chain and ct is 1.",
        "Differentiate 2·f: yours must double.",
    ),
    "nonlinear_in_cotangent": Lesson(
        "{equation}: the backward pass does not scale with what comes from above{within}",
        "A vector-Jacobian product is linear: bwd(a·u + b·v) = a·bwd(u) + b·bwd(v).",
        "A square, a clip or a sign applied to the cotangent, or a constant added to the result.",
        "Differentiate 2·f and f and compare.",
    ),
    "feed_forward": Lesson(
        "The forward pass is wrong at {equation}: {detail}",
        "Z1 = W1 X + b1, A1 = σ(Z1), Z2 = W2 A1 + b2, A2 = softmax(Z2).",
        "A softmax over the wrong axis, a bias forgotten, another activation than was stated.",
        "Columns of A2 sum to 1, one for each example.",
    ),
    "path_missing": Lesson(
        "{equation} is missing{within}",
        "A value that is used in several places receives the sum of what each of them sends back.",
        "One of the ways was forgotten: the state that goes on to the next step, the identity path "
        "of a residual, the mean and the variance of a normalisation taken as constants.",
        "The derivatives after this place are right and those before it are wrong.",
    ),
    "missing_factor": Lesson(
        "{equation} is passed on without its other factor{within}",
        "y = a x: dx = a dy. What multiplies in the forward pass multiplies in the backward pass.",
        "The scale of a normalisation, a weight, 1/√d, a constant was left out.",
        "Set the factor to 1: the gradient is right there.",
    ),
    "mask_missing": Lesson(
        "{equation} is passed on where the mask is 0{within}",
        "y = m ∘ x: dx = m ∘ dy. An entry that the forward pass drops gets no derivative.",
        "The mask of dropout, of padded or ignored examples, of jnp.where was not kept.",
        "Entries that cannot change the loss have a derivative that is not 0.",
    ),
    "wrong_mask": Lesson(
        "{equation} uses another mask than the forward pass{within}",
        "The backward pass chooses as the forward pass has chosen.",
        "A random mask drawn anew, a condition on the output where it is one on the input.",
        "Keep the mask of the forward pass and compare.",
    ),
    "wrong_value": Lesson(
        "{equation} takes another value than the one that belongs there{within}",
        "y = a b: da = b dy and db = a dy, with the very a and b of the forward pass.",
        "Two names were mixed up: z for 1 − z, the input of a layer for its output.",
        "Print both values at this line.",
    ),
    "wrong_time_step": Lesson(
        "{equation} takes a value of another step{within}",
        "Step t of the backward pass uses the values of step t of the forward pass.",
        "An index off by one: h_t for h_t−1, the next step's state for this step's derivative.",
        "With one step alone the gradient is right.",
    ),
    "wrong_constant": Lesson(
        "{equation} has another constant than the loss{within}",
        "The constants of the loss are those of its derivative: a slope, λ, ε, a scale.",
        "A default in the backward pass where the forward pass was given an argument.",
        "Change the constant in the loss: the gradient does not follow.",
    ),
    "one_for_all": Lesson(
        "{equation} has one number where each entry has its own{within}",
        "y_i = x_i / n_i: dx_i = dy_i / n_i.",
        "The windows at the border, short sequences, or one row of numbers taken for all.",
        "Only the entries with another number are wrong.",
    ),
    "wrong_axis": Lesson(
        "{equation} goes along the wrong axis{within}",
        "What is broadcast along an axis is summed over it; what is summed is broadcast.",
        "Two axes of one length, or an array of more dimensions than was thought of.",
        "Use another length for each axis.",
    ),
    "sum_without_axis": Lesson(
        "{equation} is summed over everything{within}",
        "db = Σ_i dZ_i: a sum over the examples, and one number for each unit.",
        "np.sum without an axis. Broadcasting hides it in the update.",
        "All entries are equal.",
    ),
    "duplicates_overwritten": Lesson(
        "{equation} is overwritten where it must be added up{within}",
        "What is used twice receives twice: E[idx] sends back a sum for each row of E.",
        "a[idx] += g adds once where an index occurs twice (np.add.at adds each); windows that "
        "overlap; = for +=.",
        "With no index twice the gradient is right.",
    ),
    "wrong_window": Lesson(
        "{equation} goes over other windows than the forward pass{within}",
        "The window of output i begins at i · stride − padding, forward and backward.",
        "The stride or the padding was left out in the backward pass.",
        "With stride 1 and no padding the gradient is right.",
    ),
    "jacobian_diagonal": Lesson(
        "{equation} has the diagonal of the Jacobian only{within}",
        "dx_j = Σ_k dy_k ∂y_k/∂x_j. In a softmax or a normalisation every y depends on every x.",
        "The function was differentiated as if it acted on each entry by itself.",
        "The derivative of one output by another's input is 0 in yours.",
    ),
    "jacobian": Lesson(
        "{equation} has another Jacobian than the function{within}",
        "dx = Jᵀ dy, once, with J_kj = ∂y_k/∂x_j.",
        "Left out, applied twice, or multiplied from the other side.",
        "Compare with jax.jacobian of this function alone.",
    ),
    "cotangent_after_jacobian": Lesson(
        "{equation} multiplies by the cotangent after the Jacobian{within}",
        "dx = Jᵀ dy: the cotangent goes into the product.",
        "The pull-back of ones is the derivative of the sum; multiplied by dy it is right only for "
        "a function that acts on each entry by itself.",
        "With all cotangents equal it is right.",
    ),
    "clipped": Lesson(
        "{equation} is clipped{within}",
        "A derivative has no limits. What is clipped is the step that is made with it.",
        "np.clip against exploding gradients belongs after the gradient has been compared.",
        "Small derivatives are right, and the large ones are all equal.",
    ),
    "rerouted": Lesson(
        "{equation} takes a way that it must go around{within}",
        "y = x + f(x): dx = dy + Jᵀ dy. What goes around f is added after f's derivative.",
        "The two cotangents were added before the function's backward pass.",
        "Without what goes around, the gradient is right.",
    ),
    "counted_per_path": Lesson(
        "{equation} is passed on once for each path{within}",
        "A value passes its derivative on once, when all that use it have sent theirs.",
        "A recursion from the loss visits a value once for each path to it. Go through the values "
        "in reverse topological order.",
        "A value that is used once has the right derivative.",
    ),
    "unknown": Lesson(
        "{equation} is wrong in a way that no known fault explains{within}",
        "In a network's report the equation named is the first that differs; what follows from it "
        "differs with it.",
        "Something of your own, or several mistakes at once.",
        "Compare this one equation by hand for one example, one unit.",
    ),
}


def sentence(code: str, equation: str, factor: str = "", detail: str = "") -> str:
    """The finding in one sentence."""
    within = f" ({detail})" if detail else ""
    told = LESSONS[code].fault.format(
        equation=equation, factor=factor, detail=detail, within=within
    )
    return f"{told}."


def explain(code: str) -> str | None:
    """The lesson of a code as text; None if there is no such code."""
    if code not in LESSONS:
        return None
    lesson = LESSONS[code]
    told = sentence(code, "the derivative", "a constant", "…").replace(" (…)", "")
    return (
        f"{code}\n\n  What it is      {told[0].upper()}{told[1:]}\n"
        f"  The equation    {lesson.equation}\n  Why it happens  {lesson.why}\n"
        f"  How to see it   {lesson.see}"
    )
