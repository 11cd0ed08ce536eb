// Mistakes from the doctor's catalogue, by its codes. Each puts another right-hand side in the
// place of one of RULES; `equation` is the wrong line as its author would write it.

const MISTAKES = [
  {
    code: "sign", rule: "dZ_L", equation: String.raw`dZ_L = Y - A_L`,
    wrong: ({ A, Y }) => minus(Y, A),
  },
  {
    code: "labels_not_subtracted", rule: "dZ_L", equation: String.raw`dZ_L = A_L`,
    wrong: ({ A }) => A,
  },
  {
    code: "softmax_jacobian_missing", rule: "dZ_L", equation: String.raw`dZ_L = -Y / A_L`,
    wrong: ({ A, Y }) => Y.map((y, i) => (y === 0 ? 0 : -y / A.data[i])),
  },
  {
    code: "mse_derivative", rule: "dZ_L",
    equation: String.raw`dZ_L = (A_L - Y) \circ A_L \circ (1 - A_L)`,
    wrong: ({ A, Y }) => hadamard(minus(A, Y), A.map((a) => a * (1 - a))),
  },
  {
    code: "scale", rule: "dZ_L", equation: String.raw`dZ_L = 2\, (A_L - Y)`,
    wrong: ({ A, Y }) => scaled(2, minus(A, Y)),
  },
  {
    code: "extra_mean", rule: "dW_l",
    equation: String.raw`dW_l = \frac1m \cdot \frac1m\, dZ_l^{\top} A_{l-1}`,
    wrong: ({ dZ, A_below, m, W, l2 }) =>
      plus(scaled(1 / m / m, transposed_times(dZ, A_below)), scaled(l2, W)),
  },
  {
    code: "missing_mean", rule: "dW_l", equation: String.raw`dW_l = dZ_l^{\top} A_{l-1}`,
    wrong: ({ dZ, A_below, W, l2 }) => {
      const dW = transposed_times(dZ, A_below);
      return l2 ? plus(dW, scaled(l2, W)) : dW;
    },
  },
  {
    code: "partial", rule: "dW_l",
    equation: String.raw`dW_{l,jk} = \frac1m \sum_{i<m-1} dZ_{l,ij}\, A_{l-1,ik}`,
    wrong: (at) => {
      const but_last = (P) => new Matrix(P.rows - 1, P.columns, P.data.slice(0, -P.columns));
      const dW = transposed_times(but_last(at.dZ), but_last(at.A_below));
      return plus(scaled(1 / at.m, dW), scaled(at.l2, at.W));
    },
  },
  {
    code: "wrong_layer_input", rule: "dW_l", needs: "hidden",
    equation: String.raw`dW_l = \frac1m\, dZ_l^{\top} Z_{l-1}`,
    only: ({ l }) => l > 1,
    wrong: ({ dZ, Z_below, m, W, l2 }) =>
      plus(scaled(1 / m, transposed_times(dZ, Z_below)), scaled(l2, W)),
  },
  {
    code: "zero", rule: "dW_l", needs: "hidden", equation: String.raw`dW_l = 0`,
    only: ({ l }) => l === 1,
    wrong: ({ W }) => W.map(() => 0),
  },
  {
    code: "missing_regularisation", rule: "dW_l", needs: "l2",
    equation: String.raw`dW_l = \frac1m\, dZ_l^{\top} A_{l-1}`,
    wrong: ({ dZ, A_below, m }) => scaled(1 / m, transposed_times(dZ, A_below)),
  },
  {
    code: "bias_mean_for_sum", rule: "db_l",
    equation: String.raw`db_{l,j} = \frac1m \cdot \frac1m \sum_i dZ_{l,ij}`,
    wrong: ({ dZ, m }) => scaled(1 / m / m, sum_of_rows(dZ)),
  },
  {
    code: "weights_not_transposed", rule: "dA_l", needs: "hidden",
    equation: String.raw`dA_l = dZ_{l+1} W_{l+1}^{\top}`,
    wrong: ({ dZ_above, W_above }) => {
      if (W_above.rows !== W_above.columns) {
        throw new ShapeError(dZ_above, new Matrix(W_above.columns, W_above.rows));
      }
      return times_transposed(dZ_above, W_above);
    },
  },
  {
    code: "stale_weights", rule: "dA_l", needs: "hidden",
    equation: String.raw`dA_l = dZ_{l+1}\, (W_{l+1} - lr \cdot dW_{l+1})`,
    wrong: ({ dZ_above, W_above, dW_above, lr }) =>
      times(dZ_above, minus(W_above, scaled(lr, dW_above))),
  },
  {
    code: "missing_activation_derivative", rule: "dZ_l", needs: "hidden",
    equation: String.raw`dZ_l = dA_l`,
    wrong: ({ dA }) => dA,
  },
  {
    code: "derivative_at_activation", rule: "dZ_l", needs: "hidden",
    equation: String.raw`dZ_l = dA_l \circ g'(A_l)`,
    wrong: ({ dA, A, activation }) =>
      hadamard(dA, g_prime_of(activation, A, g_of(activation, A))),
  },
  {
    code: "wrong_activation_derivative", rule: "dZ_l", needs: "hidden",
    equation: (activation) => (activation === "sigmoid"
      ? String.raw`dZ_l = dA_l \circ (1 - A_l \circ A_l)`
      : String.raw`dZ_l = dA_l \circ A_l \circ (1 - A_l)`),
    wrong: ({ dA, A, activation }) =>
      hadamard(dA, A.map((a) => (activation === "sigmoid" ? 1 - a * a : a * (1 - a)))),
  },
];

class ShapeError extends Error {
  constructor(P, Q) {
    super(`${P.rows}×${P.columns} cannot be multiplied by ${Q.rows}×${Q.columns}`);
  }
}

const latex_of = (mistake, activation) =>
  (typeof mistake.equation === "function" ? mistake.equation(activation) : mistake.equation);

// Whether a network of L layers can have the mistake
const can_have = (mistake, L, l2) =>
  (mistake.needs !== "hidden" || L > 1) && (mistake.needs !== "l2" || l2 > 0);

// RULES with the mistake in them; `lr` is the step of those that have updated too early
function rules_with(mistake, lr = 0.5) {
  if (!mistake) return RULES;
  const right = RULES[mistake.rule];
  const is_here = mistake.only ?? (() => true);
  return {
    ...RULES,
    [mistake.rule]: (at) => (is_here(at) ? mistake.wrong({ ...at, lr }) : right(at)),
  };
}

// The derivatives in which the mistake itself stands, of a network of L layers
function places(mistake, L) {
  const name = mistake.rule.split("_")[0];
  if (mistake.rule === "dZ_L") return [`dZ${L}`];
  const last = name === "dW" || name === "db" ? L : L - 1;
  return Array.from({ length: last }, (_, i) => i + 1)
    .filter((l) => (mistake.only ?? (() => true))({ l, L }))
    .map((l) => `${name}${l}`);
}

// ------------------------------------------------------------------ what it does to learning

// Two networks from the same weights over the same batches: one has the derivatives right, the
// other the mistake. `examples` are { X, labels } to train on, `held_out` others.
class Race {
  constructor({ sizes, activation, l2, mistake, examples, held_out, lr, beta, batch }) {
    Object.assign(this, { sizes, activation, l2, examples, held_out, lr, beta, batch });
    const params = init_params(generator(0), sizes);
    this.random = generator(1);
    this.runners = [rules_with(null), rules_with(mistake, lr)].map((rules) => ({
      rules, params, V: {}, history: [],
    }));
    this.epoch = 0;
    this.runners.forEach((runner) => runner.history.push(this.measured(runner)));
  }

  // The loss on the examples and the share of the held out that is read right
  measured({ params }) {
    const { X, Y } = this.examples;
    const loss = loss_of(params, feed_forward(params, X, this.activation), Y, this.l2);
    const L = depth(params);
    const A = feed_forward(params, this.held_out.X, this.activation)[`A${L}`];
    const right = this.held_out.labels.filter((label, i) => largest_at(A.row(i)) === label);
    return { loss, accuracy: right.length / this.held_out.labels.length };
  }

  step() {
    const m = this.examples.X.rows, order = shuffled(m, this.random);
    for (let begin = 0; begin < m; begin += this.batch) {
      const some = order.slice(begin, begin + this.batch);
      const X = rows_of(this.examples.X, some), Y = rows_of(this.examples.Y, some);
      for (const runner of this.runners) {
        const cache = feed_forward(runner.params, X, this.activation);
        const d = back_propagate(runner.params, cache, Y, this.activation, this.l2, runner.rules);
        Object.assign(runner, momentum(runner.params, runner.V, d, this.lr, this.beta));
      }
    }
    this.epoch += 1;
    this.runners.forEach((runner) => runner.history.push(this.measured(runner)));
  }
}

const largest_at = (row) => row.reduce((best, value, j) => (value > row[best] ? j : best), 0);

function rows_of(P, which) {
  const R = new Matrix(which.length, P.columns);
  which.forEach((i, at) => R.row(at).set(P.row(i)));
  return R;
}

function one_hot(labels, n_classes) {
  const Y = new Matrix(labels.length, n_classes);
  labels.forEach((label, i) => { Y.row(i)[label] = 1; });
  return Y;
}

function shuffled(n, random) {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// Images (n, h, w) averaged over squares until no side is longer than `longest`
function pooled(X, [h, w], longest) {
  const factor = Math.ceil(Math.max(h, w) / longest);
  if (factor === 1) return { X, shape: [h, w] };
  const rows = Math.ceil(h / factor), columns = Math.ceil(w / factor);
  const R = new Matrix(X.rows, rows * columns), counts = new Float64Array(rows * columns);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const to = Math.floor(y / factor) * columns + Math.floor(x / factor);
      counts[to] += 1;
      for (let i = 0; i < X.rows; i++) R.row(i)[to] += X.row(i)[y * w + x];
    }
  }
  return { X: R.map((value, at) => value / counts[at % counts.length]), shape: [rows, columns] };
}
