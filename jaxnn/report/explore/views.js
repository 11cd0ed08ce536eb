// Arrays as pictures and bars. Each view can be pointed at, or reached by Tab and read with the
// arrow keys: a line below says the number under the cursor.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

// Six significant digits
function shown(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-4 || size >= 1e6)
    ? value.toExponential(5) : String(Number(value.toPrecision(6)));
  return text.replaceAll("-", "−");
}

const percent = (p) => (p > 0.9999 ? "> 99.99 %" : `${(100 * p).toFixed(2)} %`);

// From dark blue by grey to bright yellow: the order holds without colour (cividis).
const SCALE = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [187, 175, 113], [254, 232, 56]];

function diverging(t) {
  const at = Math.min(Math.max((t + 1) * 2, 0), 4), low = Math.min(Math.floor(at), 3);
  return SCALE[low].map((c, i) => c + (at - low) * (SCALE[low + 1][i] - c));
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--text"), paper: read("--paper"), positive: read("--positive"),
    negative: read("--negative"), accent: read("--accent"), quiet: read("--quiet") };
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

const largest_size = (data) => data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);

// What a view's cursor is on, in words
const indexed = (name, ...at) => `${name}[${at.join(", ")}]`;

class View {
  // columns: of a picture or of the bars; on_move(index) is told where the cursor is
  constructor(label, { on_move = () => {}, describe }) {
    Object.assign(this, { label, on_move, describe, cursor: 0, data: new Float64Array(1) });
    this.canvas = element("canvas");
    this.handle = element("div", {
      class: "canvas", tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0,
      onkeydown: (event) => this.key(event),
      onpointermove: (event) => this.point(event),
      onpointerdown: (event) => this.point(event),
    }, this.canvas);
    this.output = element("output");
    this.element = element("div", { class: "view" }, this.handle, this.output);
    VIEWS.add(this);
  }

  show(data) {
    this.data = data;
    this.cursor = Math.min(this.cursor, this.length() - 1);
    this.handle.setAttribute("aria-valuemax", this.length() - 1);
    this.draw();
    this.tell();
  }

  length() {
    return this.data.length;
  }

  move(to, told = true) {
    if (to < 0 || to >= this.length() || Number.isNaN(to)) return;
    this.cursor = to;
    this.draw();
    this.tell();
    if (told) this.on_move(to);
  }

  tell() {
    const text = this.describe(this.cursor, this.data);
    this.output.textContent = text;
    this.handle.setAttribute("aria-valuenow", this.cursor);
    this.handle.setAttribute("aria-valuetext", text);
  }

  key(event) {
    const across = this.per_row();
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across,
      PageUp: -10 * across, PageDown: 10 * across,
    };
    const goals = { Home: 0, End: this.length() - 1 };
    if (!(event.key in steps || event.key in goals)) return;
    event.preventDefault();
    this.move(event.key in goals ? goals[event.key] : this.cursor + steps[event.key]);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    this.move(this.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height));
  }
}

const VIEWS = new Set();

// Numbers as bars up and down from a line, which is 0
class Bars extends View {
  constructor(label, options) {
    super(label, options);
    this.element.classList.add("bars");
    this.labels = options.labels;
  }
  per_row() {
    return 1;
  }
  at(x) {
    return Math.min(Math.floor(x * this.data.length), this.data.length - 1);
  }
  draw() {
    const width = Math.max(this.handle.clientWidth, 100), height = 110;
    const density = window.devicePixelRatio || 1, context = sized(this.canvas, width, height, density);
    const { text, positive, negative, accent, quiet } = theme();
    const n = this.data.length, foot = this.labels ? 18 : 7;
    const low = Math.min(0, ...extremes(this.data)), high = Math.max(0, ...extremes(this.data), low + 1e-300);
    const y = (value) => 3 + (height - foot - 6) * (1 - (value - low) / (high - low));
    const step = width / n, bar = Math.max(step * 0.8, Math.min(step, 1));
    this.data.forEach((value, j) => {
      context.fillStyle = value < 0 ? negative : positive;
      const top = Math.min(y(value), y(0));
      context.fillRect(j * step + (step - bar) / 2, top, bar, Math.max(Math.abs(y(value) - y(0)), 0.5));
      if (this.labels) {
        context.fillStyle = text;
        context.font = "12px system-ui, sans-serif";
        context.textAlign = "center";
        context.fillText(this.labels[j], (j + 0.5) * step, height - 5, step);
      }
    });
    context.fillStyle = quiet;
    context.fillRect(0, y(0) - 0.5, width, 1);
    const middle = (this.cursor + 0.5) * step;
    context.strokeStyle = accent;
    context.lineWidth = 2;
    context.strokeRect(middle - Math.max(step, 5) / 2, 1, Math.max(step, 5), height - foot - 2);
  }
}

function extremes(data) {
  return [data.reduce((p, q) => Math.min(p, q), Infinity), data.reduce((p, q) => Math.max(p, q), -Infinity)];
}

function sized(canvas, width, height, density) {
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

// A table of numbers as pixels: (rows, columns), signed or as ink on paper
class Picture extends View {
  constructor(label, [rows, columns], options) {
    super(label, options);
    Object.assign(this, { rows, columns, ink: options.ink, side: options.side ?? 168 });
    this.cursor = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    this.element.classList.add("picture");
  }
  per_row() {
    return this.columns;
  }
  at(x, y) {
    const column = Math.floor(x * this.columns), row = Math.floor(y * this.rows);
    return row < this.rows && column < this.columns ? row * this.columns + column : NaN;
  }
  draw() {
    const longest = Math.max(this.rows, this.columns);
    const cell = Math.max(1, this.side / longest);
    const width = cell * this.columns, height = Math.max(cell * this.rows, 12);
    const density = window.devicePixelRatio || 1;
    const context = sized(this.canvas, width, height, density);
    context.imageSmoothingEnabled = false;
    context.drawImage(pixels(this.data, this.rows, this.columns, this.ink), 0, 0, width, height);
    const column = this.cursor % this.columns, row = Math.floor(this.cursor / this.columns);
    context.strokeStyle = theme().accent;
    context.lineWidth = 2;
    const tall = height / this.rows;
    context.strokeRect(column * cell - 1, row * tall - 1, cell + 2, tall + 2);
  }
}

// A canvas of one pixel for each number
function pixels(data, rows, columns, ink, limit = largest_size(data)) {
  const canvas = element("canvas", { width: columns, height: rows });
  canvas.getContext("2d").putImageData(coloured(data, rows, columns, ink, limit), 0, 0);
  return canvas;
}

function coloured(data, rows, columns, ink, limit) {
  const made = new ImageData(columns, rows);
  const [text, paper] = ink ? [theme().text, theme().paper].map(rgb) : [];
  data.forEach((value, at) => {
    const share = ink ? Math.min(Math.max((value - ink.paper) / (ink.ink - ink.paper), 0), 1) : 0;
    const colour = ink ? paper.map((p, i) => p + share * (text[i] - p)) : diverging(value / (limit || 1));
    made.data.set([...colour, 255], 4 * at);
  });
  return made;
}

const TILES = 100;

// A unit's numbers as a picture each, side by side on one scale: the TILES largest of them
class Sheet extends View {
  constructor(label, [rows, columns], options) {
    super(label, options);
    Object.assign(this, { rows, columns });
    this.element.classList.add("sheet");
  }
  length() {
    return this.shown_units?.length ?? 1;
  }
  show(matrix) {
    const norms = Array.from({ length: matrix.rows }, (_, j) => [norm(new Matrix(1, matrix.columns, matrix.row(j))), j]);
    norms.sort((p, q) => q[0] - p[0] || p[1] - q[1]);
    this.shown_units = norms.slice(0, TILES).map(([, j]) => j).sort((p, q) => p - q);
    this.matrix = matrix;
    super.show(matrix.data);
  }
  per_row() {
    const wide = this.handle.clientWidth || 300, tile = Math.max(this.columns, 28) + 4;
    return Math.max(1, Math.min(this.shown_units.length, Math.floor(wide / tile)));
  }
  at(x, y) {
    const across = this.per_row(), down = Math.ceil(this.shown_units.length / across);
    return Math.floor(y * down) * across + Math.min(Math.floor(x * across), across - 1);
  }
  // The cursor is on a unit; a unit elsewhere on the page may be on none of these tiles.
  select(j) {
    const at = this.shown_units.indexOf(j);
    if (at >= 0) this.move(at, false);
  }
  draw() {
    const limit = largest_size(this.data), across = this.per_row();
    const down = Math.ceil(this.shown_units.length / across);
    const zoom = Math.max(1, Math.floor(28 / this.columns));
    const [w, h] = [this.columns * zoom, this.rows * zoom];
    const density = window.devicePixelRatio || 1;
    const context = sized(this.canvas, across * (w + 4), down * (h + 4), density);
    context.imageSmoothingEnabled = false;
    this.shown_units.forEach((j, at) => {
      const [x, y] = [(at % across) * (w + 4) + 2, Math.floor(at / across) * (h + 4) + 2];
      context.drawImage(pixels(this.matrix.row(j), this.rows, this.columns, null, limit), x, y, w, h);
    });
    const [x, y] = [(this.cursor % across) * (w + 4), Math.floor(this.cursor / across) * (h + 4)];
    context.strokeStyle = theme().accent;
    context.lineWidth = 2;
    context.strokeRect(x + 1, y + 1, w + 2, h + 2);
  }
}

// Two series by epoch, told apart by their dashes and by words at their ends
function curves(title, series, unit) {
  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  };
  const width = 420, height = 220, left = 52, right = 70, top = 28, bottom = 30;
  const finite = series.flatMap(({ values }) => values.filter(Number.isFinite));
  const low = Math.min(...finite), high = Math.max(...finite, low + 1e-9);
  const last = Math.max(1, ...series.map(({ values }) => values.length - 1));
  const x = (epoch) => left + (epoch / last) * (width - left - right);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "curves" });
  const words = series.map(({ name, values }) => `${name}: ${unit(values[0])} to ${unit(values.at(-1))}`);
  drawing.setAttribute("aria-label", `${title}. ${words.join("; ")}.`);
  const text = (content, attributes) => svg("text", attributes, content);
  drawing.append(
    text(title, { x: left, y: 16, class: "title" }),
    text(unit(high), { x: left - 6, y: top + 6, "text-anchor": "end" }),
    text(unit(low), { x: left - 6, y: height - bottom, "text-anchor": "end" }),
    text("0", { x: left, y: height - 10, "text-anchor": "middle" }),
    text(`${last} epochs`, { x: x(last), y: height - 10, "text-anchor": "middle" }),
    svg("path", { d: `M${left},${top}V${height - bottom}H${width - right}`, class: "axis" }),
  );
  const ends = series.map(({ values }) => y(values.findLast(Number.isFinite) ?? low));
  if (Math.abs(ends[0] - ends[1]) < 16) {
    const middle = (ends[0] + ends[1]) / 2, sign = ends[0] <= ends[1] ? -1 : 1;
    ends[0] = middle + 8 * sign;
    ends[1] = middle - 8 * sign;
  }
  series.forEach(({ name, values, kind }, at) => {
    const points = values.map((v, epoch) => [epoch, v]).filter(([, v]) => Number.isFinite(v));
    const d = points.map(([epoch, v], i) => `${i ? "L" : "M"}${x(epoch).toFixed(1)},${y(v).toFixed(1)}`);
    drawing.append(
      svg("path", { d: d.join(""), class: `line ${kind}` }),
      text(name, { x: x(points.at(-1)?.[0] ?? 0) + 6, y: ends[at] + 4, class: kind }),
    );
  });
  return drawing;
}
