// Selecting with a line drawn on the picture: a lasso or a polygon around objects, or a brush over them.
import { Matrix4, Quaternion, Vector3 } from "./vendor.js";

/** @typedef {"lasso" | "polygon" | "brush" | "rectangle"} Tool */
/** @typedef {[number, number]} Point pixels of the canvas */

/** An object is within an outline where this share of it is. */
const SHARE = 0.5;

/** Rays to an object before it counts as covered by others. */
const RAYS = 12;

/** Pixels between places that a brush looks at, and how many there are at most. */
const STEP = 6;
const MOST_PLACES = 150;

/** Pixels from the first corner within which a click closes a polygon. */
const CLOSE = 8;

const SVG = "http://www.w3.org/2000/svg";

/** The line that is being drawn. */
export class Pen {
  /** @type {Tool | null} */
  tool = null;
  /** @type {Point[]} */
  #points = [];
  #down = false;

  /**
   * @param {HTMLElement} host which the canvas fills
   * @param {(tool: Tool, points: Point[], event: PointerEvent | KeyboardEvent) => void} done
   */
  constructor(host, done) {
    this.done = done;
    this.sheet = document.createElementNS(SVG, "svg");
    this.sheet.id = "sheet";
    this.line = document.createElementNS(SVG, "polyline");
    this.sheet.append(this.line);
    host.append(this.sheet);
    this.hold(null);
    this.sheet.addEventListener("pointerdown", (event) => this.#pressed(event));
    this.sheet.addEventListener("pointermove", (event) => this.#drawn(event));
    this.sheet.addEventListener("pointerup", (event) => this.#released(event));
    addEventListener("keydown", (event) => {
      if (event.key === "Enter" && this.tool === "polygon" && this.#points.length > 2) this.#finish(event);
    });
  }

  /** @param {Tool | null} tool */
  hold(tool) {
    this.tool = tool;
    this.#points = [];
    this.#down = false;
    this.sheet.style.display = tool ? "" : "none";
    this.line.setAttribute("class", tool ?? "");
    this.#show();
  }

  /** @param {PointerEvent} event @returns {Point} */
  #place(event) {
    const box = this.sheet.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {PointerEvent} event */
  #pressed(event) {
    if (!event.isPrimary || event.button !== 0) return;
    const at = this.#place(event);
    const [first] = this.#points;
    const closes = first && this.#points.length > 2 && Math.hypot(at[0] - first[0], at[1] - first[1]) < CLOSE;
    if (this.tool === "polygon" && closes) {
      this.#finish(event);
      return;
    }
    this.#down = true;
    if (this.tool !== "polygon") this.#points = [];
    this.#points.push(at);
    this.#show();
  }

  /** @param {PointerEvent} event */
  #drawn(event) {
    if (this.tool === "polygon") this.#show(this.#points.length ? this.#place(event) : undefined);
    if (this.tool === "polygon" || !this.#down) return;
    if (this.tool === "rectangle") this.#points.splice(1, 1, this.#place(event));
    else this.#points.push(this.#place(event));
    this.#show();
  }

  /** @param {PointerEvent} event */
  #released(event) {
    if (this.tool === "polygon" || !this.#down) return;
    this.#finish(event);
  }

  /** @param {PointerEvent | KeyboardEvent} event */
  #finish(event) {
    const { tool } = this;
    const points = this.#points;
    if (!tool) return;
    this.hold(tool);
    this.done(tool, points, event);
  }

  /** @param {Point} [next] */
  #show(next) {
    let points = next ? [...this.#points, next] : this.#points;
    if (this.tool === "rectangle" && points.length > 1) {
      const [[x, y], [right, low]] = points;
      points = [[x, y], [right, y], [right, low], [x, low], [x, y]];
    }
    this.line.setAttribute("points", points.map((point) => point.join(",")).join(" "));
  }
}

/**
 * The objects that are mostly within an outline, and not covered by others.
 *
 * @param {Point[]} points its corners
 * @param {import("./stage.js").Stage} stage
 * @param {import("./picker.js").Picker} picker
 * @returns {number[]} rows
 */
export function within(points, stage, picker) {
  const { clientWidth: width, clientHeight: height } = stage.canvas;
  const inside = filled(points, width, height);
  const { table, rows, centres, opacities } = picker;
  const projection = stage.projection();
  const views = Array.from(
    { length: table.count },
    (_, row) => projection.clone().multiply(poseMatrix(table.pose(row))).elements,
  );
  const all = new Float64Array(table.count);
  const part = new Float64Array(table.count);
  /** @type {Point[][]} */
  const places = Array.from({ length: table.count }, () => []);
  for (let i = 0; i < picker.count; i++) {
    const row = rows[i];
    if (row === 0 || !table.isShown(row)) continue;
    const e = views[row];
    const [x, y, z] = [centres[3 * i], centres[3 * i + 1], centres[3 * i + 2]];
    const w = e[3] * x + e[7] * y + e[11] * z + e[15];
    all[row] += opacities[i];
    if (w <= 0) continue;
    const px = (e[0] * x + e[4] * y + e[8] * z + e[12]) / w;
    const py = (e[1] * x + e[5] * y + e[9] * z + e[13]) / w;
    if (!(px >= 0 && py >= 0 && px < width && py < height) || !inside[Math.floor(py) * width + Math.floor(px)]) continue;
    part[row] += opacities[i];
    places[row].push([px, py]);
  }
  return places.flatMap((some, row) => {
    if (!some.length || part[row] < SHARE * all[row]) return [];
    const every = Math.max(1, Math.floor(some.length / RAYS));
    const isSeen = some.some((place, at) => at % every === 0 && rowAt(place, stage, picker) === row);
    return isSeen ? [row] : [];
  });
}

/**
 * The objects under a stroke.
 *
 * @param {Point[]} points
 * @param {import("./stage.js").Stage} stage
 * @param {import("./picker.js").Picker} picker
 * @returns {number[]} rows
 */
export function under(points, stage, picker) {
  /** @type {Point[]} */
  const places = points.slice(0, 1);
  for (let at = 1; at < points.length; at++) {
    const [[x, y], [nx, ny]] = [points[at - 1], points[at]];
    const steps = Math.ceil(Math.hypot(nx - x, ny - y) / STEP);
    for (let s = 1; s <= steps; s++) places.push([x + ((nx - x) * s) / steps, y + ((ny - y) * s) / steps]);
  }
  const every = Math.max(1, Math.ceil(places.length / MOST_PLACES));
  const found = new Set(places.filter((_, at) => at % every === 0).map((place) => rowAt(place, stage, picker)));
  return [...found].filter((row) => row > 0);
}

/**
 * @param {Point} place
 * @param {import("./stage.js").Stage} stage
 * @param {import("./picker.js").Picker} picker
 */
function rowAt([x, y], stage, picker) {
  const { origin, direction } = stage.ray(x, y);
  return picker.pick(origin, direction)?.row ?? 0;
}

/** @param {import("./state.js").Pose} pose */
function poseMatrix({ turn, shift }) {
  return new Matrix4().compose(new Vector3(...shift), new Quaternion(...turn), new Vector3(1, 1, 1));
}

/**
 * The pixels within an outline: above 0 where they are.
 *
 * @param {Point[]} points
 * @param {number} width
 * @param {number} height
 */
function filled(points, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const pixels = new Uint8Array(width * height);
  if (!context || points.length < 3) return pixels;
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.closePath();
  context.fill("evenodd");
  const { data } = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.length; i++) pixels[i] = data[4 * i + 3];
  return pixels;
}
