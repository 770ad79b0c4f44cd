// The tools of the served page: what a click and a line on the picture mean, and what is placed in it. Each asks the
// server, which answers as for the tab of Nerfstudio's viewer.
import { lengthText } from "./meta.js";
import { Pen } from "./outline.js";
import { byId } from "./panel.js";
import { boxLines, Handle, quaternionOf, sphereLines } from "./served_handle.js";
import { Vector3 } from "./vendor.js";

/** @typedef {"click" | "rectangle" | "lasso" | "polygon" | "brush" | "sphere" | "box" | "flood" | "color" | "range" | "measure" | "move"} Tool */

const HINTS = {
  click: "Click on objects",
  rectangle: "Drag a rectangle over the picture",
  lasso: "Draw around what is meant",
  polygon: "Click corners; Enter or the first corner closes",
  brush: "Draw over what is meant",
  sphere: "Move the sphere with its handle, then press Select",
  box: "Move and turn the box with its handle, then press Select",
  flood: "Click: what is connected with the spot and of like color is meant",
  color: "Click: all that has the color of the spot is meant",
  range: "Choose a range, then press Select",
  measure: "Click on two points",
  move: "Move, turn and scale with the handle, or by numbers",
};

/** Fields that say how something moves. */
const MOTION = ["shift-x", "shift-y", "shift-z", "turn-x", "turn-y", "turn-z", "factor"];

/** Points of a line that are sent at most. */
const MOST_POINTS = 1500;

export class Tools {
  /** @type {Tool} */
  tool = "click";
  /** @type {{pivot: number[], centre: number[], size: number[]} | null} */
  #extent = null;
  /** @type {number[][]} */
  #measured = [];
  #edges = [1, 1, 1];
  #asked = 0;

  /**
   * @param {import("./served_link.js").Link} link
   * @param {import("./served_scene.js").Scene} scene
   * @param {object} page
   * @param {(event: MouseEvent | KeyboardEvent | null) => import("./served_link.js").Mode} page.modeOf
   * @param {(answer: any) => void} page.said
   * @param {() => Record<string, any>} page.state
   * @param {() => void} page.changed
   */
  constructor(link, scene, page) {
    this.link = link;
    this.scene = scene;
    this.page = page;
    this.stage = scene.stage;
    this.handle = new Handle(this.stage, () => this.#moved(), () => this.#released());
    this.pen = new Pen(this.stage.host, (tool, points, event) => this.#drawn(tool, points, page.modeOf(event)));
    this.radius = this.#field("brush-radius");
    this.radius.addEventListener("input", () => this.#showBrush());
    this.#showBrush();
    this.#field("through").addEventListener("change", () => (this.#through[this.#where] = this.#field("through").checked));
    for (const id of ["sphere-radius", "box-x", "box-y", "box-z"]) {
      this.#field(id).addEventListener("change", () => this.#sized());
    }
    for (const id of MOTION) {
      this.#field(id).addEventListener("change", () => this.#typed());
    }
    byId("shape-select", HTMLButtonElement).addEventListener("click", () => this.#selectShape());
    byId("box-select", HTMLButtonElement).addEventListener("click", () => this.#selectShape());
    for (const [id, isCopy] of /** @type {const} */ ([["move-apply", false], ["move-copy", true]])) {
      byId(id, HTMLButtonElement).addEventListener("click", () => {
        if (this.#areNumbers(MOTION)) void this.move(isCopy);
      });
    }
    byId("range-select", HTMLButtonElement).addEventListener("click", () => this.#selectRange());
    byId("range-property", HTMLSelectElement).addEventListener("change", () => this.#askRange());
    byId("length-set", HTMLButtonElement).addEventListener("click", () => this.#setLength());
  }

  /** @param {string} id */
  #field(id) {
    return byId(id, HTMLInputElement);
  }

  /** What a field says; NaN where it is empty, which the server refuses: JSON has null for it. @param {string} id */
  #number(id) {
    return this.#field(id).valueAsNumber;
  }

  /** Whether fields have numbers, which is said where they have not. @param {readonly string[]} ids */
  #areNumbers(ids) {
    const are = ids.every((id) => Number.isFinite(this.#number(id)));
    if (!are) this.page.said({ said: "That is no number. Type one.", well: false });
    return are;
  }

  /** Lengths that are shown for one of the scene. */
  get #unit() {
    return this.page.state().metres ?? 1;
  }

  /** Whether tools on the picture, and those in space, take what the picture hides, too. */
  #through = { picture: false, space: true };

  /** @returns {"picture" | "space"} */
  get #where() {
    return ["sphere", "box", "range"].includes(this.tool) ? "space" : "picture";
  }

  get through() {
    return this.#through[this.#where];
  }

  #showBrush() {
    this.pen.line.style.strokeWidth = this.tool === "brush" ? `${2 * this.#number("brush-radius")}px` : "";
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.tool = this.tool === tool ? "click" : tool;
    const drawn = ["rectangle", "lasso", "polygon", "brush"].includes(this.tool);
    this.pen.hold(drawn ? /** @type {import("./outline.js").Tool} */ (this.tool) : null);
    this.#showBrush();
    this.#field("through").checked = this.through;
    this.handle.take();
    this.handle.line([]);
    this.#measured = [];
    this.#extent = null;
    this.scene.paint();
    for (const node of document.querySelectorAll("[data-tool]")) {
      /** @type {HTMLElement} */ (node).hidden = !(/** @type {HTMLElement} */ (node).dataset.tool ?? "").split(" ").includes(this.tool);
    }
    if (this.tool === "sphere" || this.tool === "box") void this.#place();
    if (this.tool === "move") void this.follow();
    if (this.tool === "range") void this.#askRange();
    this.page.said({ said: HINTS[this.tool], well: true });
    this.page.changed();
  }

  /** @param {import("./served_handle.js").Grip} grip */
  hold(grip) {
    const same = this.tool === "move" && this.handle.controls.mode === grip;
    if (this.tool !== "move" || same) this.choose("move");
    if (this.tool === "move") this.handle.grip(grip);
    this.#grip = grip;
    this.page.changed();
  }

  /** @type {import("./served_handle.js").Grip} */
  #grip = "translate";

  // ------------------------------------------------------------------------------------------------ lines, clicks

  /**
   * @param {import("./outline.js").Tool} tool
   * @param {[number, number][]} points
   * @param {import("./served_link.js").Mode} mode
   */
  async #drawn(tool, points, mode) {
    const every = Math.max(1, Math.ceil(points.length / MOST_POINTS));
    const some = points.filter((_, at) => at % every === 0).map(([x, y]) => [Math.round(10 * x) / 10, Math.round(10 * y) / 10]);
    const extra = { mode, view: this.scene.view(), points: some };
    if (tool === "rectangle") {
      if (some.length < 2) return;
      this.page.said(await this.link.ask("rectangle", [this.through], { ...extra, points: [some[0], some[some.length - 1]] }));
    } else if (tool === "brush") {
      this.page.said(await this.link.ask("brush", [this.through, this.#number("brush-radius")], extra));
    } else if (some.length > 2) {
      this.page.said(await this.link.ask("outline", [this.through], extra));
    }
  }

  /**
   * A click on the picture, where the tool has an answer of its own.
   *
   * @param {number} x
   * @param {number} y
   * @param {import("./served_link.js").Mode} mode
   * @returns {boolean} whether it has
   */
  click(x, y, mode) {
    const extra = { mode, view: this.scene.view(), points: [[x, y]] };
    if (this.tool === "flood" || this.tool === "color") {
      const values = [this.tool === "flood", this.#number("tolerance"), this.through];
      void this.link.ask("like", values, extra).then((answer) => this.page.said(answer));
      return true;
    }
    if (this.tool === "measure") {
      void this.#measure(extra);
      return true;
    }
    return false;
  }

  /** @param {import("./served_link.js").Extra} extra */
  async #measure(extra) {
    const answer = await this.link.ask("point", [], extra);
    if (!answer.point) {
      this.page.said(answer);
      return;
    }
    if (this.#measured.length === 2) this.#measured = [];
    this.#measured.push(answer.point);
    this.handle.line(this.#measured);
    if (this.#measured.length < 2) {
      this.page.said({ said: "Click on the second point", well: true });
      return;
    }
    const length = this.#length * this.#unit;
    this.#field("length").value = length.toPrecision(4);
    const { metres } = this.page.state();
    const text = metres ? lengthText(length, "m") : `${length.toPrecision(3)} units of the scene`;
    this.page.said({ said: `${text} between the two points`, well: true });
  }

  get #length() {
    const [[a, b, c], [d, e, f]] = this.#measured;
    return Math.hypot(a - d, b - e, c - f);
  }

  async #setLength() {
    if (this.#measured.length !== 2) {
      this.page.said({ said: "Click on two points first", well: false });
      return;
    }
    this.page.said(await this.link.ask("length", [this.#length, this.#number("length")]));
  }

  // ------------------------------------------------------------------------------------------------ shapes

  async #place() {
    const { tool } = this;
    this.#asked += 1;
    const asked = this.#asked;
    let { extent } = await this.link.ask("extent");
    if (!extent) {
      const { clientWidth, clientHeight } = this.stage.canvas;
      const points = [[clientWidth / 2, clientHeight / 2]];
      const { point } = await this.link.ask("point", [], { view: this.scene.view(), points });
      const centre = point ?? this.stage.orbit.target.toArray();
      const edge = 0.2 * this.stage.camera.position.distanceTo(new Vector3(...centre));
      extent = { pivot: centre, centre, size: [edge, edge, edge] };
    }
    if (asked !== this.#asked || tool !== this.tool) return;
    this.#edges = extent.size;
    if (tool === "sphere") this.#edges = [0, 1, 2].map(() => Math.hypot(...extent.size));
    this.handle.put("translate", extent.centre);
    this.#showEdges();
    this.#outlineShape();
  }

  #showEdges() {
    const unit = this.#unit;
    this.#field("sphere-radius").value = ((this.#edges[0] / 2) * unit).toPrecision(3);
    ["box-x", "box-y", "box-z"].forEach((id, axis) => (this.#field(id).value = (this.#edges[axis] * unit).toPrecision(3)));
  }

  #sized() {
    const unit = this.#unit;
    if (this.tool === "sphere") this.#edges = [0, 1, 2].map(() => (2 * this.#number("sphere-radius")) / unit);
    else this.#edges = ["box-x", "box-y", "box-z"].map((id) => this.#number(id) / unit);
    this.#outlineShape();
  }

  #outlineShape() {
    if (!this.#edges.every(Number.isFinite)) {
      this.handle.outline([]);
      return;
    }
    this.handle.outline(this.tool === "sphere" ? sphereLines(this.#edges[0] / 2) : boxLines(this.#edges));
  }

  async #selectShape() {
    const { handle } = this;
    const edges = this.#edges.map((edge) => edge * handle.factor);
    const { x, y, z, w } = handle.quaternion;
    const extra = { mode: this.page.modeOf(null), view: this.scene.view() };
    const asked =
      this.tool === "sphere"
        ? this.link.ask("sphere", [...handle.position.toArray(), edges[0] / 2, this.through], extra)
        : this.link.ask("box", [...handle.position.toArray(), ...edges, w, x, y, z, this.through], extra);
    this.page.said(await asked);
  }

  // ------------------------------------------------------------------------------------------------ ranges

  async #askRange() {
    const property = byId("range-property", HTMLSelectElement).value;
    const answer = await this.link.ask("histogram", [property]);
    if (!answer.histogram) {
      this.page.said(answer);
      return;
    }
    const { low, high, counts } = answer.histogram;
    const unit = property === "size" ? this.#unit : 1;
    this.#field("range-low").value = (low * unit).toPrecision(3);
    this.#field("range-high").value = (high * unit).toPrecision(3);
    const most = Math.log1p(Math.max(...counts));
    const bars = counts.map((/** @type {number} */ count, /** @type {number} */ at) => {
      const height = most ? (40 * Math.log1p(count)) / most : 0;
      return `M${at} 40v${-height}h.9v${height}z`;
    });
    document.getElementById("histogram")?.setAttribute("d", bars.join(""));
  }

  async #selectRange() {
    const property = byId("range-property", HTMLSelectElement).value;
    const unit = property === "size" ? this.#unit : 1;
    // What is shown is rounded; the ends are meant.
    const ends = [(this.#number("range-low") / unit) * 0.9999, (this.#number("range-high") / unit) * 1.0001];
    const extra = { mode: this.page.modeOf(null), view: this.scene.view() };
    this.page.said(await this.link.ask("range", [property, ...ends, this.through], extra));
  }

  // ------------------------------------------------------------------------------------------------ moving

  /** Put the handle where what is selected is now. */
  async follow() {
    if (this.tool !== "move" || this.handle.controls.dragging) return;
    this.#asked += 1;
    const asked = this.#asked;
    const { extent } = await this.link.ask("extent");
    if (asked !== this.#asked || this.tool !== "move" || this.handle.controls.dragging) return;
    this.#extent = extent ?? null;
    if (!extent) {
      this.handle.take();
      this.page.said({ said: "Select what is to be moved", well: true });
      return;
    }
    this.handle.put(this.#grip, extent.pivot);
    const offset = [0, 1, 2].map((axis) => extent.centre[axis] - extent.pivot[axis]);
    this.handle.outline(boxLines(extent.size, offset));
    this.#showMotion();
  }

  #showMotion() {
    const { handle } = this;
    const shift = handle.position.clone().sub(handle.centre).multiplyScalar(this.#unit).toArray();
    ["shift-x", "shift-y", "shift-z"].forEach((id, axis) => (this.#field(id).value = String(Number(shift[axis].toPrecision(3)))));
    this.#field("factor").value = String(Number(handle.factor.toPrecision(3)));
  }

  #moved() {
    if (this.tool !== "move") return;
    this.scene.paint(this.handle.pose);
    this.#showMotion();
  }

  /** What the numbers say, on the handle. */
  #typed() {
    if (!this.#areNumbers(MOTION)) return;
    const shift = new Vector3(...["shift-x", "shift-y", "shift-z"].map((id) => this.#number(id) / this.#unit));
    const turn = quaternionOf(["turn-x", "turn-y", "turn-z"].map((id) => this.#number(id)));
    this.handle.set(shift, turn, Math.max(0.01, this.#number("factor") || 1));
    this.#moved();
  }

  #released() {
    // What is dragged is done when it is let go, as in a page that is sent; numbers wait for a button.
    if (this.tool === "move") void this.move(false);
  }

  /** @param {boolean} isCopy whether a copy is moved, and what is selected stays */
  async move(isCopy) {
    const { handle } = this;
    if (this.tool !== "move" || !this.#extent) return;
    const { x, y, z, w } = handle.quaternion;
    const shift = handle.position.clone().sub(handle.centre).toArray();
    if (!isCopy && Math.hypot(...shift) < 1e-9 && Math.abs(w) > 1 - 1e-9 && Math.abs(handle.factor - 1) < 1e-9) return;
    const answer = await this.link.ask("move", [...shift, w, x, y, z, handle.factor, isCopy]);
    this.scene.paint();
    for (const id of ["turn-x", "turn-y", "turn-z"]) this.#field(id).value = "0";
    this.page.said(answer);
    await this.follow();
  }
}
