// Small pictures of the objects in the list: an object's splats alone, composited on the CPU, when their row is in sight.
import { Vector3 } from "./vendor.js";

/** Pixels across, of which a row shows half as many. */
const SIZE = 56;

/** Splats that are drawn of an object; of more, every second or third is, and larger. */
const MOST = 4000;

/** What gives less is not there, and behind this much there is nothing to be seen. */
const FAINTEST = 1 / 255;
const OPAQUE = 0.99;

/** The frame leaves out this share of the splats on each side, and has this much air around the rest. */
const FAR = 0.02;
const AIR = 1.12;

/** Square pixels that every splat is widened by, as in the picture. */
const BLUR = 0.3;

/**
 * @typedef {object} Source what is drawn
 * @property {import("./picker.js").Picker} numbers of the splats
 * @property {Uint16Array} rows of each splat's object
 * @property {Uint8Array} [unseen] above 0 where a splat is not shown
 * @property {readonly number[]} eye from where objects are looked at
 */

export class Portraits {
  /** Those that were drawn, by the number of their group. @type {Map<number, ImageData>} */
  drawn = new Map();
  /** Canvases in sight that wait, and what they are of. @type {Map<HTMLCanvasElement, {id: number, row: number}>} */
  #waiting = new Map();
  /** @type {Map<Element, {id: number, row: number}>} */
  #watched = new Map();
  /** @type {Uint32Array | null} splats by their object, and where each begins */
  #order = null;
  #starts = new Uint32Array();
  #busy = false;

  /**
   * @param {Element} list which the pictures are in
   * @param {() => Source | null} source null: nothing is known until `renew`
   */
  constructor(list, source) {
    this.source = source;
    this.sight = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          const of = this.#watched.get(target);
          const canvas = /** @type {HTMLCanvasElement} */ (target);
          if (isIntersecting && of) this.#waiting.set(canvas, of);
          else this.#waiting.delete(canvas);
        }
        this.#soon();
      },
      { root: list },
    );
  }

  /** There is another list. */
  empty() {
    this.sight.disconnect();
    this.#watched.clear();
    this.#waiting.clear();
  }

  /**
   * @param {HTMLCanvasElement} canvas of a row of the list
   * @param {number} id number of its group
   * @param {number} row
   */
  add(canvas, id, row) {
    canvas.width = canvas.height = SIZE;
    const known = this.drawn.get(id);
    if (known) canvas.getContext("2d")?.putImageData(known, 0, 0);
    this.#watched.set(canvas, { id, row });
    if (!known) this.sight.observe(canvas);
  }

  /** The splats are others, or others' objects: all is drawn anew. */
  renew() {
    this.drawn.clear();
    this.#order = null;
    for (const canvas of this.#watched.keys()) {
      this.sight.unobserve(canvas);
      this.sight.observe(canvas);
    }
  }

  #soon() {
    if (this.#busy || !this.#waiting.size) return;
    this.#busy = true;
    const next = () => {
      this.#busy = false;
      this.#one();
      this.#soon();
    };
    if ("requestIdleCallback" in window) requestIdleCallback(next, { timeout: 500 });
    else setTimeout(next, 20);
  }

  #one() {
    const source = this.source();
    const [first] = this.#waiting;
    if (!source) this.#waiting.clear();
    if (!source || !first) return;
    const [canvas, { id, row }] = first;
    this.#waiting.delete(canvas);
    this.sight.unobserve(canvas);
    const picture = portrait(source.numbers, this.#splatsOf(source, row), source.eye);
    this.drawn.set(id, picture);
    canvas.getContext("2d")?.putImageData(picture, 0, 0);
  }

  /**
   * The splats of an object: those that are shown, or all where none is.
   *
   * @param {Source} source
   * @param {number} row
   */
  #splatsOf({ rows, unseen }, row) {
    if (!this.#order) {
      const most = rows.reduce((a, b) => Math.max(a, b), 0);
      const starts = new Uint32Array(most + 2);
      for (const one of rows) starts[one + 1]++;
      for (let at = 0; at <= most; at++) starts[at + 1] += starts[at];
      this.#starts = starts;
      const next = starts.slice();
      const order = new Uint32Array(rows.length);
      rows.forEach((one, i) => (order[next[one]++] = i));
      this.#order = order;
    }
    const all = this.#order.subarray(this.#starts[row] ?? 0, this.#starts[row + 1] ?? 0);
    const shown = unseen ? all.filter((i) => !unseen[i]) : all;
    return shown.length ? shown : all;
  }
}

/**
 * An object as it is seen from afar, on nothing.
 *
 * @param {import("./picker.js").Picker} numbers
 * @param {Uint32Array} splats its own
 * @param {readonly number[]} eye
 */
function portrait(numbers, splats, eye) {
  const { centres: c, scales: s, turns: q, opacities, colors } = numbers;
  const every = Math.max(1, Math.ceil(splats.length / MOST));
  const some = splats.filter((_, at) => at % every === 0);
  const grown = Math.sqrt(every);
  const middle = new Vector3();
  for (const i of some) middle.add(new Vector3(c[3 * i], c[3 * i + 1], c[3 * i + 2]));
  const back = new Vector3(...eye).sub(middle.divideScalar(some.length || 1));
  if (back.lengthSq() < 1e-12) back.set(0.45, 0.55, 1);
  back.normalize();
  const right = new Vector3(0, 1, 0).cross(back);
  if (right.lengthSq() < 1e-6) right.set(1, 0, 0);
  right.normalize();
  const down = right.clone().cross(back).normalize();
  const along = (/** @type {Vector3} */ axis, /** @type {number} */ i) => axis.x * c[3 * i] + axis.y * c[3 * i + 1] + axis.z * c[3 * i + 2];
  const xs = Float32Array.from(some, (i) => along(right, i));
  const ys = Float32Array.from(some, (i) => along(down, i));
  const [left, wide] = span(xs);
  const [top, high] = span(ys);
  // What one splat is, or a point of few, is as large as its splats.
  const least = 4 * Math.max(...some.subarray(0, 50).map((i) => 1e6 * Math.max(s[3 * i], s[3 * i + 1], s[3 * i + 2])), 0) * 1e-6;
  const zoom = SIZE / (AIR * Math.max(wide, high, least, 1e-9));
  const depths = Float32Array.from(some, (i) => along(back, i));
  const order = Uint32Array.from(some, (_, at) => at).sort((a, b) => depths[b] - depths[a]);

  const light = new Float32Array(3 * SIZE * SIZE);
  const through = new Float32Array(SIZE * SIZE).fill(1);
  for (const at of order) {
    const i = some[at];
    const x = SIZE / 2 + (xs[at] - left - wide / 2) * zoom;
    const y = SIZE / 2 + (ys[at] - top - high / 2) * zoom;
    const [qx, qy, qz, qw] = q.subarray(4 * i, 4 * i + 4);
    // What the splat's axes are in the picture, and from that its ellipse.
    const axes = [
      [1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy + qz * qw), 2 * (qx * qz - qy * qw)],
      [2 * (qx * qy - qz * qw), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz + qx * qw)],
      [2 * (qx * qz + qy * qw), 2 * (qy * qz - qx * qw), 1 - 2 * (qx * qx + qy * qy)],
    ];
    let [xx, xy, yy] = [BLUR, 0, BLUR];
    axes.forEach(([ax, ay, az], axis) => {
      const long = s[3 * i + axis] * grown * zoom;
      const u = (right.x * ax + right.y * ay + right.z * az) * long;
      const v = (down.x * ax + down.y * ay + down.z * az) * long;
      xx += u * u;
      xy += u * v;
      yy += v * v;
    });
    const area = xx * yy - xy * xy;
    const [reachX, reachY] = [3 * Math.sqrt(xx), 3 * Math.sqrt(yy)];
    for (let py = Math.max(0, Math.ceil(y - reachY)); py <= Math.min(SIZE - 1, y + reachY); py++) {
      for (let px = Math.max(0, Math.ceil(x - reachX)); px <= Math.min(SIZE - 1, x + reachX); px++) {
        const pixel = py * SIZE + px;
        if (through[pixel] < 1 - OPAQUE) continue;
        const [dx, dy] = [px - x, py - y];
        const alpha = opacities[i] * Math.exp((-0.5 * (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy)) / area);
        if (alpha < FAINTEST) continue;
        const weight = through[pixel] * Math.min(alpha, 0.999);
        for (let channel = 0; channel < 3; channel++) light[3 * pixel + channel] += weight * colors[3 * i + channel];
        through[pixel] -= weight;
      }
    }
  }
  const picture = new ImageData(SIZE, SIZE);
  for (let pixel = 0; pixel < through.length; pixel++) {
    const there = 1 - through[pixel];
    for (let channel = 0; channel < 3; channel++) picture.data[4 * pixel + channel] = there && light[3 * pixel + channel] / there;
    picture.data[4 * pixel + 3] = 255 * there;
  }
  return picture;
}

/**
 * Where most numbers begin, and how far they go.
 *
 * @param {Float32Array} numbers
 */
function span(numbers) {
  const sorted = numbers.slice().sort();
  const out = Math.floor(FAR * sorted.length);
  const low = sorted[out] ?? 0;
  return [low, (sorted[sorted.length - 1 - out] ?? 0) - low];
}
