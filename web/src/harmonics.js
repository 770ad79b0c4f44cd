// View-dependent colors as the file has them. Spark packs three numbers with one exponent, which it takes too small: what
// lies between two powers of two becomes the lower one. Here they are packed again, before they are drawn for the first
// time.

/** Coefficients beyond the constant one, by degree. */
const SIZES = [0, 3, 8, 15];

/** Bytes of an SPZ before those of its splats; where they say how many there are, and of which degree. */
const HEAD = 16;
const COUNT = 8;
const DEGREE = 12;

/** Bytes of a splat in SPZ of version 3 before its harmonics. */
const BEFORE = 20;

/** In SPZ, a number is how far a byte is from this, in parts of it. */
const MIDDLE = 128;

/** @typedef {(splat: number, coefficient: number) => number} Read three numbers, packed */

/**
 * What is to be packed again in a file. Begun while the file is read elsewhere, it takes no time of its own.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes the file
 * @param {"spz" | "ply"} format
 * @returns {Promise<(splats: import("@sparkjsdev/spark").ExtSplats) => void>} does it, to splats which were loaded from
 *   it and were not drawn yet
 */
export async function harmonicsOf(bytes, format) {
  const read = format === "spz" ? await ofSpz(bytes) : ofPly(bytes);
  return (splats) => {
    const { sh1, sh2, sh3a, sh3b } = /** @type {Record<string, Uint32Array | undefined>} */ (splats.extra);
    const degree = splats.getNumSh();
    if (!degree || !sh1 || !read) return;
    // Where each coefficient is: an array of four a splat, and the place in it.
    const places = [0, 1, 2].map((at) => ({ array: sh1, at }));
    if (degree > 1 && sh2) places.push({ array: sh1, at: 3 }, ...[0, 1, 2, 3].map((at) => ({ array: sh2, at })));
    if (degree > 2 && sh3a && sh3b) {
      places.push(...[0, 1, 2, 3].map((at) => ({ array: sh3a, at })), ...[0, 1, 2].map((at) => ({ array: sh3b, at })));
    }
    places.forEach(({ array, at }, k) => {
      for (let i = 0; i < splats.getNumSplats(); i++) array[4 * i + at] = read(i, k);
    });
  };
}

/**
 * The power of two that a number does not exceed, as it is stored, and what eight bits count in.
 *
 * @param {number} most
 */
function exponentOf(most) {
  const exponent = Math.max(0, Math.min(31, Math.ceil(Math.log2(most)) + 15));
  return { exponent, unit: 2 ** (exponent - 15) / 255 };
}

/**
 * Three numbers of eight bits, their signs and the power of two that none of them exceeds.
 *
 * @param {number} r
 * @param {number} g
 * @param {number} b
 * @param {number} exponent see `exponentOf`
 * @param {number} inverse of its unit
 */
function packed(r, g, b, exponent, inverse) {
  const red = Math.min(255, Math.round(Math.abs(r) * inverse));
  const green = Math.min(255, Math.round(Math.abs(g) * inverse));
  const blue = Math.min(255, Math.round(Math.abs(b) * inverse));
  const signs = (r < 0 ? 1 : 0) | (g < 0 ? 2 : 0) | (b < 0 ? 4 : 0);
  return (red | (green << 8) | (blue << 16) | (((exponent << 3) | signs) << 24)) >>> 0;
}

/**
 * SPZ of version 3: a byte each, all of a splat side by side.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Read | null>} null: it has none
 */
async function ofSpz(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  /** @type {Uint8Array[]} */
  const parts = [];
  const first = (await reader.read()).value;
  const head = new DataView((first ?? new Uint8Array(HEAD)).slice(0, HEAD).buffer);
  const size = SIZES[head.getUint8(DEGREE)];
  if (!size) {
    await reader.cancel();
    return null;
  }
  for (let part = first; part; part = (await reader.read()).value) parts.push(part);
  const values = new Uint8Array(await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer()).subarray(HEAD + BEFORE * head.getUint32(COUNT, true));
  // There are few numbers that can be the largest of three.
  const known = Array.from({ length: MIDDLE + 1 }, (_, most) => exponentOf(most / MIDDLE));
  const exponents = known.map(({ exponent }) => exponent);
  const inverses = known.map(({ unit }) => 1 / (MIDDLE * unit));
  return (i, k) => {
    const at = 3 * (i * size + k);
    const r = values[at] - MIDDLE;
    const g = values[at + 1] - MIDDLE;
    const b = values[at + 2] - MIDDLE;
    const most = Math.max(Math.abs(r), Math.abs(g), Math.abs(b));
    return most ? packed(r, g, b, exponents[most], inverses[most]) : 0;
  };
}

/**
 * PLY of 32-bit floats, little-endian: all coefficients of red, then green, then blue.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Read}
 */
function ofPly(bytes) {
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 10_000));
  const start = head.indexOf("end_header\n") + "end_header\n".length;
  const names = [...head.slice(0, start).matchAll(/^property float (\w+)$/gm)].map(([, name]) => name);
  const first = names.indexOf("f_rest_0");
  const size = names.filter((name) => name.startsWith("f_rest_")).length / 3;
  const data = new DataView(bytes.buffer, bytes.byteOffset + start);
  return (i, k) => {
    const at = 4 * (i * names.length + first + k);
    const r = data.getFloat32(at, true);
    const g = data.getFloat32(at + 4 * size, true);
    const b = data.getFloat32(at + 8 * size, true);
    const most = Math.max(Math.abs(r), Math.abs(g), Math.abs(b));
    if (!(most > 0)) return 0;
    const { exponent, unit } = exponentOf(most);
    return packed(r, g, b, exponent, 1 / unit);
  };
}
