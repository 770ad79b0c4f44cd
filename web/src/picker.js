// Which object is seen at a place: the one that gives most to the pixel, composited front to back on the CPU. What is
// hidden is not hit, what was moved is hit where it is now.
import { Blocks } from "./blocks.js";
import { Quaternion, Vector3 } from "./vendor.js";

/**
 * @typedef {object} Hit
 * @property {number} row of the object, 0 for none
 * @property {number} weight what it gives to the pixel, 0..1
 * @property {number} splat the one that gives most of it
 * @property {number} depth along the ray, where that one is seen
 */

/** @typedef {{getNumSplats(): number, forEachSplat: import("@sparkjsdev/spark").SplatMesh["forEachSplat"]}} Source */

/** Standard deviations within which a splat is looked at; beyond, an opaque one gives less than an eighth bit. */
const REACH = 3.33;

/** What gives less is not there, as in the picture. */
const FAINTEST = 1 / 255;

/** Lengths below are of no size: surfels, whose third axis is none. */
const THINNEST = 1e-7;

/** Behind this much there is nothing to be seen. */
const OPAQUE = 0.99;

/** Less is air. */
const LEAST = 0.1;

/** A pixel is an object's and not its surroundings' where the object gives this share of the larger. */
const FAIR = 0.5;

export class Picker {
  /** @type {Blocks | null} */
  #blocks = null;
  /** @type {ReturnType<typeof numbersOf> | null} */
  #read = null;

  /**
   * @param {Source} splats
   * @param {Uint16Array} rows of each splat
   * @param {import("./table.js").ObjectTable} table
   */
  constructor(splats, rows, table) {
    this.splats = splats;
    this.rows = rows;
    this.table = table;
    this.count = splats.getNumSplats();
  }

  /** What is known of each splat: read when it is asked for, so that it does not hold up the first picture. */
  get #numbers() {
    this.#read ??= numbersOf(this.splats);
    return this.#read;
  }

  get centres() {
    return this.#numbers.centres;
  }

  /** 0..255, as seen from nowhere in particular */
  get colors() {
    return this.#numbers.colors;
  }

  get scales() {
    return this.#numbers.scales;
  }

  get turns() {
    return this.#numbers.turns;
  }

  get opacities() {
    return this.#numbers.opacities;
  }

  /** Squared. */
  get reaches() {
    return this.#numbers.reaches;
  }

  /** Which splats are near which: made when it is asked for, too. */
  get blocks() {
    this.#blocks ??= new Blocks(this.centres, this.reaches);
    return this.#blocks;
  }

  /**
   * @param {Vector3} origin
   * @param {Vector3} direction of unit length
   * @returns {Hit | null}
   */
  pick(origin, direction) {
    const hits = this.#along(this.#raysOf(origin, direction));
    hits.sort((a, b) => a.depth - b.depth);
    /** @type {Map<number, Hit & {most: number}>} */
    const seen = new Map();
    let left = 1;
    for (const { row, splat, alpha, at } of hits) {
      const weight = left * alpha;
      const hit = seen.get(row) ?? { row, weight: 0, splat, depth: at, most: 0 };
      hit.weight += weight;
      if (weight > hit.most) Object.assign(hit, { most: weight, splat, depth: at });
      seen.set(row, hit);
      left *= 1 - alpha;
      if (left < 1 - OPAQUE) break;
    }
    const largest = (/** @type {Iterable<Hit>} */ some) =>
      [...some].reduce((/** @type {Hit | null} */ best, hit) => (best && best.weight >= hit.weight ? best : hit), null);
    const most = largest(seen.values());
    if (!most || most.weight < LEAST) return null;
    if (most.row > 0) return most;
    // What belongs to nothing, dust before an object, does not win a close race.
    const object = largest([...seen.values()].filter((hit) => hit.row > 0));
    return object && object.weight >= LEAST && object.weight >= FAIR * most.weight ? object : most;
  }

  /**
   * The ray as splats, where they are stored, have it: once for all objects that were not moved, and for each pose of
   * those that were.
   *
   * @param {Vector3} origin
   * @param {Vector3} direction
   */
  #raysOf(origin, direction) {
    const { table } = this;
    /** @type {Map<string, number>} */
    const known = new Map();
    /** @type {Float64Array[]} six numbers each */
    const rays = [];
    const rayOf = new Int32Array(table.count); // below 0: not shown
    const turn = new Quaternion();
    const v = new Vector3();
    for (let row = 0; row < table.count; row++) {
      rayOf[row] = -1;
      if (!table.isShown(row)) continue;
      const pose = table.pose(row);
      const key = `${pose.turn},${pose.shift}`;
      let at = known.get(key);
      if (at === undefined) {
        const ray = new Float64Array(6);
        turn.set(...pose.turn).invert();
        v.set(...pose.shift).subVectors(origin, v).applyQuaternion(turn).toArray(ray);
        v.copy(direction).applyQuaternion(turn).toArray(ray, 3);
        at = rays.push(ray) - 1;
        known.set(key, at);
      }
      rayOf[row] = at;
    }
    return { rays, rayOf };
  }

  /**
   * The splats that a ray goes through.
   *
   * @param {{rays: Float64Array[], rayOf: Int32Array}} rays
   */
  #along({ rays, rayOf }) {
    /** @type {{row: number, splat: number, depth: number, alpha: number, at: number}[]} */
    const hits = [];
    rays.forEach((ray, at) => {
      for (const block of this.blocks.met(ray)) this.#meet(block, ray, at, rayOf, hits);
    });
    return hits;
  }

  /**
   * The splats of a block that a ray goes through.
   *
   * @param {number} block
   * @param {Float64Array} ray
   * @param {number} which of the rays it is: others' splats are not looked at
   * @param {Int32Array} rayOf each row
   * @param {{row: number, splat: number, depth: number, alpha: number, at: number}[]} hits added to
   */
  #meet(block, ray, which, rayOf, hits) {
    const { rows, centres: c, scales: s, turns: q, opacities, reaches } = this;
    const { order } = this.blocks;
    const [ox, oy, oz, dx, dy, dz] = ray;
    const [start, end] = this.blocks.range(block);
    for (let k = start; k < end; k++) {
      const i = order[k];
      const row = rows[i];
      if (rayOf[row] !== which) continue;
      const x = c[3 * i] - ox;
      const y = c[3 * i + 1] - oy;
      const z = c[3 * i + 2] - oz;
      const depth = x * dx + y * dy + z * dz;
      if (depth <= 0 || x * x + y * y + z * z - depth * depth > reaches[i]) continue;
      // Both in the splat's own axes, in standard deviations.
      const qx = -q[4 * i];
      const qy = -q[4 * i + 1];
      const qz = -q[4 * i + 2];
      const qw = q[4 * i + 3];
      const ux = 2 * (qy * z - qz * y);
      const uy = 2 * (qz * x - qx * z);
      const uz = 2 * (qx * y - qy * x);
      const ex = (x + qw * ux + qy * uz - qz * uy) / s[3 * i];
      const ey = (y + qw * uy + qz * ux - qx * uz) / s[3 * i + 1];
      const ez = (z + qw * uz + qx * uy - qy * ux) / s[3 * i + 2];
      const vx = 2 * (qy * dz - qz * dy);
      const vy = 2 * (qz * dx - qx * dz);
      const vz = 2 * (qx * dy - qy * dx);
      const fx = (dx + qw * vx + qy * vz - qz * vy) / s[3 * i];
      const fy = (dy + qw * vy + qz * vx - qx * vz) / s[3 * i + 1];
      const fz = (dz + qw * vz + qx * vy - qy * vx) / s[3 * i + 2];
      const dd = fx * fx + fy * fy + fz * fz;
      const de = fx * ex + fy * ey + fz * ez;
      const ee = ex * ex + ey * ey + ez * ez;
      const alpha = Math.min(0.999, opacities[i] * Math.exp(-0.5 * Math.max(0, ee - (de * de) / dd)));
      if (alpha >= FAINTEST) hits.push({ row, splat: i, depth, alpha, at: de / dd });
    }
  }
}

/** @param {Source} splats */
function numbersOf(splats) {
  const count = splats.getNumSplats();
  const centres = new Float32Array(3 * count);
  const colors = new Uint8ClampedArray(3 * count);
  const scales = new Float32Array(3 * count);
  const turns = new Float32Array(4 * count);
  const opacities = new Float32Array(count);
  const reaches = new Float32Array(count);
  splats.forEachSplat((i, centre, size, turn, opacity, color) => {
    centre.toArray(centres, 3 * i);
    scales[3 * i] = Math.max(size.x, THINNEST);
    scales[3 * i + 1] = Math.max(size.y, THINNEST);
    scales[3 * i + 2] = Math.max(size.z, THINNEST);
    turn.toArray(turns, 4 * i);
    opacities[i] = opacity;
    reaches[i] = (REACH * Math.max(size.x, size.y, size.z)) ** 2;
    colors[3 * i] = 255 * color.r;
    colors[3 * i + 1] = 255 * color.g;
    colors[3 * i + 2] = 255 * color.b;
  });
  return { centres, colors, scales, turns, opacities, reaches };
}
