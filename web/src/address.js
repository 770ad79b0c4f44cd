// A view and objects in the address, behind the #: numbers only, whatever somebody wrote there.

/**
 * @typedef {object} Place
 * @property {readonly number[]} eye three numbers
 * @property {readonly number[]} target three numbers
 * @property {readonly number[]} selected numbers of groups
 * @property {readonly number[]} hidden
 * @property {readonly number[] | null} only
 */

const LISTS = /** @type {const} */ ({ object: "selected", hidden: "hidden", only: "only" });

/**
 * @param {Place} place
 * @returns {string} with the #
 */
export function addressOf(place) {
  const short = (/** @type {readonly number[]} */ list) => list.map((x) => Number(x.toPrecision(5))).join(",");
  const parts = [`eye=${short(place.eye)}`, `at=${short(place.target)}`];
  for (const [key, field] of Object.entries(LISTS)) {
    const list = place[field];
    if (list?.length) parts.push(`${key}=${list.join(",")}`);
  }
  return `#${parts.join("&")}`;
}

/**
 * @param {string} hash
 * @returns {Partial<Place>} what is said in it and makes sense
 */
export function placeOf(hash) {
  /** @type {{-readonly [K in keyof Place]?: Place[K]}} */
  const place = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [key, value] = part.split("=", 2);
    const list = (value ?? "").split(",").filter(Boolean).map(Number);
    if (!list.length || !list.every(Number.isFinite)) continue;
    if (key === "eye" && list.length === 3) place.eye = list;
    else if (key === "at" && list.length === 3) place.target = list;
    else if (Object.hasOwn(LISTS, key)) place[LISTS[/** @type {keyof typeof LISTS} */ (key)]] = list;
  }
  return place;
}
