// What is drawn of each object, for the graphics card: a row of the table an object, and the row of each splat. A change
// of what is highlighted, hidden or moved writes 48 bytes an object and nothing per splat.
import { DataTexture, FloatType, RedIntegerFormat, RGBAFormat, UnsignedShortType } from "./vendor.js";

/** Texels across, of splats' rows. */
export const ACROSS = 2048;

/** Rows of the table that stand side by side: textures are not endlessly high. */
export const BESIDE = 256;

/** Texels a row: tint and its strength; quaternion; shift and whether it is shown. */
export const TEXELS = 3;

const FLOATS = 4 * TEXELS;

export class ObjectTable {
  /** @param {number} count rows, that of no object among them */
  constructor(count) {
    this.count = count;
    const high = Math.ceil(count / BESIDE);
    this.data = new Float32Array(high * BESIDE * FLOATS);
    for (let row = 0; row < count; row++) this.data.set([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], row * FLOATS);
    this.texture = new DataTexture(this.data, BESIDE * TEXELS, high, RGBAFormat, FloatType);
    this.texture.needsUpdate = true;
  }

  /**
   * @param {number} row
   * @param {readonly [number, number, number]} color 0..1
   * @param {number} strength 0..1
   */
  tint(row, color, strength) {
    this.data.set([...color, strength], row * FLOATS);
  }

  /**
   * @param {number} row
   * @param {import("./state.js").Pose | undefined} pose
   */
  place(row, pose) {
    this.data.set(pose ? [...pose.turn, ...pose.shift] : [0, 0, 0, 1, 0, 0, 0], row * FLOATS + 4);
  }

  /**
   * @param {number} row
   * @param {boolean} shown
   */
  show(row, shown) {
    this.data[row * FLOATS + 11] = shown ? 1 : 0;
  }

  /** @param {number} row */
  isShown(row) {
    return this.data[row * FLOATS + 11] > 0.5;
  }

  /**
   * @param {number} row
   * @returns {import("./state.js").Pose}
   */
  pose(row) {
    const [x, y, z, w, dx, dy, dz] = this.data.subarray(row * FLOATS + 4, row * FLOATS + 11);
    return { turn: [x, y, z, w], shift: [dx, dy, dz] };
  }
}

/**
 * The row of each splat, for the graphics card.
 *
 * @param {Uint16Array} rows
 */
export function rowsTexture(rows) {
  const high = Math.max(1, Math.ceil(rows.length / ACROSS));
  const data = new Uint16Array(high * ACROSS);
  data.set(rows);
  const texture = new DataTexture(data, ACROSS, high, RedIntegerFormat, UnsignedShortType);
  texture.internalFormat = "R16UI";
  texture.unpackAlignment = 2;
  texture.needsUpdate = true;
  return texture;
}
