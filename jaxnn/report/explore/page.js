// What stands on the page: the state, and how each part of it is shown.

const run = JSON.parse(document.getElementById("run").textContent);
const by_id = (id) => document.getElementById(id);
const [HEIGHT, WIDTH] = run.frame.shape;
const L = run.sizes.length - 1, C = run.sizes[L];
const INK = { paper: run.paper, ink: run.ink };
const PER_PAGE = 24, BATCH = 8;

// What the page is in: everything that is shown follows from it.
const state = {
  X: null, label: 0, source: null, params: null, V: {}, masks: {}, steps: [], units: {},
  images: null, first: 0, chosen: null,
};

const name_of = (label) => run.classes[label];
const targets = (labels) => {
  const Y = one_hot(labels, C);
  return run.label_smoothing ? smooth(Y, run.label_smoothing) : Y;
};

// ---------------------------------------------------------------------------------- reading

const bytes_of = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The file's numbers are little-endian, as every machine's are that shows this page.
function parameters() {
  const params = {};
  for (const [name, base64] of Object.entries(run.params)) {
    const data = Float64Array.from(new Float32Array(bytes_of(base64).buffer));
    const l = Number(name.slice(1));
    const columns = name[0] === "W" ? run.sizes[l - 1] : data.length;
    params[name] = new Matrix(data.length / columns, columns, data);
  }
  return params;
}

// The test images (n, n_x) in [0, 1], rounded to float32 as the network was given them
async function test_images() {
  const buffer = await inflated(bytes_of(run.images.data));
  const values = run.images.dtype === "uint8" ? new Uint8Array(buffer) : new Float32Array(buffer);
  const scale = f32(run.images.scale);
  const data = Float64Array.from(values, (value) => f32(value * scale));
  return new Matrix(run.images.labels.length, run.sizes[0], data);
}

// ---------------------------------------------------------------------------------- drawing

// The strokes are in `ink`, 0 to 255, on a sheet that is larger than any training image.
const SHEET = (() => {
  const side = Math.min(Math.max(280, 2 * Math.max(HEIGHT, WIDTH)), 511);
  const longest = Math.max(HEIGHT, WIDTH);
  const [h, w] = [HEIGHT, WIDTH].map((length) => Math.round((side * length) / longest));
  return { h, w, ink: new Uint8Array(h * w), pen: [w / 2, h / 2], down: false, pointer: null };
})();
const PEN = Math.max(SHEET.h, SHEET.w) / 26;

function draw_line([x0, y0], [x1, y1]) {
  const { h, w, ink } = SHEET, length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2;
  const reach = PEN + 1;
  for (let y = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); y < Math.min(h, Math.max(y0, y1) + reach); y++) {
    for (let x = Math.max(0, Math.floor(Math.min(x0, x1) - reach)); x < Math.min(w, Math.max(x0, x1) + reach); x++) {
      const along = length2 ? ((x + 0.5 - x0) * (x1 - x0) + (y + 0.5 - y0) * (y1 - y0)) / length2 : 0;
      const t = Math.min(Math.max(along, 0), 1);
      const far = Math.hypot(x + 0.5 - x0 - t * (x1 - x0), y + 0.5 - y0 - t * (y1 - y0));
      const value = Math.round(255 * Math.min(Math.max(PEN + 0.5 - far, 0), 1));
      ink[y * w + x] = Math.max(ink[y * w + x], value);
    }
  }
}

function show_sheet() {
  const { h, w, ink, pen, down, pointer } = SHEET, paper = by_id("paper");
  const context = paper.getContext("2d");
  const shades = Float64Array.from(ink, (value) => value / 255);
  context.putImageData(coloured(shades, h, w, { paper: 0, ink: 1 }, 1), 0, 0);
  if (document.activeElement !== paper || pointer !== null) return;
  context.strokeStyle = theme().accent;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(pen[0], pen[1], PEN, 0, 2 * Math.PI);
  if (down) context.setLineDash([]);
  else context.setLineDash([4, 4]);
  context.stroke();
}

// What the network is to see of the strokes: dark ink on white paper, read as `predict` reads it
function read_sheet() {
  const grey = image(SHEET.h, SHEET.w, Float32Array.from(SHEET.ink, (value) => (255 - value) / 255));
  try {
    const { data } = prepare(grey, run.frame, run.paper, run.ink);
    choose(new Matrix(1, data.length, Float64Array.from(data)), null, "Your drawing, brought into the training images' frame.");
  } catch (error) {
    if (!(error instanceof NoInk)) throw error;
    by_id("pen").textContent = `Nothing to read: ${error.message}.`;
  }
}

function prepare_sheet() {
  const paper = by_id("paper");
  Object.assign(paper, { width: SHEET.w, height: SHEET.h });
  const place = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SHEET.w, ((event.clientY - box.top) / box.height) * SHEET.h];
  };
  const stroke = (to) => {
    draw_line(SHEET.pen, to);
    SHEET.pen = to;
    show_sheet();
  };
  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    SHEET.pointer = event.pointerId;
    SHEET.pen = place(event);
    stroke(SHEET.pen);
    read_sheet();
  });
  paper.addEventListener("pointermove", (event) => {
    if (event.pointerId !== SHEET.pointer) return;
    stroke(place(event));
    soon(read_sheet);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    paper.addEventListener(end, (event) => {
      if (event.pointerId !== SHEET.pointer) return;
      SHEET.pointer = null;
      read_sheet();
    });
  }
  paper.addEventListener("keydown", (event) => draw_by_key(event, stroke));
  paper.addEventListener("focus", show_sheet);
  paper.addEventListener("blur", show_sheet);
  by_id("clear").addEventListener("click", clear_sheet);
}

function draw_by_key(event, stroke) {
  const step = Math.round(PEN), [x, y] = SHEET.pen;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === " ") {
    SHEET.down = !SHEET.down;
    by_id("pen").textContent = SHEET.down ? "The pen is down." : "The pen is up.";
    if (SHEET.down) stroke(SHEET.pen);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clear_sheet();
  } else if (moves[event.key]) {
    const to = [Math.min(Math.max(x + moves[event.key][0], 0), SHEET.w), Math.min(Math.max(y + moves[event.key][1], 0), SHEET.h)];
    if (SHEET.down) stroke(to);
    else SHEET.pen = to;
  } else {
    return;
  }
  event.preventDefault();
  show_sheet();
  if (SHEET.down) read_sheet();
}

function clear_sheet() {
  SHEET.ink.fill(0);
  SHEET.down = false;
  by_id("pen").textContent = "An empty sheet.";
  show_sheet();
}

let waiting = false;
function soon(action) {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; action(); });
}

// ---------------------------------------------------------------------------- the test images

const of_number = (at) => {
  const { labels, predicted, numbers } = run.images;
  const read = predicted[at] === labels[at] ? "" : `, read as ${name_of(predicted[at])}`;
  return `test image ${numbers[at]}: ${name_of(labels[at])}${read}`;
};

function listed() {
  const which = by_id("which").value, { labels, predicted } = run.images;
  return labels.map((_, at) => at).filter((at) =>
    which === "all" || (which === "mistakes" ? predicted[at] !== labels[at] : labels[at] === Number(which)));
}

function show_images() {
  const found = listed();
  state.first = Math.min(state.first, Math.max(0, found.length - 1));
  state.first -= state.first % PER_PAGE;
  const shown_now = found.slice(state.first, state.first + PER_PAGE);
  by_id("range").textContent = found.length
    ? `${state.first + 1} to ${state.first + shown_now.length} of ${found.length}` : "none";
  by_id("previous").disabled = state.first === 0;
  by_id("next").disabled = state.first + PER_PAGE >= found.length;
  by_id("thumbnails").replaceChildren(...shown_now.map((at) => {
    const { labels, predicted } = run.images;
    const wrong = predicted[at] !== labels[at];
    return element(
      "button",
      { type: "button", "aria-label": of_number(at), title: of_number(at),
        "aria-pressed": String(state.chosen === at), onclick: () => choose_image(at) },
      pixels(state.images.row(at), HEIGHT, WIDTH, INK),
      element("span", {}, wrong ? `${name_of(labels[at])} ✗ ${name_of(predicted[at])}` : name_of(labels[at])),
    );
  }));
}

function choose_image(at) {
  const X = new Matrix(1, run.sizes[0], state.images.row(at).slice());
  choose(X, run.images.labels[at], `${of_number(at).replace("t", "T")}.`, at);
}

function choose(X, label, source, at = null) {
  const pressed = state.chosen;
  Object.assign(state, { X, source, chosen: at });
  if (label === null) {
    const A = feed_forward(state.params, X, run.activation)[`A${L}`];
    if (pressed !== null || !state.drawn) state.label = largest_at(A.data);
    state.drawn = true;
  } else {
    state.label = label;
    state.drawn = false;
  }
  by_id("label").value = String(state.label);
  by_id("source").textContent = source;
  if (pressed !== at) show_images();
  update();
}

// -------------------------------------------------------------------------------------- cards

const card = (key, title, number_and_latex, l, ...content) => {
  const head = element("div", { class: "head" });
  for (const [number, latex] of number_and_latex) {
    head.append(element("div", { class: "equation" }, ...lines_of(latex, l)), element("span", { class: "number" }, number ? `(${number})` : ""));
  }
  head.append(element("span", { class: "shape" }, title));
  return element("article", { class: "card", id: `card-${key}`, "aria-label": key }, head, ...content);
};

// Equations that stand side by side, so that a narrow window can break between them
const lines_of = (latex, l) => latex.split(", \\qquad").flatMap((part) => [mathml(part, l, L), " "]);

const is_image = (l) => l === 0;
const one = (l) => ({ describe: (j, data) => `${indexed(l, j)} = ${shown(data[j])}` });

const views = {};

// A row of n_l numbers: the pixels of an image for l = 0, else bars
function view_of(key, l, options = {}) {
  const describe = options.describe ?? ((j, data) => `${indexed(key, ...place_of(j, l))}${class_at(j, l)} = ${shown(data[j])}`);
  const label = options.label ?? key;
  views[options.id ?? key] = is_image(l)
    ? new Picture(label, [HEIGHT, WIDTH], { describe, ink: options.ink, on_move: options.on_move })
    : new Bars(label, { describe, on_move: options.on_move, labels: l === L && C <= 12 ? run.classes.map(short) : null });
  return views[options.id ?? key].element;
}

const short = (name) => (name.length > 4 ? `${name.slice(0, 3)}…` : name);
const class_at = (j, l) => (l === L && run.classes[j] !== String(j) ? ` (${run.classes[j]})` : "");
const place_of = (j, l) => (is_image(l) ? [`row ${Math.floor(j / WIDTH)}`, `column ${j % WIDTH}`] : [j]);

// The derivative by W_l: pictures of the units in the first layer, a table of numbers in others
function weights_view(l) {
  const key = `dW${l}`, rows = run.sizes[l], columns = run.sizes[l - 1];
  if (is_image(l - 1)) {
    const sheet = new Sheet(key, [HEIGHT, WIDTH], {
      on_move: (at) => select_unit(l, sheet.shown_units[at]),
      describe: (at) => {
        const j = sheet.shown_units[at], row = sheet.matrix.row(j);
        const size = shown(norm(new Matrix(1, row.length, row)));
        const shown_of = sheet.shown_units.length < rows ? `; the ${TILES} largest of ${rows} are shown` : "";
        return `${indexed(key, j)}, the picture of unit ${j}: its norm is ${size}${shown_of}`;
      },
    });
    views[key] = sheet;
  } else {
    const table = new Picture(key, [rows, columns], {
      side: 8 * Math.max(rows, columns) > 480 ? 480 : 8 * Math.max(rows, columns),
      on_move: (at) => select_unit(l, Math.floor(at / columns)),
      describe: (at, data) => `${indexed(key, Math.floor(at / columns), at % columns)} = ${shown(data[at])}`,
    });
    table.select = (j) => table.move(j * columns + (table.cursor % columns), false);
    views[key] = table;
  }
  return views[key].element;
}

function build_forward() {
  const cards = [];
  views.seen = null;
  by_id("seen").append(view_of("X", 0, { id: "seen", ink: INK }));
  cards.push(card("X", `X: 1 × ${run.sizes[0]}`, [["", "A_0 = X"]], 0, view_of("X", 0, { ink: INK })));
  for (let l = 1; l <= L; l++) {
    const select = (j) => select_unit(l, j);
    const through_mask = (l === 1 ? run.input_dropout : run.dropout) > 0;
    const equation = through_mask ? EQUATIONS.Z_dropout : EQUATIONS.Z;
    cards.push(card(`Z${l}`, `Z${l}: 1 × ${run.sizes[l]}`, [equation], l, view_of(`Z${l}`, l, { on_move: select }), unit_forward(l)));
    const of_A = l < L ? [EQUATIONS.A] : [EQUATIONS.A_L];
    const note = l < L ? element("p", { class: "quiet" }, `g is ${run.activation}.`) : "";
    cards.push(card(`A${l}`, `A${l}: 1 × ${run.sizes[l]}`, of_A, l, note, view_of(`A${l}`, l, { on_move: select })));
  }
  by_id("forward").append(...cards);
}

// One unit of layer l: its weights, the products with its input, the sum
function unit_forward(l) {
  const part = (id, title) => {
    const view = view_of(id, l - 1, { id: `${id}${l}`, label: title, describe: (k, data) => `${title}, ${is_image(l - 1) ? place_of(k, 0).join(", ") : `input ${k}`}: ${shown(data[k])}` });
    return element("div", { class: is_image(l - 1) ? "" : "wide" }, element("h3", { id: `title-${id}${l}` }, title), view);
  };
  return element("div", { class: "unit", id: `unit-${l}` },
    part("weights", "its weights"), part("products", "weight × input"),
    element("p", { class: "sum", id: `mask-${l}` }),
    element("p", { class: "sum", id: `sum-${l}` }));
}

function build_backward() {
  const cards = [];
  const smoothing = run.label_smoothing > 0;
  if (smoothing) cards.push(card("Y", `Y: 1 × ${C}`, [EQUATIONS.Y_smooth], L, view_of("Y", L)));
  const losses = run.l2 ? [EQUATIONS.loss, EQUATIONS.loss_l2] : [EQUATIONS.loss];
  cards.push(card("loss", "a number, in nats", losses, L, element("p", { class: "value", id: "loss" })));
  for (let l = L; l > 0; l--) {
    const select = (j) => select_unit(l, j);
    const shape = (rows, name) => `${name}: ${rows} × ${run.sizes[l]}`;
    if (l < L) {
      const dA = run.dropout ? EQUATIONS.dA_dropout : EQUATIONS.dA_l;
      cards.push(card(`dA${l}`, shape(1, `dA${l}`), [dA], l, view_of(`dA${l}`, l, { on_move: select })));
    }
    cards.push(l < L
      ? card(`dZ${l}`, shape(1, `dZ${l}`), [EQUATIONS.dZ_l, OF_ACTIVATION[run.activation]], l, view_of(`dZ${l}`, l, { on_move: select }))
      : card(`dZ${L}`, shape(1, `dZ${L}`), [EQUATIONS.dZ_L], L, view_of(`dZ${L}`, L, { on_move: select })));
    const through_mask = (l === 1 ? run.input_dropout : run.dropout) > 0;
    const dW = [through_mask ? EQUATIONS.dW_dropout : EQUATIONS.dW_l];
    if (run.l2) dW.push(EQUATIONS.dW_l2);
    cards.push(card(`dW${l}`, `dW${l}: ${run.sizes[l]} × ${run.sizes[l - 1]}`, dW, l, weights_view(l), unit_backward(l)));
    cards.push(card(`db${l}`, `db${l}: ${run.sizes[l]}`, [EQUATIONS.db_l], l, view_of(`db${l}`, l, { on_move: select })));
  }
  by_id("backward").append(...cards);
}

// One unit's row of dW_l
function unit_backward(l) {
  const title = element("h3", { id: `title-row${l}` });
  const view = view_of(`row${l}`, l - 1, {
    label: `row of dW${l}`,
    describe: (k, data) => `${indexed(`dW${l}`, state.units[l], ...place_of(k, l - 1))} = ${shown(data[k])}`,
  });
  return element("div", { class: "unit" }, element("div", { class: is_image(l - 1) ? "" : "wide" }, title, view));
}

// ------------------------------------------------------------------------------------- showing

function update() {
  const { params, X, masks } = state;
  const with_masks = by_id("dropout").checked ? masks : {};
  state.cache = feed_forward(params, X, run.activation, with_masks);
  state.Y = targets([state.label]);
  state.loss = loss_of(params, state.cache, state.Y, run.l2);
  state.d = back_propagate(params, state.cache, state.Y, run.activation, run.l2);
  views.seen.show(X.data);
  views.X.show(X.data);
  for (let l = 1; l <= L; l++) {
    views[`Z${l}`].show(state.cache[`Z${l}`].data);
    views[`A${l}`].show(state.cache[`A${l}`].data);
    for (const name of ["dZ", "db", ...(l < L ? ["dA"] : [])]) views[`${name}${l}`].show(state.d[`${name}${l}`].data);
    const dW = state.d[`dW${l}`];
    views[`dW${l}`].show(is_image(l - 1) ? dW : dW.data);
    show_unit(l);
  }
  if (views.Y) views.Y.show(state.Y.data);
  by_id("loss").textContent = shown(state.loss);
  show_answer();
  show_mistake();
}

function show_answer() {
  const A = state.cache[`A${L}`].data, order = [...A.keys()].sort((i, j) => A[j] - A[i] || i - j);
  by_id("answer").replaceChildren(element("b", {}, name_of(order[0])), `with ${percent(A[order[0]])}`);
  const rows = C <= 12 ? [...A.keys()] : order.slice(0, 10);
  by_id("answers").replaceChildren(...rows.map((j) => {
    const share = element("div", { class: "share" });
    share.style.width = `${100 * A[j]}%`;
    const mark = j === order[0] ? " ◀" : "";
    return element("tr", { class: j === order[0] ? "first" : "" },
      element("th", { scope: "row", title: name_of(j) }, name_of(j)), element("td", {}, share), element("td", {}, shown(A[j]) + mark));
  }));
}

function select_unit(l, j) {
  state.units[l] = j;
  for (const name of ["Z", "A", "dA", "dZ", "db"]) {
    const view = views[`${name}${l}`];
    if (view && view.cursor !== j) view.move(j, false);
  }
  if (Math.floor(views[`dW${l}`].cursor / run.sizes[l - 1]) !== j) views[`dW${l}`].select(j);
  show_unit(l);
}

function show_unit(l) {
  const j = state.units[l] ?? 0, W = state.params[`W${l}`].row(j);
  const input = masked(state.cache[`A${l - 1}`], state.cache, l - 1).data;
  const products = W.map((w, k) => w * input[k]), sum = products.reduce((p, q) => p + q, 0);
  const dropped = state.cache[`D${l - 1}`]?.data.filter((kept) => kept === 0).length;
  by_id(`mask-${l}`).textContent = dropped === undefined ? ""
    : `The mask D${l - 1} drops ${dropped} of ${input.length} inputs.`;
  views[`weights${l}`].show(W);
  views[`products${l}`].show(products);
  const input_name = l === 1 ? "X" : `A${l - 1}`;
  by_id(`title-weights${l}`).textContent = `W${l}[${j}]: the weights of unit ${j}`;
  by_id(`title-products${l}`).textContent = `W${l}[${j}] ∘ ${input_name}: weight × input`;
  const b = state.params[`b${l}`].data[j];
  const [Z, A] = [state.cache[`Z${l}`].data[j], state.cache[`A${l}`].data[j]];
  by_id(`sum-${l}`).textContent =
    `Sum of the products ${shown(sum)}, with the bias ${shown(b)} it is Z${l}[${j}] = ${shown(Z)}; A${l}[${j}] = ${shown(A)}.`;
  state.units[l] = j;
  views[`row${l}`].show(state.d[`dW${l}`].row(j));
  by_id(`title-row${l}`).textContent = `dW${l}[${j}]: dZ${l}[${j}] = ${shown(state.d[`dZ${l}`].data[j])} times the input${run.l2 ? ", and λ times the weights" : ""}`;
}

// --------------------------------------------------------------------------------------- a step

function take_step() {
  const [lr, beta] = [by_id("lr"), by_id("beta")].map((input) => input.valueAsNumber);
  if (!(lr >= 0) || !(beta >= 0 && beta < 1)) {
    by_id("stepped").textContent = "Expected lr of 0 or more, and β from 0 to below 1.";
    return;
  }
  const before = { loss: state.loss, A: state.cache[`A${L}`].data, params: state.params, V: state.V };
  state.steps.push(before);
  Object.assign(state, momentum(state.params, state.V, state.d, lr, beta));
  update();
  tell_step(before);
}

function tell_step(before) {
  const A = state.cache[`A${L}`].data, label = state.label;
  const count = state.steps.length;
  by_id("undo").disabled = by_id("reset").disabled = count === 0;
  by_id("stepped").textContent = !before ? "The run's own parameters."
    : `${count} ${count === 1 ? "step" : "steps"}. Loss ${shown(before.loss)} → ${shown(state.loss)}; `
      + `probability of ${name_of(label)} ${shown(before.A[label])} → ${shown(A[label])}; `
      + `it reads ${name_of(largest_at(before.A))} → ${name_of(largest_at(A))}.`;
}

function undo(all) {
  const to = all ? state.steps[0] : state.steps.at(-1);
  if (!to) return;
  Object.assign(state, { params: to.params, V: to.V });
  state.steps = all ? [] : state.steps.slice(0, -1);
  update();
  tell_step(state.steps.at(-1));
}

// ---------------------------------------------------------------------------------- a mistake

const mistake_now = () => MISTAKES.find(({ code }) => code === by_id("mistake").value);

// The example at hand with its label, and others with theirs: a batch, for what sums over one
function batch() {
  const others = typical().slice(0, BATCH - 1);
  const X = new Matrix(1 + others.length, run.sizes[0]);
  X.row(0).set(state.X.data);
  others.forEach((at, i) => X.row(i + 1).set(state.images.row(at)));
  return { X, Y: targets([state.label, ...others.map((at) => run.images.labels[at])]), activation: run.activation };
}

// Test images that are read right, the classes in turn; of a network that knows little, all
function typical() {
  const others = run.images.labels.map((_, at) => at).filter((at) => at !== state.chosen);
  const right = others.filter((at) => run.images.predicted[at] === run.images.labels[at]);
  return right.length > others.length / 4 ? right : others;
}

function derivatives_of(params, { X, Y, activation }, mistake) {
  const cache = feed_forward(params, X, activation);
  const rules = rules_with(mistake, by_id("lr").valueAsNumber || 0.5);
  return back_propagate(params, cache, Y, activation, run.l2, rules);
}

function show_mistake() {
  const mistake = mistake_now(), planted = by_id("planted");
  document.querySelectorAll("#backward .card").forEach((each) => each.classList.remove("wrong"));
  document.querySelectorAll("#backward .wrong-line").forEach((each) => each.remove());
  if (!mistake) {
    planted.replaceChildren(element("p", { class: "quiet" }, "Nothing is planted: the page's derivatives are the true ones."));
    state.planted = null;
    return;
  }
  const lesson = run.lessons[mistake.code];
  for (const name of places(mistake, L)) {
    const where = by_id(`card-${name}`);
    where.classList.add("wrong");
    where.querySelector(".head").after(wrong_line(mistake, Number(name.slice(2))));
  }
  const told = element("dl", {});
  for (const [what, text] of [["The equation", lesson.equation], ["Why it happens", lesson.why], ["How to see it", lesson.see]]) {
    told.append(element("dt", {}, what), element("dd", {}, text));
  }
  const race = state.planted?.code === mistake.code ? state.planted.race : race_panel(mistake);
  state.planted = { code: mistake.code, race };
  planted.replaceChildren(
    element("div", { class: "panels" },
      element("div", { class: "panel" }, element("h3", {}, `${mistake.code.replaceAll("_", " ")}: the line at hand`),
        right_line(mistake), wrong_line(mistake, places(mistake, L).map((name) => Number(name.slice(2)))[0]), told),
      numbers_panel(mistake), race),
  );
  state.planted.views?.forEach((view) => view.draw());
  VIEWS.forEach((view) => { if (!view.element.isConnected) VIEWS.delete(view); });
}

const right_of = { dZ_L: EQUATIONS.dZ_L, dA_l: EQUATIONS.dA_l, dZ_l: EQUATIONS.dZ_l, db_l: EQUATIONS.db_l };

function right_line(mistake) {
  const l = Number(places(mistake, L)[0].slice(2));
  const [number, latex] = right_of[mistake.rule] ?? (run.l2 ? EQUATIONS.dW_l2 : EQUATIONS.dW_l);
  return element("div", { class: "head" }, element("span", {}, "✓ right"),
    element("div", { class: "equation" }, mathml(latex, l, L)), element("span", { class: "number" }, `(${number})`));
}

const wrong_line = (mistake, l) => element("div", { class: "wrong-line" },
  "✗ planted ", mathml(latex_of(mistake, run.activation), l, L));

// True and wrong numbers side by side: of the run's network, or of a small one with a square W
function numbers_panel(mistake) {
  const panel = element("div", { class: "panel", id: "numbers" }, element("h3", {}, "The numbers"));
  let params = state.params, of = batch(), right, wrong;
  right = derivatives_of(params, of, null);
  try {
    wrong = derivatives_of(params, of, mistake);
    panel.append(element("p", { class: "quiet" },
      `Of this network, for a batch of m = ${of.X.rows}: the input above and ${of.X.rows - 1} test images.`));
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    panel.append(element("p", {}, `In this network ${error.message}: the program stops, and the mistake shows. `
      + "Only a square W lets it through, as in a small network with as many hidden units as classes:"));
    const small = small_network(mistake);
    params = init_params(generator(0), small.sizes);
    of = { X: rows_of(small.examples.X, [...Array(BATCH).keys()]), Y: rows_of(small.examples.Y, [...Array(BATCH).keys()]), activation: run.activation };
    right = derivatives_of(params, of, null);
    wrong = derivatives_of(params, of, mistake);
  }
  const planted_in = places(mistake, depth(params));
  const names = Object.keys(right), first = names.find((name) => planted_in.includes(name));
  const pair = element("div", { class: "pair" });
  const compare = (name) => {
    pair.replaceChildren(...[["true", right], ["wrong", wrong]].map(([which, d]) => beside(which, name, d[name])));
    state.planted.views.forEach((view) => view.draw());
  };
  state.planted.right = right;
  state.planted.wrong = wrong;
  state.planted.batch = of;
  const rows = names.map((name) => {
    const [p, q] = [right[name], wrong[name]];
    const same = norm(minus(p, q)) <= 1e-12 * norm(p);
    const verdict = same ? "✓ right" : planted_in.includes(name) ? "✗ planted here" : "✗ follows from it";
    const inner = p.data.reduce((sum, value, i) => sum + value * q.data[i], 0);
    return element("tr", {},
      element("th", { scope: "row" }, element("button", { type: "button", onclick: () => compare(name), "aria-label": `show ${name}, true and wrong` }, name)),
      element("td", {}, verdict),
      ...[norm(minus(p, q)) / norm(p), norm(q) / norm(p), inner / norm(p) / norm(q)].map((value) =>
        element("td", {}, Number.isNaN(value) ? "–" : shown(Number(value.toPrecision(3))))));
  });
  const header = ["", "", "error", "ratio", "cosine"].map((text) => element("th", { scope: "col" }, text));
  panel.append(element("div", { class: "scroll" }, element("table", { class: "compared" }, element("tr", {}, ...header), ...rows)), pair);
  queueMicrotask(() => compare(first));
  return panel;
}

function beside(which, name, matrix) {
  const row = matrix.rows === 1 || name.startsWith("dW") ? matrix.data : matrix.row(0);
  const describe = (at, data) => (name.startsWith("dW")
    ? `${which} ${indexed(name, Math.floor(at / matrix.columns), at % matrix.columns)} = ${shown(data[at])}`
    : `${which} ${indexed(name, ...(name.startsWith("db") ? [at] : ["example 0", at]))} = ${shown(data[at])}`);
  const other = which === "true" ? 1 : 0;
  const on_move = (at) => state.planted.views[other].move(at, false);
  const view = name.startsWith("dW")
    ? new Picture(`${which} ${name}`, [matrix.rows, matrix.columns], { describe, on_move, side: 300 })
    : new Bars(`${which} ${name}`, { describe, on_move });
  if (which === "true") state.planted.views = [];
  state.planted.views.push(view);
  queueMicrotask(() => view.show(row));
  return element("div", {}, element("h3", {}, `${which} ${name}`), view.element);
}

// What a small network is trained on: the test images of this page that are read right, made
// smaller; the last fifth of them is held out
function small_network(mistake) {
  const which = typical(), { X } = pooled(rows_of(state.images, which), [HEIGHT, WIDTH], 14);
  const labels = which.map((at) => run.images.labels[at]);
  const kept = Math.floor(labels.length * 0.8), all = [...labels.keys()];
  const some = (chosen) => ({ X: rows_of(X, chosen), Y: targets(chosen.map((i) => labels[i])), labels: chosen.map((i) => labels[i]) });
  const hidden = mistake.code === "weights_not_transposed" ? C : Math.max(C, 10);
  return { sizes: [X.columns, hidden, C], examples: some(all.slice(0, kept)), held_out: some(all.slice(kept)) };
}

const EPOCHS = 40;

function race_panel(mistake) {
  const told = element("p", { role: "status" }), charts = element("div", { class: "pair" });
  const button = element("button", { type: "button", class: "main", id: "race" }, "Train both");
  const small = small_network(mistake);
  const panel = element("div", { class: "panel", id: "race-panel" }, element("h3", {}, "What it does to learning"),
    element("p", { class: "quiet" },
      `Two small networks, ${small.sizes.join("-")}, from the same weights and over the same batches: `
      + `${small.examples.labels.length} of this page's images to train on, ${small.held_out.labels.length} held out. `
      + "One has the derivatives right, the other has the mistake."),
    element("div", { class: "row" }, button), told, charts);
  const draw = (race) => {
    const [right, planted] = race.runners.map(({ history }) => history);
    const series = (measure) => [["true", right], ["planted", planted]].map(([kind, history]) =>
      ({ kind, name: kind, values: history.map((each) => each[measure]) }));
    charts.replaceChildren(
      element("div", {}, curves("Loss on the training images", series("loss"), (v) => (Number.isFinite(v) ? v.toPrecision(3) : "not finite"))),
      element("div", {}, curves("Held out, read right", series("accuracy"), (v) => `${(100 * v).toFixed(0)} %`)));
    const [a, b] = [right, planted].map((history) => history.at(-1));
    const loss = (each) => (Number.isFinite(each.loss) ? each.loss.toPrecision(3) : "not a finite number");
    told.textContent = `After ${race.epoch} epochs the true derivatives read ${(100 * a.accuracy).toFixed(1)} % right `
      + `(loss ${loss(a)}), the planted ones ${(100 * b.accuracy).toFixed(1)} % (loss ${loss(b)}).${race.epoch === EPOCHS ? ` ${moral(race)}` : ""}`;
  };
  button.addEventListener("click", () => {
    const race = new Race({ ...small, activation: run.activation, l2: run.l2, mistake, lr: 0.5, beta: 0.9, batch: 16 });
    state.race = race;
    const next = () => {
      if (state.race !== race) return;
      race.step();
      draw(race);
      button.disabled = race.epoch < EPOCHS;
      if (race.epoch < EPOCHS) requestAnimationFrame(next);
    };
    next();
  });
  return panel;
}

// Would anybody notice?
function moral(race) {
  const [right, planted] = race.runners.map(({ history }) => history);
  const [a, b] = [right.at(-1), planted.at(-1)];
  if (!Number.isFinite(b.loss) || b.loss >= planted[0].loss) return "The loss does not fall: this one is noticed.";
  if (b.accuracy >= a.accuracy - 0.03) return "It learns as well, or nearly: looking at the accuracy, nobody notices.";
  return "The loss falls, and it learns, only worse: easily blamed on the learning rate.";
}

// --------------------------------------------------------------------------------------- start

const option = (value, text) => element("option", { value }, text);

function draw_masks() {
  const random = generator((state.seed = (state.seed ?? 0) + 1));
  state.masks = {};
  for (let l = 0; l < L; l++) {
    const p = l === 0 ? run.input_dropout : run.dropout;
    if (p) state.masks[`D${l}`] = dropout_mask(random, p, run.sizes[l]);
  }
}

function build() {
  const wrong = run.images.labels.filter((label, at) => label !== run.images.predicted[at]).length;
  by_id("which").append(
    option("all", `all ${run.images.labels.length}, mistakes first`),
    option("mistakes", `mistakes (${wrong})`),
    ...run.classes.map((name, label) => option(label, `class ${name}`)));
  by_id("label").append(...run.classes.map((name, label) => option(label, name)));
  by_id("mistake").append(option("", "none"),
    ...MISTAKES.filter((each) => can_have(each, L, run.l2)).map(({ code }) => option(code, code.replaceAll("_", " "))));
  by_id("lr").value = run.lr;
  by_id("beta").value = run.beta;
  by_id("step-V").append(mathml(EQUATIONS.V[1], 1, L));
  by_id("step-p").append(mathml(EQUATIONS.p[1], 1, L));
  by_id("dropout-row").hidden = !run.dropout && !run.input_dropout;
  const scale = by_id("scale");
  scale.getContext("2d").putImageData(coloured(Float64Array.from({ length: 101 }, (_, i) => i / 50 - 1), 1, 101, null, 1), 0, 0);
  build_forward();
  build_backward();
  prepare_sheet();
}

function listen() {
  const on = (id, event, action) => by_id(id).addEventListener(event, action);
  on("which", "change", () => { state.first = 0; show_images(); });
  on("previous", "click", () => { state.first -= PER_PAGE; show_images(); });
  on("next", "click", () => { state.first += PER_PAGE; show_images(); });
  on("label", "change", () => { state.label = Number(by_id("label").value); update(); });
  on("dropout", "change", update);
  on("redraw", "click", () => { draw_masks(); by_id("dropout").checked = true; update(); });
  on("step", "click", take_step);
  on("undo", "click", () => undo(false));
  on("reset", "click", () => undo(true));
  on("mistake", "change", () => { state.race = null; show_mistake(); });
  const redraw = () => {
    VIEWS.forEach((view) => view.draw());
    show_sheet();
  };
  window.addEventListener("resize", () => soon(redraw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { redraw(); show_images(); });
}

async function start() {
  state.params = parameters();
  state.images = await test_images();
  document.querySelector("main").hidden = false;
  draw_masks();
  build();
  listen();
  show_sheet();
  show_images();
  if (state.images.rows) choose_image(0);
  else choose(new Matrix(1, run.sizes[0]).map(() => run.paper), null, "An empty sheet.");
  for (let l = 1; l <= L; l++) {
    const sizes = state.d[`dZ${l}`].data.map(Math.abs);
    select_unit(l, l < L ? largest_at(sizes) : largest_at(state.cache[`A${L}`].data));
  }
  tell_step(null);
  document.documentElement.dataset.ready = "yes";
}

// For the browser's console: what the page computes with
window.jaxnn = { state, run, feed_forward, back_propagate, Matrix };
start();
