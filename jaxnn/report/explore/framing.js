// A drawing brought into the frame of the training images, by the rules of jaxnn/data/framing.py
// and with its rounding: what is float32 there is rounded to float32 here.

const LEAST_CONTRAST = 0.02, NOISE_DEVIATIONS = 4.5, DUST = 0.03, FAINT = 0.125;
const EDGE_SHARE = 0.9, EDGE_CONTRAST = 0.15, MOST_TOUCHING = 0.005, CORNER_CONTRAST = 0.3;
const f32 = Math.fround;

class NoInk extends Error {}

// An image is { h, w, data }, its data a Float32Array row by row.
const image = (h, w, data = new Float32Array(h * w)) => ({ h, w, data });

// `grey` in [0, 1], dark on light or light on dark; the result has the frame's shape, and the
// brightness `paper` with `ink` on it. Throws NoInk.
function prepare(grey, frame, paper = 0, ink = 1) {
  const size = Math.max(grey.h, grey.w);
  let strokes = ink_of(without_edges(grey));
  if (size > Math.max(...frame.shape)) {
    strokes = image(strokes.h, strokes.w, strokes.data.map((s) => (s < f32(FAINT) ? 0 : s)));
  }
  const placed = placed_in(fitted(cropped(without_dust(strokes)), frame.box), frame);
  const span = f32(ink - paper);
  return image(placed.h, placed.w, placed.data.map((p) => f32(paper) + f32(span * p)));
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The pixels along the four sides, a corner twice
function border_of({ h, w, data }) {
  const border = [];
  for (let x = 0; x < w; x++) border.push(data[x], data[(h - 1) * w + x]);
  for (let y = 0; y < h; y++) border.push(data[y * w], data[y * w + w - 1]);
  return border;
}

const contrast = (data) => f32(largest(data) + largest(data.map((value) => -value)));

function part({ w, data }, top, bottom, left, right) {
  const found = image(bottom - top, right - left);
  for (let y = top; y < bottom; y++) {
    found.data.set(data.subarray(y * w + left, y * w + right), (y - top) * found.w);
  }
  return found;
}

// Without a frame around the drawing, and without the dark edge that a scan has
function without_edges(grey) {
  const { h, w, data } = grey, middle = f32(median(data));
  const apart = f32(f32(EDGE_CONTRAST) * contrast(data));
  const above = image(h, w, data.map((value) =>
    Math.abs(f32(value - middle)) > apart ? Math.sign(value - middle) : 0));
  const down = new Float64Array(h), across = new Float64Array(w);
  above.data.forEach((sign, at) => {
    down[Math.floor(at / w)] += sign / w;
    across[at % w] += sign / h;
  });
  const [top, bottom] = within(down), [left, right] = within(across);
  if (bottom - top === h && right - left === w) return grey;
  if (bottom <= top || right <= left) return grey;
  const framed = top > 0 && bottom < h && left > 0 && right < w;
  const touching = border_of(part(above, top, bottom, left, right));
  const share = touching.filter((sign) => sign !== 0).length / touching.length;
  return framed || share <= MOST_TOUCHING ? part(grey, top, bottom, left, right) : grey;
}

// From where to where the lines are left when those at the ends go that are another's throughout
function within(shares) {
  const n = shares.length, most = Math.max(1, n >> 3);
  const whole = (at) => Math.abs(shares[at]) >= EDGE_SHARE - 1e-7;
  let first = 0, last = 0;
  while (first < Math.min(most, n) && whole(first)) first++;
  while (last < Math.min(most, n) && whole(n - 1 - last)) last++;
  return [first, n - last];
}

// The paper as 0, the darkest or brightest ink as 1
function ink_of(grey) {
  const { h, w } = grey, paper = paper_of(grey);
  const difference = grey.data.map((value, at) => value - paper.data[at]);
  const border = border_of({ h, w, data: difference });
  const noise = f32(NOISE_DEVIATIONS * median(border.map(Math.abs)));
  const lighter = difference.map((d) => Math.max(f32(d - noise), 0));
  const darker = difference.map((d) => Math.max(f32(-d - noise), 0));
  const weight = (side) => side.reduce((sum, s) => sum + s * s, 0);
  const strokes = weight(lighter) > weight(darker) ? lighter : darker;
  if (largest(strokes) < LEAST_CONTRAST) throw new NoInk("the picture is blank, or nearly so");
  return image(h, w, to_one(strokes));
}

const largest = (data) => data.reduce((p, q) => Math.max(p, q), -Infinity);

function to_one(data) {
  const most = largest(data);
  return data.map((value) => value / most);
}

// How bright the paper is: in the corners as seen there, in between interpolated
function paper_of({ h, w, data }) {
  const patch = Math.max(1, Math.min(h, w) >> 3);
  const corner = (top, left) => {
    const found = [];
    for (let y = 0; y < patch; y++) {
      for (let x = 0; x < patch; x++) found.push(data[(top + y) * w + left + x]);
    }
    return f32(median(found));
  };
  const along = (corners, length) => {
    const step = length > 1 ? 1 / (length - 1) : 0;
    return Float32Array.from({ length }, (_, i) =>
      corners[0] + f32(f32(corners[1] - corners[0]) * f32(i * step)));
  };
  const edge = f32(median(border_of({ h, w, data })));
  const limit = f32(f32(CORNER_CONTRAST) * contrast(data));
  const found = [[0, 0], [0, w - patch], [h - patch, 0], [h - patch, w - patch]]
    .map(([y, x]) => corner(y, x));
  const inked = found.map((value) => Math.abs(f32(value - edge)) > limit);
  // Ink in a corner, up to which the picture was cut, is no paper.
  const papers = inked.every(Boolean) ? found : found.map((value, i) => (inked[i] ? edge : value));
  const top = along(papers.slice(0, 2), w);
  const bottom = along(papers.slice(2), w);
  const paper = image(h, w);
  for (let y = 0; y < h; y++) {
    const down = f32(h > 1 ? y / (h - 1) : 0);
    for (let x = 0; x < w; x++) {
      paper.data[y * w + x] = top[x] + f32(down * f32(bottom[x] - top[x]));
    }
  }
  return paper;
}

// Without pieces of ink that have little of it; pixels that touch, at a corner too, are one piece
function without_dust({ h, w, data }) {
  const piece = new Int32Array(h * w).fill(-1), pieces = [];
  for (let start = 0; start < h * w; start++) {
    if (!(data[start] > 0) || piece[start] >= 0) continue;
    const found = { mass: 0, top: h, bottom: 0, left: w, right: 0 }, waiting = [start];
    piece[start] = pieces.length;
    while (waiting.length) {
      const at = waiting.pop(), y = Math.floor(at / w), x = at % w;
      found.mass += data[at];
      found.top = Math.min(found.top, y);
      found.bottom = Math.max(found.bottom, y);
      found.left = Math.min(found.left, x);
      found.right = Math.max(found.right, x);
      for (let v = Math.max(0, y - 1); v <= Math.min(h - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(w - 1, x + 1); u++) {
          const near = v * w + u;
          if (data[near] > 0 && piece[near] < 0) {
            piece[near] = pieces.length;
            waiting.push(near);
          }
        }
      }
    }
    pieces.push(found);
  }
  const main = pieces.reduce((p, q) => (q.mass > p.mass ? q : p));
  const longest = Math.max(main.bottom - main.top, main.right - main.left) + 1;
  if (longest < Math.max(2, DUST * Math.max(h, w))) {
    throw new NoInk("the picture holds nothing larger than dust");
  }
  const kept = pieces.map((each) => each.mass >= DUST * main.mass);
  return image(h, w, data.map((value, at) => (piece[at] >= 0 && kept[piece[at]] ? value : 0)));
}

function cropped({ h, w, data }) {
  let top = h, bottom = 0, left = w, right = 0;
  data.forEach((value, at) => {
    if (value === 0) return;
    const y = Math.floor(at / w), x = at % w;
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
    left = Math.min(left, x);
    right = Math.max(right, x);
  });
  const ink = image(bottom - top + 1, right - left + 1);
  for (let y = 0; y < ink.h; y++) {
    const begin = (top + y) * w + left;
    ink.data.set(data.subarray(begin, begin + ink.w), y * ink.w);
  }
  return ink;
}

// Python's round: a half goes to the even neighbour
function round(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

// Scaled as large as the box allows, 1 the brightest
function fitted(ink, box) {
  const factor = Math.min(box[0] / ink.h, box[1] / ink.w);
  const h = Math.max(1, round(ink.h * factor)), w = Math.max(1, round(ink.w * factor));
  const wide = w === ink.w ? ink : resized_across(ink, w);
  const both = h === ink.h ? wide : turned(resized_across(turned(wide), h));
  return image(h, w, to_one(both.data));
}

function turned({ h, w, data }) {
  return image(w, h, data.map((_, at) => data[(at % h) * w + Math.floor(at / h)]));
}

// Pillow's BILINEAR: a triangle as wide as the pixel that it makes
function resized_across({ h, w, data }, width) {
  const scale = w / width, support = Math.max(scale, 1), out = image(h, width);
  for (let x = 0; x < width; x++) {
    const centre = (x + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const to = Math.min(w, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let u = from; u < to; u++) {
      weights.push(Math.max(0, 1 - Math.abs((u - centre + 0.5) / support)));
    }
    const whole = weights.reduce((sum, weight) => sum + weight, 0);
    for (let y = 0; y < h; y++) {
      let sum = 0;
      weights.forEach((weight, at) => { sum += (weight / whole) * data[y * w + from + at]; });
      out.data[y * width + x] = sum;
    }
  }
  return out;
}

// The centre of mass where the frame has it, to the pixel, with all of the ink inside
function placed_in(ink, frame) {
  const [rows, columns] = frame.shape, placed = image(rows, columns);
  let mass = 0, down = 0, across = 0;
  ink.data.forEach((value, at) => {
    mass += value;
    down += value * Math.floor(at / ink.w);
    across += value * (at % ink.w);
  });
  const at = (target, centre, size, length) =>
    Math.min(Math.max(Math.floor(target - centre + 0.5), 0), size - length);
  const y = at(frame.centre[0], down / mass, rows, ink.h);
  const x = at(frame.centre[1], across / mass, columns, ink.w);
  for (let row = 0; row < ink.h; row++) {
    const line = ink.data.subarray(row * ink.w, (row + 1) * ink.w);
    placed.data.set(line, (y + row) * columns + x);
  }
  return placed;
}
