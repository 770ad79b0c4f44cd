// The way to the server: one websocket, what was asked and what was answered. When it is lost it is looked for again.

/**
 * @typedef {object} Answer
 * @property {number | null} answers
 * @property {string} said
 * @property {boolean} well
 * @property {Record<string, any>} [more]
 */

/** @typedef {"set" | "add" | "remove" | "intersect"} Mode how something meets the selection */

/**
 * @typedef {object} Extra
 * @property {Mode} [mode]
 * @property {number[]} [view] see `Scene.view`
 * @property {number[][]} [points] pixels
 */

/** Milliseconds until it is tried again: the first time, and at most. */
const SOON = 400;
const LATEST = 5000;

export class Link {
  /** @type {WebSocket | null} */
  socket = null;
  /** @type {Map<number, (answer: any) => void>} */
  #waiting = new Map();
  #number = 0;
  #wait = SOON;
  /** What came is dealt with in its order, also where that takes a while. */
  #queue = Promise.resolve();

  /**
   * @param {(frame: ArrayBuffer) => Promise<void> | void} frame is given what is drawn
   * @param {(state: Record<string, any>) => void} state is given what has changed
   * @param {(open: boolean) => void} changed is told whether it stands
   */
  constructor(frame, state, changed) {
    this.frame = frame;
    this.state = state;
    this.changed = changed;
    this.#open();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  #open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/session`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.#wait = SOON;
      this.changed(true);
    });
    socket.addEventListener("message", ({ data }) => {
      this.#queue = this.#queue.then(() => this.#take(data)).catch((error) => this.state({ said: `${error}`, well: false }));
    });
    socket.addEventListener("close", () => {
      for (const done of this.#waiting.values()) done({ answers: null, said: "The connection is lost.", well: false });
      this.#waiting.clear();
      this.changed(false);
      setTimeout(() => this.#open(), this.#wait);
      this.#wait = Math.min(LATEST, 2 * this.#wait);
    });
  }

  /** @param {string | ArrayBuffer} data */
  async #take(data) {
    if (typeof data !== "string") {
      await this.frame(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.state) this.state(message.state);
    if (!("answers" in message)) return;
    const done = this.#waiting.get(message.answers);
    this.#waiting.delete(message.answers);
    if (done) done(message);
    else this.state({ said: message.said, well: message.well });
  }

  /**
   * @param {string} name
   * @param {unknown[]} [values]
   * @param {Extra} [extra]
   * @returns {Promise<any>} the answer
   */
  ask(name, values = [], { mode = "set", view, points = [] } = {}) {
    if (!this.isOpen) return Promise.resolve({ answers: null, said: "The connection is lost.", well: false });
    this.#number += 1;
    const number = this.#number;
    this.socket?.send(JSON.stringify({ number, name, values, mode, view, points }));
    return new Promise((done) => this.#waiting.set(number, done));
  }
}
