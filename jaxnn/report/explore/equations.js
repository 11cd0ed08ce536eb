// The equations of docs/derivation.md by their numbers, in its LaTeX, shown as MathML.

const EQUATIONS = {
  Z: [4, String.raw`Z_l = A_{l-1} W_l^{\top} + b_l`],
  A: [5, String.raw`A_l = g(Z_l)`],
  A_L: [6, String.raw`A_{L,ij} = \mathrm{softmax}(Z_L)_{ij} = \frac{e^{Z_{L,ij}}}{\sum_k e^{Z_{L,ik}}}`],
  loss: [8, String.raw`\ell_i = -\sum_j Y_{ij} \log A_{L,ij}`],
  dZ_L: [12, String.raw`dZ_L = A_L - Y`],
  dA_l: [13, String.raw`dA_l = dZ_{l+1} W_{l+1}`],
  dZ_l: [14, String.raw`dZ_l = dA_l \circ g'(Z_l)`],
  dW_l: [18, String.raw`dW_l = \frac1m\, dZ_l^{\top} A_{l-1}`],
  db_l: [19, String.raw`db_{l,j} = \frac1m \sum_i dZ_{l,ij}`],
  V: [21, String.raw`V_t = \beta V_{t-1} + (1 - \beta)\, g_t`],
  p: [22, String.raw`p_t = p_{t-1} - lr \cdot V_t`],
  Z_dropout: [38, String.raw`Z_l = (A_{l-1} \circ D_{l-1}) W_l^{\top} + b_l`],
  dA_dropout: [39, String.raw`dA_l = (dZ_{l+1} W_{l+1}) \circ D_l`],
  dW_dropout: [39, String.raw`dW_l = \frac1m\, dZ_l^{\top} (A_{l-1} \circ D_{l-1})`],
  loss_l2: [40, String.raw`\mathcal{L}_\lambda = \mathcal{L} + \frac{\lambda}{2} \sum_{l=1}^{L} \|W_l\|^2`],
  dW_l2: [41, String.raw`\frac{\partial \mathcal{L}_\lambda}{\partial W_l} = \frac1m\, dZ_l^{\top} A_{l-1} + \lambda W_l`],
  Y_smooth: [43, String.raw`Y^{\varepsilon} = (1 - \varepsilon)\, Y + \frac{\varepsilon}{C}`],
};

// The activation and its derivative, by name
const OF_ACTIVATION = {
  sigmoid: [15, String.raw`\sigma'(z) = \sigma(z)\,(1 - \sigma(z))`],
  tanh: [16, String.raw`\tanh'(z) = 1 - \tanh(z)^2`],
  relu: [17, String.raw`\mathrm{ReLU}'(z) = \begin{cases} 1 & z > 0 \\ 0 & z \le 0 \end{cases}`],
  leaky_relu: [31, String.raw`g'(z) = \begin{cases} 1 & z > 0 \\ \tfrac{1}{100} & z \le 0 \end{cases}`],
  softplus: [32, String.raw`g(z) = \log(1 + e^z), \qquad g'(z) = \sigma(z)`],
  gelu: [33, String.raw`g(z) = z\,\Phi(z), \qquad g'(z) = \Phi(z) + z\,\varphi(z)`],
  silu: [34, String.raw`g(z) = z\,\sigma(z), \qquad g'(z) = \sigma(z) + z\,\sigma(z)\,(1 - \sigma(z))`],
};

const LETTERS = {
  beta: "β", lambda: "λ", varepsilon: "ε", sigma: "σ", Phi: "Φ", varphi: "φ", ell: "ℓ", partial: "∂",
};
const OPERATORS = { circ: "∘", cdot: "·", le: "≤", top: "⊤", "|": "‖", "-": "−", "'": "′" };
const FUNCTIONS = new Set(["log", "tanh"]);
const SPACES = { ",": "0.17em", qquad: "2em", " ": "0.3em" };

const MATHML = "http://www.w3.org/1998/Math/MathML";

function math_element(tag, ...children) {
  const element = document.createElementNS(MATHML, tag);
  element.append(...children);
  return element;
}

// An equation in LaTeX as a <math> element, for layer l of L
function mathml(latex, l, L) {
  const tokens = numbered(latex, l, L).match(/\\[A-Za-z]+|\\.|\d+|[^\s]/g);
  const math = math_element("math", ...sequence(tokens, () => tokens.length === 0));
  math.setAttribute("displaystyle", "true");
  return math;
}

// l, l − 1, l + 1 and L in subscripts, as numbers, unless l is what a sum counts by
function numbered(latex, l, L) {
  if (latex.includes("\\sum_{l=")) return latex;
  return latex
    .replaceAll("_{l-1}", `_{${l - 1}}`)
    .replaceAll("_{l+1}", `_{${l + 1}}`)
    .replace(/_l(?![a-z=])/g, `_{${l}}`)
    .replace(/_\{l(?=,)/g, `_{${l}`)
    .replace(/_L(?![a-z])/g, `_{${L}}`)
    .replace(/_\{L(?=,)/g, `_{${L}`);
}

function sequence(tokens, is_end) {
  const found = [];
  while (!is_end()) {
    if (tokens[0] === "_" || tokens[0] === "^") {
      found.push(scripted(found.pop(), tokens));
    } else {
      found.push(atom(tokens));
    }
  }
  return found;
}

// A subscript, a superscript, or both
function scripted(base, tokens) {
  const scripts = {};
  while (tokens[0] === "_" || tokens[0] === "^") scripts[tokens.shift()] = atom(tokens);
  const large = base.textContent === "∑";
  const tags = large ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
  if (scripts._ && scripts["^"]) return math_element(tags[2], base, scripts._, scripts["^"]);
  return math_element(scripts._ ? tags[0] : tags[1], base, scripts._ ?? scripts["^"]);
}

function group(tokens) {
  tokens.shift();
  const row = math_element("mrow", ...sequence(tokens, () => tokens[0] === "}"));
  tokens.shift();
  return row;
}

function atom(tokens) {
  if (tokens[0] === "{") return group(tokens);
  const token = tokens.shift(), name = token.replace(/^\\/, "");
  if (/^\d+$/.test(token)) return math_element("mn", token);
  if (token === "d" && /^[ZAWb]$/.test(tokens[0])) {
    return math_element("mrow", math_element("mi", "d"), math_element("mi", tokens.shift()));
  }
  if (token === "l" && tokens[0] === "r") {
    tokens.shift();
    return math_element("mi", "lr");
  }
  if (token === "\\frac" || token === "\\tfrac") {
    if (/^\d\d/.test(tokens[0] ?? "")) {
      tokens.splice(0, 1, ...tokens[0]);
    }
    return math_element("mfrac", atom(tokens), atom(tokens));
  }
  if (token === "\\mathrm") return math_element("mi", plain_text(tokens));
  if (token === "\\mathcal") return plain_text(tokens) && math_element("mi", "ℒ");
  if (token === "\\begin") return cases(tokens);
  if (token === "\\sum") return math_element("mo", "∑");
  if (token.startsWith("\\") && SPACES[name]) {
    const space = math_element("mspace");
    space.setAttribute("width", SPACES[name]);
    return space;
  }
  if (FUNCTIONS.has(name)) return math_element("mi", name);
  if (token.startsWith("\\") && LETTERS[name]) return math_element("mi", LETTERS[name]);
  if (OPERATORS[name]) return math_element("mo", OPERATORS[name]);
  return math_element(/^[A-Za-z]$/.test(token) ? "mi" : "mo", token);
}

function plain_text(tokens) {
  tokens.shift();
  const end = tokens.indexOf("}");
  return tokens.splice(0, end + 1).slice(0, -1).join("");
}

// \begin{cases} value & where \\ value & where \end{cases}
function cases(tokens) {
  plain_text(tokens);
  const table = math_element("mtable");
  const is_end = () => ["&", "\\\\", "\\end"].includes(tokens[0]);
  while (tokens[0] !== "\\end") {
    const row = math_element("mtr");
    for (let more = true; more;) {
      row.append(math_element("mtd", ...sequence(tokens, is_end)));
      more = tokens[0] === "&";
      if (tokens[0] !== "\\end") tokens.shift();
    }
    table.append(row);
  }
  tokens.shift();
  plain_text(tokens);
  return math_element("mrow", math_element("mo", "{"), table);
}
