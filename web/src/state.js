// What a user has done to the scene, and its history. Nothing here knows of pictures or of the document.
// Objects are numbered by their row in the table, 1 and up; 0 is what belongs to no object.

/**
 * A rigid motion p -> turn p + shift.
 *
 * @typedef {object} Pose
 * @property {readonly [number, number, number, number]} turn quaternion x, y, z, w
 * @property {readonly [number, number, number]} shift
 */

/**
 * @typedef {object} State
 * @property {ReadonlySet<number>} selected
 * @property {ReadonlySet<number>} hidden
 * @property {ReadonlySet<number> | null} only what is isolated
 * @property {ReadonlyMap<number, string>} names those that were changed
 * @property {ReadonlyMap<number, Pose>} poses of what was moved
 */

/** @type {State} */
export const START = { selected: new Set(), hidden: new Set(), only: null, names: new Map(), poses: new Map() };

const LONGEST_NAME = 200;

/** Steps that can be taken back. */
const DEEPEST = 500;

/**
 * @param {State} state
 * @param {number} row
 */
export function isShown(state, row) {
  return state.only ? state.only.has(row) : !state.hidden.has(row);
}

/** @typedef {"only" | "add" | "remove" | "toggle"} Mode */

/**
 * @param {State} state
 * @param {Iterable<number>} rows
 * @param {Mode} mode
 * @returns {State}
 */
export function select(state, rows, mode) {
  const selected = new Set(mode === "only" ? [] : state.selected);
  for (const row of rows) {
    if (mode === "remove" || (mode === "toggle" && selected.has(row))) selected.delete(row);
    else selected.add(row);
  }
  return same(selected, state.selected) ? state : { ...state, selected };
}

/**
 * Hide some rows, or show them again where all of them are hidden.
 *
 * @param {State} state
 * @param {Iterable<number>} rows
 * @returns {State}
 */
export function toggleHidden(state, rows) {
  const list = [...rows];
  if (!list.length) return state;
  const show = list.every((row) => !isShown(state, row));
  if (state.only) {
    const only = new Set(state.only);
    for (const row of list) show ? only.add(row) : only.delete(row);
    return { ...state, only };
  }
  const hidden = new Set(state.hidden);
  for (const row of list) show ? hidden.delete(row) : hidden.add(row);
  return { ...state, hidden };
}

/**
 * Show these rows and nothing else; everything else again where they are isolated already.
 *
 * @param {State} state
 * @param {Iterable<number>} rows
 * @returns {State}
 */
export function isolate(state, rows) {
  const only = new Set(rows);
  if (!only.size) return state.only ? { ...state, only: null } : state;
  return { ...state, only: state.only && same(only, state.only) ? null : only };
}

/**
 * @param {State} state
 * @returns {State}
 */
export function showAll(state) {
  return state.only || state.hidden.size ? { ...state, only: null, hidden: new Set() } : state;
}

/**
 * @param {State} state
 * @param {number} row
 * @param {string} name empty: what it was called in the file
 * @returns {State}
 */
export function rename(state, row, name) {
  const names = new Map(state.names);
  const plain = name.trim().slice(0, LONGEST_NAME);
  if (plain) names.set(row, plain);
  else names.delete(row);
  return names.get(row) === state.names.get(row) ? state : { ...state, names };
}

/**
 * @param {State} state
 * @param {ReadonlyMap<number, Pose>} moved
 * @returns {State}
 */
export function move(state, moved) {
  return { ...state, poses: new Map([...state.poses, ...moved]) };
}

/**
 * @param {State} state
 * @param {Iterable<number>} rows
 * @returns {State}
 */
export function moveBack(state, rows) {
  const poses = new Map(state.poses);
  for (const row of rows) poses.delete(row);
  return poses.size === state.poses.size ? state : { ...state, poses };
}

/**
 * @param {ReadonlySet<number>} a
 * @param {ReadonlySet<number>} b
 */
function same(a, b) {
  return a.size === b.size && [...a].every((row) => b.has(row));
}

/** The state, what it was, and who wants to know. States are never changed, only replaced. */
export class Store {
  /** @type {State[]} */
  #past = [];
  /** @type {State[]} */
  #future = [];
  /** @type {((state: State, before: State) => void)[]} */
  #listeners = [];

  constructor() {
    /** @type {State} */
    this.state = START;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** @param {(state: State, before: State) => void} listener */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** @param {State} next the same object where nothing changes */
  change(next) {
    if (next === this.state) return;
    this.#past.push(this.state);
    if (this.#past.length > DEEPEST) this.#past.shift();
    this.#future = [];
    this.#replace(next);
  }

  undo() {
    const last = this.#past.pop();
    if (!last) return;
    this.#future.push(this.state);
    this.#replace(last);
  }

  redo() {
    const next = this.#future.pop();
    if (!next) return;
    this.#past.push(this.state);
    this.#replace(next);
  }

  /** @param {State} next */
  #replace(next) {
    const before = this.state;
    this.state = next;
    for (const listener of this.#listeners) listener(next, before);
  }
}
