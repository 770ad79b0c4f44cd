// What the page is told of the scene, as `gseg_ns.page` writes it.

/**
 * @typedef {object} Item an object
 * @property {number} id number of its group
 * @property {string} name
 * @property {[number, number, number]} color 0..255
 * @property {number} count splats
 * @property {[number, number, number]} centre
 * @property {[number, number, number]} edges lengths of its box's edges
 */

/**
 * @typedef {object} Meta
 * @property {string} title
 * @property {string} description
 * @property {string} attribution
 * @property {"spz" | "ply"} format
 * @property {"classic" | "antialiased"} mode
 * @property {"m" | "scene" | "capture"} units of lengths
 * @property {{eye: [number, number, number], target: [number, number, number], fov: number}} view fov in degrees, vertical
 * @property {number} splats in the page
 * @property {number} all splats of the scene
 * @property {Item[]} objects the first is row 1 of the table
 */

/** @returns {Meta} */
export function readMeta() {
  return JSON.parse(document.getElementById("meta")?.textContent ?? "{}");
}

/**
 * A length for people.
 *
 * @param {number} length
 * @param {Meta["units"]} units
 */
export function lengthText(length, units) {
  if (units !== "m") return length.toPrecision(2);
  return length < 1 ? `${(100 * length).toPrecision(2)} cm` : `${length.toPrecision(3)} m`;
}
