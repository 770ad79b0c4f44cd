// Splats side by side in space, in blocks: a ray looks at those whose boxes it goes through, and at no others. Splats of
// like size are together, so that a large one does not make the boxes of small ones large.

/** Splats a block: fewer make more boxes to look at, more make larger ones. */
const SIZE = 64;

/** Bits of a splat's place along each axis, of which there are three. */
const BITS = 8;

const CELLS = 1 << BITS;

/** Classes of size, an octave each, finest first. */
const CLASSES = 32;

/** Bits that are sorted by at once: three times as many are all of a key. */
const DIGIT = 10;

/** Splats that are asked where most of them are. */
const SAMPLES = 4096;

export class Blocks {
  /**
   * @param {Float32Array} centres three numbers a splat
   * @param {Float32Array} reaches of each, squared
   */
  constructor(centres, reaches) {
    this.count = reaches.length;
    /** Splats, block after block. */
    this.order = sorted(keysOf(centres, reaches));
    this.blocks = Math.ceil(this.count / SIZE);
    /** Lowest and highest corner of each block. */
    this.boxes = new Float32Array(6 * this.blocks);
    for (let block = 0; block < this.blocks; block++) {
      const low = [Infinity, Infinity, Infinity];
      const high = [-Infinity, -Infinity, -Infinity];
      const [start, end] = this.range(block);
      for (let k = start; k < end; k++) {
        const i = this.order[k];
        const reach = Math.sqrt(reaches[i]);
        for (let axis = 0; axis < 3; axis++) {
          low[axis] = Math.min(low[axis], centres[3 * i + axis] - reach);
          high[axis] = Math.max(high[axis], centres[3 * i + axis] + reach);
        }
      }
      this.boxes.set(low, 6 * block);
      this.boxes.set(high, 6 * block + 3);
    }
  }

  /**
   * Where a block's splats are in the order.
   *
   * @param {number} block
   * @returns {[number, number]} the first, and the one behind the last
   */
  range(block) {
    return [block * SIZE, Math.min((block + 1) * SIZE, this.count)];
  }

  /**
   * The blocks whose boxes a ray goes through.
   *
   * @param {ArrayLike<number>} ray its origin and its direction
   * @returns {number[]}
   */
  met(ray) {
    const { boxes } = this;
    const [ox, oy, oz] = [ray[0], ray[1], ray[2]];
    const [ix, iy, iz] = [inverse(ray[3]), inverse(ray[4]), inverse(ray[5])];
    const found = [];
    for (let block = 0, b = 0; block < this.blocks; block++, b += 6) {
      const ax = (boxes[b] - ox) * ix;
      const bx = (boxes[b + 3] - ox) * ix;
      const ay = (boxes[b + 1] - oy) * iy;
      const by = (boxes[b + 4] - oy) * iy;
      const az = (boxes[b + 2] - oz) * iz;
      const bz = (boxes[b + 5] - oz) * iz;
      const enters = Math.max(Math.min(ax, bx), Math.min(ay, by), Math.min(az, bz), 0);
      const leaves = Math.min(Math.max(ax, bx), Math.max(ay, by), Math.max(az, bz));
      if (enters <= leaves) found.push(block);
    }
    return found;
  }
}

/** @param {number} x of a direction; one along the box's sides is taken for nearly so */
function inverse(x) {
  return 1 / (Math.abs(x) > 1e-9 ? x : 1e-9);
}

/**
 * Where each splat goes: by size, then along a curve that visits what is near in space one after the other.
 *
 * @param {Float32Array} centres
 * @param {Float32Array} reaches
 */
function keysOf(centres, reaches) {
  const count = reaches.length;
  const every = Math.max(1, Math.floor(count / SAMPLES));
  const low = [0, 0, 0];
  const scale = [0, 0, 0];
  let widest = 0;
  for (let axis = 0; axis < 3; axis++) {
    const some = [];
    for (let i = 0; i < count; i += every) some.push(centres[3 * i + axis]);
    some.sort((a, b) => a - b);
    // Far splats, which scenes have in their background, would make the cells of all others large.
    const from = some[Math.floor(0.02 * some.length)] ?? 0;
    const to = some[Math.floor(0.98 * some.length)] ?? 0;
    low[axis] = from;
    scale[axis] = CELLS / Math.max(to - from, 1e-9);
    widest = Math.max(widest, to - from);
  }
  const finest = Math.max(widest / CELLS, 1e-9);
  const keys = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const size = Math.ceil(Math.log2(Math.sqrt(reaches[i]) / finest));
    let key = Math.max(0, Math.min(CLASSES - 1, size)) << (3 * BITS);
    for (let axis = 0; axis < 3; axis++) {
      const cell = Math.floor((centres[3 * i + axis] - low[axis]) * scale[axis]);
      key |= spread(Math.max(0, Math.min(CELLS - 1, cell))) << axis;
    }
    keys[i] = key;
  }
  return keys;
}

/** @param {number} x of BITS bits, each of which gets two zeros before it */
function spread(x) {
  let bits = (x | (x << 8)) & 0x00f00f;
  bits = (bits | (bits << 4)) & 0x0c30c3;
  return (bits | (bits << 2)) & 0x249249;
}

/**
 * The places of keys in ascending order, those of equal keys as they are.
 *
 * @param {Uint32Array} keys
 */
function sorted(keys) {
  const count = keys.length;
  let order = new Uint32Array(count);
  let other = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  for (let shift = 0; shift < 3 * DIGIT; shift += DIGIT) {
    const starts = new Uint32Array((1 << DIGIT) + 1);
    const last = (1 << DIGIT) - 1;
    for (let i = 0; i < count; i++) starts[((keys[i] >>> shift) & last) + 1]++;
    for (let digit = 0; digit <= last; digit++) starts[digit + 1] += starts[digit];
    for (let k = 0; k < count; k++) {
      const i = order[k];
      other[starts[(keys[i] >>> shift) & last]++] = i;
    }
    [order, other] = [other, order];
  }
  return order;
}
