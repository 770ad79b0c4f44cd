// The page: objects of a splat scene, in one file.
import { addressOf, placeOf } from "./address.js";
import { commandsOf, copyLink, followTheme, handle, point } from "./hands.js";
import { harmonicsOf } from "./harmonics.js";
import { readMeta } from "./meta.js";
import { Mover, placed } from "./mover.js";
import { Pen, under, within } from "./outline.js";
import { byId, Panel } from "./panel.js";
import { Picker } from "./picker.js";
import { drawByTable } from "./shading.js";
import { Stage } from "./stage.js";
import { isolate, isShown, move, moveBack, rename, select, showAll, Store, toggleHidden } from "./state.js";
import { ObjectTable, rowsTexture } from "./table.js";
import { isRead, unpack } from "./unpack.js";
import { SplatFileType, SplatMesh, Vector3 } from "./vendor.js";

/** @typedef {import("./state.js").Mode} Mode */

/** @type {[number, number, number]} */
const SELECTED = [1, 0.72, 0.1];
/** @type {[number, number, number]} */
const HOVERED = [1, 1, 1];

/** Milliseconds after which what clicks and the list need is prepared. */
const PREPARE_MS = 200;

async function main() {
  const meta = readMeta();
  const status = byId("status", HTMLElement);
  const say = (/** @type {string} */ text) => {
    status.textContent = text;
  };
  // A worker starts and gets ready while the rest of the page is read, and decodes the splats while this thread waits for
  // the graphics card.
  const file = isRead.then(() => unpack("splats"));
  const rowsFile = isRead.then(() => unpack("rows"));
  const mesh = new SplatMesh({
    stream: inOnePiece(file),
    fileType: meta.format === "spz" ? SplatFileType.SPZ : SplatFileType.PLY,
    extSplats: true,
  });
  const repack = harmonicsOf(await file, meta.format);
  await new Promise((done) => setTimeout(done));
  const stage = new Stage(byId("view", HTMLElement), meta);
  stage.canvas.addEventListener("webglcontextlost", () => say("The graphics card gave up. Load the page again."));
  const rows = new Uint16Array((await rowsFile).buffer);
  await mesh.initialized;
  const splats = mesh.extSplats;
  if (!splats || splats.getNumSplats() !== rows.length) throw new Error("its splats do not match its list of objects");
  (await repack)(splats);
  const table = new ObjectTable(meta.objects.length + 1);
  drawByTable(mesh, rowsTexture(rows), table.texture);
  const picker = new Picker(splats, rows, table);

  const store = new Store();
  let hovered = /** @type {number | null} */ (null);
  let painted = false;
  let prepared = false;
  let several = false;

  // ------------------------------------------------------------------------------------------------ what is drawn
  /** @param {ReadonlyMap<number, import("./state.js").Pose>} poses */
  function paint(poses = store.state.poses) {
    const { state } = store;
    for (let row = 0; row < table.count; row++) {
      const own = row > 0 ? meta.objects[row - 1].color : null;
      if (state.selected.has(row)) table.tint(row, SELECTED, 0.5);
      else if (row === hovered) table.tint(row, HOVERED, 0.25);
      else if (painted && own) table.tint(row, [own[0] / 255, own[1] / 255, own[2] / 255], 0.7);
      else table.tint(row, HOVERED, 0);
      table.place(row, poses.get(row));
      table.show(row, isShown(state, row));
    }
    table.texture.needsUpdate = true;
    mesh.needsUpdate = true;
    stage.draw();
  }

  /** @param {number} row */
  const centreOf = (row) => placed(meta.objects[row - 1].centre, store.state.poses.get(row));
  /** @param {number} row */
  const radiusOf = (row) => Math.hypot(...meta.objects[row - 1].edges) / 2;

  // ---------------------------------------------------------------------------------------------- what can be done
  const chosen = () => [...store.state.selected];
  /** @param {MouseEvent | KeyboardEvent} event @returns {Mode} */
  const modeOf = (event) => {
    if (event.altKey) return "remove";
    if (event.shiftKey) return "add";
    return several || event.ctrlKey || event.metaKey ? "toggle" : "only";
  };
  /** @param {number[]} these @param {Mode} mode */
  const choose = (these, mode) => store.change(select(store.state, these, mode));

  /** @param {number[]} these */
  function fly(these) {
    if (!these.length) return;
    const middle = new Vector3();
    for (const row of these) middle.addScaledVector(centreOf(row), 1 / these.length);
    stage.flyTo(middle, Math.max(...these.map((row) => centreOf(row).distanceTo(middle) + radiusOf(row))));
  }

  const actions = {
    choose: (/** @type {number[]} */ these, /** @type {MouseEvent} */ event) => choose(these, modeOf(event)),
    toggle: (/** @type {number} */ row) => store.change(toggleHidden(store.state, [row])),
    isolate: (/** @type {number} */ row) => store.change(isolate(store.state, [row])),
    fly: (/** @type {number} */ row) => fly([row]),
    rename: (/** @type {number} */ row, /** @type {string} */ name) => {
      const own = meta.objects[row - 1].name;
      store.change(rename(store.state, row, name.trim() === own ? "" : name));
    },
    hover,
  };
  const panel = new Panel(meta, actions, () => (prepared ? { numbers: picker, rows, eye: meta.view.eye } : null));

  const mover = new Mover(
    stage,
    (poses) => paint(new Map([...store.state.poses, ...poses])),
    (poses) => store.change(move(store.state, poses)),
  );
  let gizmo = /** @type {"translate" | "rotate" | null} */ (null);

  function holdGizmo() {
    const these = chosen().filter((row) => isShown(store.state, row));
    if (!gizmo || !these.length) {
      mover.detach();
      return;
    }
    const middle = new Vector3();
    for (const row of these) middle.addScaledVector(centreOf(row), 1 / these.length);
    mover.attach(gizmo, middle, new Map(these.map((row) => [row, table.pose(row)])));
  }

  /** @param {"translate" | "rotate"} mode */
  function toggleGizmo(mode) {
    gizmo = gizmo === mode ? null : mode;
    if (gizmo && !chosen().length) say("Select what is to be moved");
    holdGizmo();
    showButtons();
    stage.draw();
  }

  const pen = new Pen(stage.host, (tool, points, event) => {
    const found = tool === "brush" ? under(points, stage, picker) : within(points, stage, picker);
    const mode = modeOf(event);
    choose(found, mode === "toggle" ? "add" : mode);
    if (!found.length) say(tool === "brush" ? "No object under the brush" : "No object is mostly within the outline");
  });
  /** @param {import("./outline.js").Tool} tool */
  function toggleTool(tool) {
    pen.hold(pen.tool === tool ? null : tool);
    if (pen.tool && gizmo) toggleGizmo(gizmo);
    /** @type {Record<string, string>} */
    const how = { lasso: "Draw around objects", polygon: "Click corners; Enter or the first corner closes", brush: "Draw over objects" };
    if (pen.tool) say(how[pen.tool]);
  }

  /** @type {Record<string, import("./hands.js").Command>} */
  const commands = {
    ...commandsOf(stage, () => stage.fly(new Vector3(...meta.view.eye), new Vector3(...meta.view.target))),
    undo: { run: () => store.undo(), keys: ["Ctrl+z"], can: () => store.canUndo },
    redo: { run: () => store.redo(), keys: ["Ctrl+y", "Ctrl+Shift+z"], can: () => store.canRedo },
    "show-all": { run: () => store.change(showAll(store.state)), keys: ["Shift+h"] },
    colors: {
      run: () => {
        painted = !painted;
        paint();
      },
      keys: ["c"],
      isOn: () => painted,
    },
    link: {
      run: () => {
        rememberPlace();
        copyLink(location.href, say, () => {});
      },
      keys: ["l"],
    },
    several: { run: () => (several = !several), isOn: () => several },
    hide: { run: () => store.change(toggleHidden(store.state, chosen())), keys: ["h"], needsObject: true },
    isolate: {
      run: () => store.change(isolate(store.state, chosen())),
      keys: ["i"],
      can: () => chosen().length > 0 || store.state.only !== null,
      isOn: () => store.state.only !== null,
    },
    fly: { run: () => fly(chosen()), keys: ["f"], needsObject: true },
    name: { run: () => panel.edit(chosen()[0]), keys: ["n", "F2"], needsObject: true },
    move: { run: () => toggleGizmo("translate"), keys: ["m"], isOn: () => gizmo === "translate" },
    turn: { run: () => toggleGizmo("rotate"), keys: ["r"], isOn: () => gizmo === "rotate" },
    back: {
      run: () => store.change(moveBack(store.state, chosen())),
      can: () => chosen().some((row) => store.state.poses.has(row)),
    },
    lasso: { run: () => toggleTool("lasso"), keys: ["o"], isOn: () => pen.tool === "lasso" },
    polygon: { run: () => toggleTool("polygon"), keys: ["g"], isOn: () => pen.tool === "polygon" },
    brush: { run: () => toggleTool("brush"), keys: ["b"], isOn: () => pen.tool === "brush" },
    nothing: {
      run: () => {
        if (pen.tool) pen.hold(null);
        else if (gizmo) toggleGizmo(gizmo);
        else choose([], "only");
      },
      keys: ["Escape"],
    },
  };

  const showButtons = handle(commands, () => store.state.selected.size > 0);

  store.listen((state, before) => {
    paint();
    panel.show(state);
    holdGizmo();
    showButtons();
    rememberPlace();
    const [first, ...others] = state.selected;
    if (state.selected !== before.selected && first !== undefined) panel.reveal(first);
    if (first === undefined) say(`${meta.objects.length} objects`);
    else if (others.length) say(`${1 + others.length} objects selected`);
    else say(`${panel.nameOf(state, first)}: selected`);
  });

  // -------------------------------------------------------------------------------------------------- the pointer
  /** @param {number | null} row */
  function hover(row) {
    if (row === hovered) return;
    hovered = row;
    paint();
  }
  const pick = point(stage, {
    look: (x, y) => {
      const { origin, direction } = stage.ray(x, y);
      return picker.pick(origin, direction);
    },
    click: (x, y, event) => {
      const row = pick(x, y)?.row ?? 0;
      choose(row > 0 ? [row] : [], row > 0 || modeOf(event) === "only" ? modeOf(event) : "add");
    },
    hover,
    nameOf: (row) => panel.nameOf(store.state, row),
    isHeld: () => mover.isHeld,
    pressed: showButtons,
  });

  // --------------------------------------------------------------------------------------------------- the address
  const rowOf = new Map(meta.objects.map(({ id }, at) => [id, at + 1]));
  const idOf = (/** @type {number} */ row) => (row > 0 ? meta.objects[row - 1].id : 0);
  let known = "";
  function rememberPlace() {
    const { selected, hidden, only } = store.state;
    known = addressOf({
      eye: stage.camera.position.toArray(),
      target: stage.orbit.target.toArray(),
      selected: [...selected].map(idOf),
      hidden: [...hidden].map(idOf),
      only: only && [...only].map(idOf),
    });
    history.replaceState(null, "", known);
  }
  function followAddress() {
    if (location.hash === known) return;
    const { eye, target, selected, hidden, only } = placeOf(location.hash);
    const known_ = (/** @type {readonly number[] | null | undefined} */ ids) =>
      new Set((ids ?? []).flatMap((id) => (id === 0 ? [0] : (rowOf.get(id) ?? []))));
    const isolated = known_(only);
    known = location.hash;
    if (selected || hidden || only) {
      const found = new Set([...known_(selected)].filter((row) => row > 0));
      store.change({ ...store.state, selected: found, hidden: known_(hidden), only: isolated.size ? isolated : null });
    }
    if (eye && target) stage.fly(new Vector3(...eye), new Vector3(...target), 0);
    else if (selected) fly(chosen());
  }
  let waiting = 0;
  stage.orbit.addEventListener("change", () => {
    clearTimeout(waiting);
    waiting = setTimeout(rememberPlace, 400);
  });

  // ------------------------------------------------------------------------------------------------------- start
  followTheme(stage);
  stage.scene.add(mesh);
  paint();
  panel.show(store.state);
  showButtons();
  const part = meta.splats < meta.all ? ` of ${meta.all.toLocaleString("en")}` : "";
  say(`${meta.objects.length} objects, ${meta.splats.toLocaleString("en")}${part} splats`);
  followAddress();
  addEventListener("hashchange", followAddress);
  // The first click does not wait for it, nor does the first picture.
  setTimeout(() => {
    picker.blocks;
    prepared = true;
    panel.portraits.renew();
  }, PREPARE_MS);
  Object.assign(window, { gseg: { meta, store, stage, panel, mesh, table, picker, pick, fly, commands, move, placed, Vector3 } });
}

/**
 * A stream of a copy, for the worker takes away what it is given.
 *
 * @param {Promise<Uint8Array<ArrayBuffer>>} file
 */
function inOnePiece(file) {
  return new ReadableStream({
    async start(controller) {
      controller.enqueue((await file).slice());
      controller.close();
    },
  });
}

main().catch((error) => {
  byId("status", HTMLElement).textContent = `The scene cannot be shown: ${error.message ?? error}`;
});
