// The page: objects of a splat scene, in one file.
import { addressOf, placeOf } from "./address.js";
import { repackHarmonics } from "./harmonics.js";
import { readMeta } from "./meta.js";
import { Mover, placed } from "./mover.js";
import { Pen, under, within } from "./outline.js";
import { byId, isTyping, Panel } from "./panel.js";
import { Picker } from "./picker.js";
import { drawByTable } from "./shading.js";
import { Stage } from "./stage.js";
import { isolate, isShown, move, moveBack, rename, select, showAll, Store, toggleHidden } from "./state.js";
import { ObjectTable, rowsTexture } from "./table.js";
import { unpack } from "./unpack.js";
import { SplatFileType, SplatMesh, Vector3 } from "./vendor.js";

/** @typedef {import("./state.js").Mode} Mode */

/** @type {[number, number, number]} */
const SELECTED = [1, 0.72, 0.1];
/** @type {[number, number, number]} */
const HOVERED = [1, 1, 1];

/** Pixels that a pointer may wander between down and up and still click. */
const STILL = 4;

/** Milliseconds of a pick above which objects are looked up now and then only while the pointer moves. */
const SLOW_PICK = 30;

/** Milliseconds after which what clicks need is prepared. */
const PREPARE_MS = 200;

const BACKGROUNDS = { light: 0xf3f4f6, dark: 0x1d2127 };

async function main() {
  const meta = readMeta();
  const status = byId("status", HTMLElement);
  const say = (/** @type {string} */ text) => {
    status.textContent = text;
  };
  const stage = new Stage(byId("view", HTMLElement), meta);
  stage.canvas.addEventListener("webglcontextlost", () => say("The graphics card gave up. Load the page again."));

  const rows = new Uint16Array((await unpack("rows")).buffer);
  const file = await unpack("splats");
  const mesh = new SplatMesh({
    fileBytes: file.slice(), // which a worker takes away
    fileType: meta.format === "spz" ? SplatFileType.SPZ : SplatFileType.PLY,
    extSplats: true,
  });
  await mesh.initialized;
  const splats = mesh.extSplats;
  if (!splats || splats.getNumSplats() !== rows.length) throw new Error("its splats do not match its list of objects");
  await repackHarmonics(splats, file, meta.format);
  const table = new ObjectTable(meta.objects.length + 1);
  drawByTable(mesh, rowsTexture(rows), table.texture);
  const picker = new Picker(splats, rows, table);

  const store = new Store();
  let hovered = /** @type {number | null} */ (null);
  let painted = false;
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

  const home = () => stage.fly(new Vector3(...meta.view.eye), new Vector3(...meta.view.target));

  const panel = new Panel(meta, {
    choose: (these, event) => choose(these, modeOf(event)),
    toggle: (row) => store.change(toggleHidden(store.state, [row])),
    isolate: (row) => store.change(isolate(store.state, [row])),
    fly: (row) => fly([row]),
    rename: (row, name) => {
      const own = meta.objects[row - 1].name;
      store.change(rename(store.state, row, name.trim() === own ? "" : name));
    },
    hover,
  });

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

  function copyLink() {
    rememberPlace();
    navigator.clipboard?.writeText(location.href).then(
      () => say("The link is copied: it opens this view with these objects"),
      () => say("The address above leads to this view with these objects"),
    );
  }

  function savePicture() {
    const link = document.createElement("a");
    link.download = "picture.png";
    link.href = stage.picture();
    link.click();
  }

  const help = byId("help", HTMLDialogElement);
  /** @type {Record<string, {run: () => void, keys?: string[], needsObject?: boolean, isOn?: () => boolean, can?: () => boolean}>} */
  const commands = {
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
    turntable: { run: () => stage.turntable(!stage.orbit.autoRotate), keys: ["t"], isOn: () => stage.orbit.autoRotate },
    home: { run: home, keys: ["Home"] },
    link: { run: copyLink, keys: ["l"] },
    picture: { run: savePicture, keys: ["p"] },
    help: { run: () => help.showModal(), keys: ["?", "Shift+?"] },
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

  const buttons = new Map(
    [...document.querySelectorAll("button[data-command]")].map((node) => {
      const button = /** @type {HTMLButtonElement} */ (node);
      return [button, commands[button.dataset.command ?? ""]];
    }),
  );
  for (const [button, command] of buttons) {
    button.addEventListener("click", () => {
      command.run();
      showButtons();
    });
  }
  function showButtons() {
    for (const [button, { needsObject, isOn, can }] of buttons) {
      button.disabled = (needsObject && !store.state.selected.size) || (can !== undefined && !can());
      if (isOn) button.setAttribute("aria-pressed", String(isOn()));
    }
  }
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || help.open) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const pressed = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey ? "Shift+" : ""}${key}`;
    const command = Object.values(commands).find(({ keys }) => keys?.includes(pressed));
    if (!command || (command.can && !command.can()) || (command.needsObject && !store.state.selected.size)) return;
    event.preventDefault();
    command.run();
    showButtons();
  });

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
  const label = byId("label", HTMLElement);
  let pickMs = 0;
  /** @param {number} x @param {number} y pixels of the canvas */
  function pick(x, y) {
    const start = performance.now();
    const { origin, direction } = stage.ray(x, y);
    const hit = picker.pick(origin, direction);
    pickMs = performance.now() - start;
    return hit;
  }
  /** @param {number | null} row */
  function hover(row) {
    if (row === hovered) return;
    hovered = row;
    paint();
  }
  const placeIn = (/** @type {MouseEvent} */ event) => {
    const box = stage.canvas.getBoundingClientRect();
    return /** @type {const} */ ([event.clientX - box.left, event.clientY - box.top]);
  };
  let down = /** @type {readonly [number, number] | null} */ (null);
  stage.canvas.addEventListener("pointerdown", (event) => {
    down = event.isPrimary && event.button === 0 && !mover.isHeld ? placeIn(event) : null;
    if (stage.orbit.autoRotate) stage.turntable(false);
    showButtons();
  });
  stage.canvas.addEventListener("pointerup", (event) => {
    const [x, y] = placeIn(event);
    if (!down || Math.hypot(x - down[0], y - down[1]) > STILL || mover.isHeld) return;
    down = null;
    const row = pick(x, y)?.row ?? 0;
    choose(row > 0 ? [row] : [], row > 0 || modeOf(event) === "only" ? modeOf(event) : "add");
  });
  stage.canvas.addEventListener("dblclick", (event) => {
    const [x, y] = placeIn(event);
    const hit = pick(x, y);
    if (!hit) return;
    const { origin, direction } = stage.ray(x, y);
    const target = direction.clone().multiplyScalar(hit.depth).add(origin);
    stage.fly(target.clone().lerp(origin, 0.6), target);
  });
  let pointer = /** @type {readonly [number, number] | null} */ (null);
  let looking = false;
  function lookUnderPointer() {
    looking = false;
    if (!pointer) return;
    const [x, y] = pointer;
    const row = mover.isHeld ? 0 : (pick(x, y)?.row ?? 0);
    hover(row || null);
    label.hidden = !row;
    label.textContent = row ? panel.nameOf(store.state, row) : "";
    label.style.transform = `translate(${x + 14}px, ${y + 14}px)`;
    stage.canvas.style.cursor = row ? "pointer" : "";
  }
  stage.canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || event.buttons) return;
    pointer = placeIn(event);
    if (looking) return;
    looking = true;
    if (pickMs > SLOW_PICK) setTimeout(lookUnderPointer, 4 * pickMs);
    else requestAnimationFrame(lookUnderPointer);
  });
  stage.canvas.addEventListener("pointerleave", () => {
    pointer = null;
    label.hidden = true;
    hover(null);
  });
  byId("fold", HTMLButtonElement).addEventListener("click", () => document.body.classList.toggle("folded"));

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
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const followTheme = () => stage.setBackground(dark.matches ? BACKGROUNDS.dark : BACKGROUNDS.light);
  dark.addEventListener("change", followTheme);
  followTheme();
  stage.scene.add(mesh);
  paint();
  panel.show(store.state);
  showButtons();
  const part = meta.splats < meta.all ? ` of ${meta.all.toLocaleString("en")}` : "";
  say(`${meta.objects.length} objects, ${meta.splats.toLocaleString("en")}${part} splats`);
  followAddress();
  addEventListener("hashchange", followAddress);
  // The first click does not wait for it, nor does the first picture.
  setTimeout(() => picker.blocks, PREPARE_MS);
  Object.assign(window, { gseg: { meta, store, stage, mesh, table, picker, pick, fly, commands, move, placed, Vector3 } });
}

main().catch((error) => {
  byId("status", HTMLElement).textContent = `The scene cannot be shown: ${error.message ?? error}`;
});
