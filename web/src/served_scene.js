// What is drawn of a session: its splats, which of them are selected, and which are not shown.
import { harmonicsOf } from "./harmonics.js";
import { Picker } from "./picker.js";
import { drawByTable } from "./shading.js";
import { ObjectTable, rowsTexture } from "./table.js";
import { SplatFileType, SplatMesh } from "./vendor.js";

/** Kinds of frames, as `gseg_ns/serving/picture.py` writes them: a PLY; 16 bits each; a bit each, twice. */
const SPLATS = 1;
const ROWS = 2;
const MARKS = 3;

/** Rows that a table has at least, so that few lists need another. */
const FEWEST = 256;

/** And at most: twice as many and the row of what is not shown are 16-bit numbers. The server names fewer. */
const MOST = 32_767;

/** Milliseconds after which what clicks need is prepared. */
const PREPARE_MS = 200;

/** @type {[number, number, number]} */
const SELECTED = [1, 0.72, 0.1];
/** @type {[number, number, number]} */
const HOVERED = [1, 1, 1];

/** @typedef {import("./state.js").Pose} Pose */

export class Scene {
  /** @type {SplatMesh | null} */
  #mesh = null;
  /** @type {import("three").DataTexture | null} */
  #texture = null;
  #file = new Uint8Array();
  /** Rows that the tables hold. */
  #room = 0;
  /** @type {ObjectTable | null} */
  #table = null;
  /** @type {Picker | null} */
  picker = null;
  /** Row of each splat's object. */
  rows = new Uint16Array();
  /** Above 0 where a splat is selected. */
  selected = new Uint8Array();
  /** Above 0 where it is not shown. */
  unseen = new Uint8Array();
  /** @type {import("./meta.js").Item[]} */
  objects = [];
  hovered = /** @type {number | null} */ (null);
  painted = false;
  version = 0;
  /** Whether objects look another way than before, or are others: pictures of them wait for the list of what is drawn. */
  isOther = false;

  /** @param {import("./stage.js").Stage} stage */
  constructor(stage) {
    this.stage = stage;
  }

  /**
   * A frame of the server.
   *
   * @param {ArrayBuffer} frame
   */
  async take(frame) {
    const [kind, version, count] = new Uint32Array(frame, 0, 4);
    const payload = new Uint8Array(frame, 16);
    if (kind === SPLATS) {
      this.#file = payload;
      this.rows = new Uint16Array(count);
      this.selected = new Uint8Array(count);
      this.unseen = new Uint8Array(count);
      await this.#load(count);
      this.version = version;
      this.isOther = true;
    } else if (kind === ROWS) {
      this.rows.set(new Uint16Array(frame, 16, count));
      const most = this.rows.reduce((a, b) => Math.max(a, b), 0);
      if (most >= this.#room - 1) await this.#load(count);
      this.marked();
      this.isOther = true;
    } else if (kind === MARKS) {
      const bytes = Math.ceil(count / 8);
      let others = false;
      for (let i = 0; i < count; i++) {
        this.selected[i] = (payload[i >> 3] >> (i & 7)) & 1;
        const unseen = (payload[bytes + (i >> 3)] >> (i & 7)) & 1;
        others ||= unseen !== this.unseen[i];
        this.unseen[i] = unseen;
      }
      this.marked();
      this.isOther ||= others;
    }
  }

  /** @param {number} count splats */
  async #load(count) {
    const { stage } = this;
    const mesh = new SplatMesh({ fileBytes: this.#file.slice(), fileType: SplatFileType.PLY, extSplats: true });
    await mesh.initialized;
    const splats = mesh.extSplats;
    if (!splats || splats.getNumSplats() !== count) throw new Error("The splats are not those that were sent.");
    (await harmonicsOf(this.#file, "ply"))(splats);
    const rows = Math.max(this.rows.reduce((a, b) => Math.max(a, b), 0), this.objects.length) + 2;
    const before = { mesh: this.#mesh, texture: this.#texture, table: this.#table };
    this.#room = Math.min(MOST, Math.max(FEWEST, 2 ** Math.ceil(Math.log2(rows))));
    this.#table = new ObjectTable(2 * this.#room + 1);
    this.#texture = rowsTexture(new Uint16Array(count));
    drawByTable(mesh, this.#texture, this.#table.texture);
    // What is hidden is not hit.
    const table = new ObjectTable(this.#room + 1);
    table.show(this.#room, false);
    const picker = new Picker(splats, new Uint16Array(count), table);
    this.picker = picker;
    // The first click does not wait for it, nor does the first picture.
    setTimeout(() => this.picker === picker && picker.blocks, PREPARE_MS);
    this.#mesh = mesh;
    this.marked();
    stage.scene.add(mesh);
    if (before.mesh) {
      stage.scene.remove(before.mesh);
      before.mesh.dispose();
    }
    before.texture?.dispose();
    before.table?.texture.dispose();
    stage.draw();
  }

  /** Rows and marks have changed. */
  marked() {
    if (!this.#texture || !this.picker) return;
    const { rows, selected, unseen, picker } = this;
    const room = this.#room;
    const drawn = /** @type {Uint16Array} */ (this.#texture.image.data);
    for (let i = 0; i < rows.length; i++) {
      drawn[i] = unseen[i] ? 2 * room : rows[i] + (selected[i] ? room : 0);
      picker.rows[i] = unseen[i] ? room : rows[i];
    }
    this.#texture.needsUpdate = true;
    this.paint();
  }

  /**
   * Draw what is highlighted.
   *
   * @param {Pose} [pose] what is selected has it while it is being moved
   */
  paint(pose) {
    const table = this.#table;
    if (!table || !this.#mesh) return;
    const room = this.#room;
    for (let row = 0; row < Math.min(room, this.objects.length + 1); row++) {
      const own = row > 0 ? this.objects[row - 1].color : null;
      if (row > 0 && row === this.hovered) table.tint(row, HOVERED, 0.25);
      else if (this.painted && own) table.tint(row, [own[0] / 255, own[1] / 255, own[2] / 255], 0.7);
      else table.tint(row, HOVERED, 0);
      table.tint(row + room, SELECTED, row > 0 && row === this.hovered ? 0.6 : 0.5);
      table.place(row + room, pose);
    }
    table.show(2 * room, false);
    table.texture.needsUpdate = true;
    this.#mesh.needsUpdate = true;
    this.stage.draw();
  }

  /**
   * Say at once what the server will say of an object that is picked.
   *
   * @param {number} row
   * @param {import("./served_link.js").Mode} mode
   */
  choose(row, mode) {
    const { rows, selected } = this;
    for (let i = 0; i < rows.length; i++) {
      const here = rows[i] === row ? 1 : 0;
      if (mode === "set") selected[i] = here;
      else if (mode === "add") selected[i] |= here;
      else if (mode === "remove") selected[i] &= 1 - here;
      else selected[i] &= here;
    }
    this.marked();
  }

  /**
   * What is under a pixel of the canvas.
   *
   * @param {number} x
   * @param {number} y
   */
  pick(x, y) {
    const { origin, direction } = this.stage.ray(x, y);
    return this.picker?.pick(origin, direction) ?? null;
  }

  /** The view as the server takes it: pose of the camera by columns, angle and pixels. */
  view() {
    const { camera, canvas } = this.stage;
    camera.updateMatrixWorld();
    return [...camera.matrixWorld.toArray(), camera.fov, canvas.clientWidth, canvas.clientHeight];
  }
}
