// The list of objects and the buttons beside the picture. Names come from outside: they are only ever set as text.
import { lengthText } from "./meta.js";
import { Portraits } from "./portrait.js";
import { isShown } from "./state.js";

/**
 * @typedef {object} Actions what the list can ask for
 * @property {(rows: number[], event: MouseEvent) => void} choose
 * @property {(row: number) => void} toggle
 * @property {(row: number) => void} isolate
 * @property {(row: number) => void} fly
 * @property {(row: number, name: string) => void} rename
 * @property {(row: number | null) => void} hover
 */

/** Objects above which there is a field to search them. */
const MANY = 8;

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const node = document.getElementById(id);
  if (!(node instanceof kind)) throw new Error(`The page lacks its part ${id}`);
  return node;
}

/**
 * Whether keys mean what is typed, and not what the page does.
 *
 * @param {EventTarget | null} target
 */
export function isTyping(target) {
  return target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && ["text", "number", "search"].includes(target.type));
}

export class Panel {
  /** @type {Map<number, {item: HTMLLIElement, name: HTMLButtonElement, text: HTMLElement, eye: HTMLButtonElement}>} */
  #rows = new Map();
  /** Whether a name is being typed: then the list stays as it is. */
  #isEdited = false;
  /** Whether there is another list since. */
  #isStale = false;
  /** Ends the typing of a name, which is not taken. */
  #leave = () => {};
  /** @type {import("./state.js").State | null} */
  #state = null;

  /**
   * @param {import("./meta.js").Meta} meta
   * @param {Actions} actions
   * @param {() => import("./portrait.js").Source | null} source of the objects' pictures
   * @param {boolean} [rest] whether what is of no object has a row, too
   */
  constructor(meta, actions, source, rest = true) {
    this.meta = meta;
    this.actions = actions;
    this.list = byId("objects", HTMLUListElement);
    for (const [id, text] of /** @type {const} */ ([
      ["title", meta.title],
      ["description", meta.description],
      ["attribution", meta.attribution],
    ])) {
      const node = byId(id, HTMLElement);
      node.textContent = text;
      node.hidden = !text;
    }
    this.rest = rest;
    this.portraits = new Portraits(this.list, source);
    this.search = byId("search", HTMLInputElement);
    this.search.addEventListener("input", () => this.#find());
    this.fill();
  }

  /** List the objects that there are now. */
  fill() {
    const { objects } = this.meta;
    if (!objects.length) this.#leave(); // what is listed next are others, under the same numbers
    this.portraits.empty(); // also of a list that stays for now: its rows are others' now
    this.#isStale = this.#isEdited;
    if (this.#isStale) return;
    this.#rows.clear();
    this.list.replaceChildren();
    objects.forEach((_, at) => this.#add(at + 1));
    if (objects.length && this.rest) this.#add(0);
    this.search.hidden = objects.length <= MANY;
    this.#find();
  }

  #find() {
    const wanted = this.search.hidden ? "" : this.search.value.trim().toLocaleLowerCase();
    for (const { item, text } of this.#rows.values()) {
      item.hidden = !(text.textContent ?? "").toLocaleLowerCase().includes(wanted);
    }
  }

  /** @param {number} row */
  #add(row) {
    const { actions, meta } = this;
    const object = row > 0 ? meta.objects[row - 1] : null;
    const template = byId("row", HTMLTemplateElement).content.firstElementChild;
    if (!template) throw new Error("The page lacks its template of rows");
    const item = /** @type {HTMLLIElement} */ (template.cloneNode(true));
    const part = (/** @type {string} */ name) => /** @type {HTMLButtonElement} */ (item.querySelector(`.${name}`));
    const [name, text, eye] = [part("name"), part("text"), part("eye")];
    item.dataset.row = String(row);
    if (object) {
      part("swatch").style.backgroundColor = `rgb(${object.color.join(" ")})`;
      const longest = lengthText(Math.max(...object.edges), meta.units);
      part("facts").textContent = `${object.count.toLocaleString("en")} · ${longest}`;
      name.title = `${object.count.toLocaleString("en")} splats, ${object.edges.map((e) => lengthText(e, meta.units)).join(" × ")}`;
      name.addEventListener("click", (event) => actions.choose([row], event));
      name.addEventListener("dblclick", () => this.edit(row));
      part("fly").addEventListener("click", () => actions.fly(row));
      part("solo").addEventListener("click", () => actions.isolate(row));
      this.portraits.add(/** @type {HTMLCanvasElement} */ (item.querySelector(".portrait")), object.id, row);
      item.addEventListener("pointerenter", (event) => actions.hover(event.pointerType === "mouse" ? row : null));
      item.addEventListener("pointerleave", () => actions.hover(null));
    } else {
      item.classList.add("rest");
      name.disabled = true;
      part("fly").remove();
      part("solo").remove();
    }
    eye.addEventListener("click", () => actions.toggle(row));
    this.#rows.set(row, { item, name, text, eye });
    this.list.append(item);
  }

  /**
   * What a row is called now.
   *
   * @param {import("./state.js").State} state
   * @param {number} row
   */
  nameOf(state, row) {
    return state.names.get(row) ?? (row > 0 ? this.meta.objects[row - 1].name : "everything else");
  }

  /** @param {import("./state.js").State} state */
  show(state) {
    this.#state = state;
    if (this.#isStale) return;
    for (const [row, { item, name, text, eye }] of this.#rows) {
      const called = this.nameOf(state, row);
      if (text.textContent !== called) text.textContent = called;
      const [selected, shown] = [state.selected.has(row), isShown(state, row)];
      item.classList.toggle("selected", selected);
      item.classList.toggle("unseen", !shown);
      name.setAttribute("aria-pressed", String(selected));
      eye.setAttribute("aria-pressed", String(shown));
      eye.setAttribute("aria-label", `${shown ? "Hide" : "Show"} ${called}`);
      item.querySelector(".solo")?.setAttribute("aria-label", `Isolate ${called}`);
      item.querySelector(".fly")?.setAttribute("aria-label", `Fly to ${called}`);
    }
  }

  /**
   * Bring a row into sight; one that is pointed at stays where it is, under the second click of a double click.
   *
   * @param {number} row
   */
  reveal(row) {
    const item = this.#rows.get(row)?.item;
    if (item && !item.matches(":hover")) item.scrollIntoView({ block: "nearest" });
  }

  /**
   * Let a name be typed.
   *
   * @param {number} row
   */
  edit(row) {
    const parts = this.#rows.get(row);
    if (!parts || row === 0 || this.#isEdited) return;
    const { id } = this.meta.objects[row - 1];
    const field = document.createElement("input");
    field.value = parts.text.textContent ?? "";
    field.setAttribute("aria-label", "Name");
    field.maxLength = 200;
    this.#isEdited = true;
    let open = true;
    const close = (/** @type {boolean} */ take) => {
      if (!open) return;
      open = this.#isEdited = false;
      this.#leave = () => {};
      field.replaceWith(parts.name);
      parts.name.focus();
      if (this.#isStale) {
        this.fill();
        if (this.#state) this.show(this.#state);
      }
      // Where the object is now.
      const at = this.meta.objects.findIndex((object) => object.id === id);
      if (take && at >= 0) this.actions.rename(at + 1, field.value);
      this.#rows.get(at + 1)?.name.focus();
    };
    this.#leave = () => {
      this.#isStale = false; // who leaves it fills the list
      close(false);
    };
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // else the button that has the focus then is pressed, too
      close(event.key === "Enter");
    });
    field.addEventListener("blur", () => close(true));
    parts.name.replaceWith(field);
    field.select();
  }
}
