// The network as jaxnn/nn has it, and with its names: examples are rows, W_l is (n_l, n_{l−1}).
// Everything is computed in double precision from the run's float32 parameters.

class Matrix {
  constructor(rows, columns, data = new Float64Array(rows * columns)) {
    Object.assign(this, { rows, columns, data });
  }
  row(i) {
    return this.data.subarray(i * this.columns, (i + 1) * this.columns);
  }
  map(f) {
    return new Matrix(this.rows, this.columns, this.data.map(f));
  }
}

const plus = (P, Q) => P.map((p, i) => p + Q.data[i]);
const minus = (P, Q) => P.map((p, i) => p - Q.data[i]);
const hadamard = (P, Q) => P.map((p, i) => p * Q.data[i]);
const scaled = (c, P) => P.map((p) => c * p);
const norm = (P) => Math.sqrt(P.data.reduce((sum, p) => sum + p * p, 0));

// P Qᵀ
function times_transposed(P, Q) {
  const R = new Matrix(P.rows, Q.rows);
  for (let i = 0; i < P.rows; i++) {
    const p = P.row(i), r = R.row(i);
    for (let j = 0; j < Q.rows; j++) {
      const q = Q.row(j);
      let sum = 0;
      for (let k = 0; k < p.length; k++) sum += p[k] * q[k];
      r[j] = sum;
    }
  }
  return R;
}

// P Q
function times(P, Q) {
  const R = new Matrix(P.rows, Q.columns);
  for (let i = 0; i < P.rows; i++) {
    const p = P.row(i), r = R.row(i);
    for (let k = 0; k < p.length; k++) {
      const q = Q.row(k);
      if (p[k] !== 0) for (let j = 0; j < r.length; j++) r[j] += p[k] * q[j];
    }
  }
  return R;
}

// Pᵀ Q
function transposed_times(P, Q) {
  const R = new Matrix(P.columns, Q.columns);
  for (let i = 0; i < P.rows; i++) {
    const p = P.row(i), q = Q.row(i);
    for (let j = 0; j < p.length; j++) {
      const r = R.row(j);
      if (p[j] !== 0) for (let k = 0; k < q.length; k++) r[k] += p[j] * q[k];
    }
  }
  return R;
}

// Σ_i P_i, a single row
function sum_of_rows(P) {
  const R = new Matrix(1, P.columns);
  for (let i = 0; i < P.rows; i++) P.row(i).forEach((p, j) => { R.data[j] += p; });
  return R;
}

// b is added to each row.
const plus_row = (P, b) => P.map((p, i) => p + b.data[i % b.columns]);

// ---------------------------------------------------------------------------------- activations

// erfc(x): the series of erf where it is short, else the continued fraction.
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x, sum = x;
    for (let n = 1; n < 100; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + fraction));
}

const sigma = (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));
const Phi = (z) => erfc(-z * Math.SQRT1_2) / 2;
const phi = (z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);

// Each beside its derivative, which is given z and a = g(z), as in jaxnn/nn/activations.py.
const ACTIVATIONS = {
  sigmoid: { g: sigma, derivative: (z, a) => a * (1 - a) },
  tanh: { g: Math.tanh, derivative: (z, a) => 1 - a * a },
  relu: { g: (z) => Math.max(z, 0), derivative: (z) => (z > 0 ? 1 : 0) },
  leaky_relu: { g: (z) => (z > 0 ? z : 0.01 * z), derivative: (z) => (z > 0 ? 1 : 0.01) },
  softplus: {
    g: (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))),
    derivative: (z) => sigma(z),
  },
  gelu: { g: (z) => z * Phi(z), derivative: (z) => Phi(z) + z * phi(z) },
  silu: { g: (z) => z * sigma(z), derivative: (z, a) => sigma(z) + a * (1 - sigma(z)) },
};

const g_of = (activation, Z) => Z.map(ACTIVATIONS[activation].g);
const g_prime_of = (activation, Z, A) =>
  Z.map((z, i) => ACTIVATIONS[activation].derivative(z, A.data[i]));

// --------------------------------------------------------------------------------------- losses

function log_softmax(Z) {
  const R = new Matrix(Z.rows, Z.columns);
  for (let i = 0; i < Z.rows; i++) {
    const z = Z.row(i), largest = z.reduce((p, q) => Math.max(p, q), -Infinity);
    const sum = z.reduce((s, value) => s + Math.exp(value - largest), 0);
    z.forEach((value, j) => { R.row(i)[j] = value - largest - Math.log(sum); });
  }
  return R;
}

const softmax = (Z) => log_softmax(Z).map(Math.exp);

// H(Y, softmax(Z)), the mean over the examples, in nats
const cross_entropy = (Z, Y) =>
  -log_softmax(Z).data.reduce((sum, log_a, i) => sum + Y.data[i] * log_a, 0) / Z.rows;

const smooth = (Y, epsilon) => Y.map((y) => (1 - epsilon) * y + epsilon / Y.columns);

// -------------------------------------------------------------------------------- the network

const depth = (params) => Object.keys(params).length / 2;

const masked = (P, cache, layer) =>
  cache[`D${layer}`] ? hadamard(P, cache[`D${layer}`]) : P;

// Z_l = A_{l−1} W_lᵀ + b_l, A_l = g(Z_l), A_L = softmax(Z_L)
function feed_forward(params, X, activation, masks = {}) {
  const L = depth(params), cache = { A0: X, ...masks };
  for (let l = 1; l <= L; l++) {
    const A = masked(cache[`A${l - 1}`], cache, l - 1);
    const Z = plus_row(times_transposed(A, params[`W${l}`]), params[`b${l}`]);
    cache[`Z${l}`] = Z;
    cache[`A${l}`] = l < L ? g_of(activation, Z) : softmax(Z);
  }
  return cache;
}

// The mean of the examples' losses, and λ/2 Σ_l ‖W_l‖² where the run has a λ
function loss_of(params, cache, Y, l2) {
  const L = depth(params);
  let penalty = 0;
  if (l2) for (let l = 1; l <= L; l++) penalty += norm(params[`W${l}`]) ** 2;
  return cross_entropy(cache[`Z${L}`], Y) + (l2 / 2) * penalty;
}

// The right-hand sides of the backward pass. A planted mistake puts another in the place of one.
const RULES = {
  dZ_L: ({ A, Y }) => minus(A, Y),
  dW_l: ({ dZ, A_below, m, W, l2 }) => {
    const dW = scaled(1 / m, transposed_times(dZ, A_below));
    return l2 ? plus(dW, scaled(l2, W)) : dW;
  },
  db_l: ({ dZ, m }) => scaled(1 / m, sum_of_rows(dZ)),
  dA_l: ({ dZ_above, W_above }) => times(dZ_above, W_above),
  dZ_l: ({ dA, Z, A, activation }) => hadamard(dA, g_prime_of(activation, Z, A)),
};

// Every derivative in the document's order: dZ2, dW2, db2, dA1, dZ1, dW1, db1
function back_propagate(params, cache, Y, activation, l2 = 0, rules = RULES) {
  const L = depth(params), m = cache.A0.rows, d = {};
  const at_output = { A: cache[`A${L}`], Z: cache[`Z${L}`], Y, m };
  d[`dZ${L}`] = rules.dZ_L(at_output);
  for (let l = L; l > 0; l--) {
    if (l < L) {
      const above = {
        dZ_above: d[`dZ${l + 1}`],
        W_above: params[`W${l + 1}`],
        dW_above: d[`dW${l + 1}`],
      };
      d[`dA${l}`] = masked(rules.dA_l(above), cache, l);
      d[`dZ${l}`] = rules.dZ_l({
        dA: d[`dA${l}`], Z: cache[`Z${l}`], A: cache[`A${l}`], activation,
      });
    }
    const here = {
      l, L, m, l2,
      dZ: d[`dZ${l}`],
      A_below: masked(cache[`A${l - 1}`], cache, l - 1),
      Z_below: cache[`Z${l - 1}`],
      W: params[`W${l}`],
    };
    d[`dW${l}`] = rules.dW_l(here);
    d[`db${l}`] = rules.db_l(here);
  }
  return d;
}

// V ← βV + (1 − β) g, then p ← p − lr V
function momentum(params, V, d, lr, beta) {
  const next = { params: {}, V: {} };
  for (const name of Object.keys(params)) {
    const g = d[`d${name}`];
    const before = V[name] ?? new Matrix(g.rows, g.columns);
    next.V[name] = plus(scaled(beta, before), scaled(1 - beta, g));
    next.params[name] = minus(params[name], scaled(lr, next.V[name]));
  }
  return next;
}

// ------------------------------------------------------------------------------------- chance

// Numbers in [0, 1) that are the same each time for the same seed (mulberry32)
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const normal = (random) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

// W_l from N(0, 1/n_{l−1}), b_l = 0
function init_params(random, sizes) {
  const params = {};
  for (let l = 1; l < sizes.length; l++) {
    const deviation = 1 / Math.sqrt(sizes[l - 1]);
    params[`W${l}`] = new Matrix(sizes[l], sizes[l - 1]).map(() => deviation * normal(random));
    params[`b${l}`] = new Matrix(1, sizes[l]);
  }
  return params;
}

// D: 0 with probability p, else 1/(1 − p)
const dropout_mask = (random, p, columns) =>
  new Matrix(1, columns).map(() => (random() < p ? 0 : 1 / (1 - p)));
