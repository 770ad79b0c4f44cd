// View-dependent colors as the file has them. Spark packs three numbers with one exponent, which it takes too small: what
// lies between two powers of two becomes the lower one. Here they are packed again, before they are drawn for the first
// time.

/** Coefficients beyond the constant one, by degree. */
const SIZES = [0, 3, 8, 15];

/** @typedef {(splat: number, coefficient: number, channel: number) => number} Read */

/**
 * @param {import("@sparkjsdev/spark").ExtSplats} splats which were loaded, and were not drawn yet
 * @param {Uint8Array<ArrayBuffer>} bytes the file
 * @param {"spz" | "ply"} format
 */
export async function repackHarmonics(splats, bytes, format) {
  const { sh1, sh2, sh3a, sh3b } = /** @type {Record<string, Uint32Array | undefined>} */ (splats.extra);
  const degree = splats.getNumSh();
  if (!degree || !sh1) return;
  const read = format === "spz" ? await ofSpz(bytes, degree) : ofPly(bytes);
  // Where each coefficient is: an array of four a splat, and the place in it.
  const places = [0, 1, 2].map((at) => ({ array: sh1, at }));
  if (degree > 1 && sh2) places.push({ array: sh1, at: 3 }, ...[0, 1, 2, 3].map((at) => ({ array: sh2, at })));
  if (degree > 2 && sh3a && sh3b) {
    places.push(...[0, 1, 2, 3].map((at) => ({ array: sh3a, at })), ...[0, 1, 2].map((at) => ({ array: sh3b, at })));
  }
  places.forEach(({ array, at }, k) => {
    for (let i = 0; i < splats.getNumSplats(); i++) array[4 * i + at] = packed(read(i, k, 0), read(i, k, 1), read(i, k, 2));
  });
}

/**
 * Three numbers of eight bits, their signs and the power of two that none of them exceeds.
 *
 * @param {number} r
 * @param {number} g
 * @param {number} b
 */
function packed(r, g, b) {
  const most = Math.max(Math.abs(r), Math.abs(g), Math.abs(b));
  if (!(most > 0)) return 0;
  const exponent = Math.max(0, Math.min(31, Math.ceil(Math.log2(most)) + 15));
  const unit = 2 ** (exponent - 15) / 255;
  const whole = (/** @type {number} */ x) => Math.min(255, Math.round(Math.abs(x) / unit));
  const signs = (r < 0 ? 1 : 0) | (g < 0 ? 2 : 0) | (b < 0 ? 4 : 0);
  return (whole(r) | (whole(g) << 8) | (whole(b) << 16) | (((exponent << 3) | signs) << 24)) >>> 0;
}

/**
 * SPZ of version 3: a byte each, all of a splat side by side, behind 20 bytes a splat of other things.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {number} degree
 * @returns {Promise<Read>}
 */
async function ofSpz(bytes, degree) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = new DataView(data.buffer).getUint32(8, true);
  const values = data.subarray(16 + 20 * count);
  const size = SIZES[degree];
  return (i, k, c) => (values[3 * (i * size + k) + c] - 128) / 128;
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
  return (i, k, c) => data.getFloat32(4 * (i * names.length + first + c * size + k), true);
}
