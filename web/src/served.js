// The page before a session: what the browser draws and shows of it, and what it asks the server for.
import { addressOf, placeOf } from "./address.js";
import { commandsOf, copyLink, followTheme, handle, point } from "./hands.js";
import { readMeta } from "./meta.js";
import { byId, Panel } from "./panel.js";
import { Link } from "./served_link.js";
import { Scene } from "./served_scene.js";
import { Tools } from "./served_tools.js";
import { Stage } from "./stage.js";
import { Vector3 } from "./vendor.js";

/** @typedef {import("./served_link.js").Mode} Mode */

function main() {
  const meta = readMeta();
  const status = byId("status", HTMLElement);
  const said = (/** @type {{said?: string, well?: boolean}} */ answer) => {
    if (!answer.said) return;
    status.textContent = answer.said;
    status.classList.toggle("refused", answer.well === false);
  };
  const stage = new Stage(byId("view", HTMLElement), meta);
  stage.canvas.addEventListener("webglcontextlost", () => said({ said: "The graphics card gave up. Load the page again.", well: false }));
  const scene = new Scene(stage);
  /** What the server said last of everything. @type {Record<string, any>} */
  const state = { objects: [], selected: [], steps: [null, null], names: [], walks: null };
  /** @type {Mode} */
  let mode = "set";
  let several = false;
  /** The slider that is being moved. @type {EventTarget | null} */
  let dragged = null;
  let listed = "";

  // ------------------------------------------------------------------------------------------------ what is shown
  const rowOf = (/** @type {number} */ id) => scene.objects.findIndex((item) => item.id === id) + 1;
  const idOf = (/** @type {number} */ row) => scene.objects[row - 1]?.id ?? 0;

  /** @param {Record<string, any>} news */
  function take(news) {
    if (news.said !== undefined) said({ well: true, ...news });
    if (news.unsaved !== undefined) {
      const unsaved = byId("unsaved", HTMLElement);
      unsaved.textContent = news.unsaved;
      unsaved.hidden = !news.unsaved;
    }
    Object.assign(state, news);
    if (news.objects) {
      scene.objects = news.objects.map((/** @type {any} */ one) => ({
        id: one.id,
        name: one.name || `group ${one.id}`,
        color: [1, 3, 5].map((at) => Number.parseInt(one.color.slice(at, at + 2), 16)),
        count: one.count,
        centre: [0, 0, 0],
        edges: one.edges,
      }));
      const now = JSON.stringify([scene.objects, state.metres]);
      if (now !== listed) {
        listed = now;
        meta.objects = scene.objects.map((item) => ({ ...item, edges: /** @type {any} */ (item.edges.map((e) => e * (state.metres ?? 1))) }));
        meta.units = state.metres ? "m" : "scene";
        panel.fill();
      }
      scene.paint();
    }
    // What is drawn came before, and the list is that of it now.
    if (scene.isOther) panel.portraits.renew();
    scene.isOther = false;
    show();
    void selectLinked();
    if (news.selected) {
      const [first] = state.selected;
      if (first !== undefined) panel.reveal(rowOf(first));
    }
    if ("gaussians" in news || "steps" in news) void tools.follow();
  }

  function show() {
    const hidden = new Set(state.objects.filter((/** @type {any} */ one) => one.hidden).map((/** @type {any} */ one) => rowOf(one.id)));
    panel.show({ selected: new Set(state.selected.map(rowOf)), hidden, only: null, names: new Map(), poses: new Map() });
    byId("called", HTMLElement).textContent = state.gaussians ? `${state.called}: ${state.gaussians.toLocaleString("en")} splats` : "Nothing is selected";
    byId("why", HTMLElement).textContent = state.why ?? "";
    for (const [id, there] of /** @type {const} */ ([
      ["scale-part", state.scale != null],
      ["threshold-part", state.threshold != null],
      ["text-part", state.text],
      ["clean-part", state.cleans],
      ["list", state.listed === false],
      ["walks", state.walks],
    ])) {
      byId(id, HTMLElement).hidden = !there;
    }
    for (const id of ["scale", "threshold"]) {
      const field = byId(id, HTMLInputElement);
      if (state[id] != null && dragged !== field) field.value = state[id];
    }
    byId("adaptive", HTMLInputElement).checked = Boolean(state.adaptive);
    const saved = byId("saved", HTMLSelectElement);
    const names = JSON.stringify(state.names);
    if (saved.dataset.names !== names) {
      saved.dataset.names = names;
      saved.replaceChildren(...state.names.map((/** @type {string} */ name) => new Option(name, name)));
    }
    for (const node of document.querySelectorAll(".unit")) node.textContent = state.metres ? "m" : "units";
    showButtons();
  }

  // ---------------------------------------------------------------------------------------------- what can be done
  /** @param {MouseEvent | KeyboardEvent | null} event @returns {Mode} */
  const modeOf = (event) => {
    if (event?.altKey) return "remove";
    return event?.shiftKey ? "add" : mode;
  };

  /** @param {string} name @param {unknown[]} [values] @param {import("./served_link.js").Extra} [extra] */
  async function ask(name, values = [], extra = {}) {
    const answer = await link.ask(name, values, { mode, ...extra });
    said(answer);
    return answer;
  }

  /** @param {number} row @param {MouseEvent} event */
  function choose(row, event) {
    const id = idOf(row);
    const either = several || event.ctrlKey || event.metaKey;
    // The server knows what is selected when this is its turn; what is shown until it answers is a guess.
    const how = either ? (state.selected.includes(id) ? "remove" : "add") : modeOf(event);
    if (link.isOpen) scene.choose(row, how);
    void ask("pick", [id, either ? "toggle" : how]);
  }

  /** @param {number | null} row null: what is selected */
  async function fly(row) {
    const { look } = await ask("look", [row === null ? null : idOf(row)]);
    if (look) stage.flyTo(new Vector3(...look.centre), look.radius);
  }

  const panel = new Panel(
    meta,
    {
      choose: ([row], event) => choose(row, event),
      toggle: (row) => void ask("eye", [idOf(row)]),
      isolate: (row) => {
        void ask("pick", [idOf(row), "set"]).then(({ well }) => well && ask("isolate"));
      },
      fly: (row) => void fly(row),
      rename: (row, name) => {
        if (name.trim() !== scene.objects[row - 1].name) void ask("name", [idOf(row), name]);
      },
      hover,
    },
    () => scene.picker && { numbers: scene.picker, rows: scene.rows, unseen: scene.unseen, eye: meta.view.eye },
    false,
  );

  const link = new Link(
    (frame) => scene.take(frame),
    take,
    (open) => {
      document.body.classList.toggle("lost", !open);
      if (!open) said({ said: "The connection is lost; it is looked for again. If the server was started anew, open the address that it writes.", well: false });
    },
  );
  /** Another tool, whose numbers take their place from the list. */
  function changed() {
    showButtons();
    const [first] = state.selected;
    if (first !== undefined) panel.reveal(rowOf(first));
  }
  const tools = new Tools(link, scene, { modeOf, said, state: () => state, changed });

  /** @type {Record<string, import("./hands.js").Command>} */
  const commands = {
    ...commandsOf(stage, () => stage.fly(new Vector3(...meta.view.eye), new Vector3(...meta.view.target))),
    undo: { run: () => ask("undo"), keys: ["Ctrl+z"], can: () => Boolean(state.steps[0]) },
    redo: { run: () => ask("redo"), keys: ["Ctrl+y", "Ctrl+Shift+z"], can: () => Boolean(state.steps[1]) },
    "show-all": { run: () => ask("show all"), keys: ["Shift+h"], can: () => Boolean(state.hides) },
    colors: {
      run: () => {
        scene.painted = !scene.painted;
        scene.paint();
      },
      keys: ["c"],
      isOn: () => scene.painted,
    },
    link: { run: takeLink, keys: ["l"] },
    several: { run: () => (several = !several), isOn: () => several },
    hide: { run: () => ask("hide"), keys: ["h"], needsObject: true },
    isolate: { run: () => ask("isolate"), keys: ["i"], needsObject: true },
    remove: { run: () => ask("remove"), keys: ["Delete"], needsObject: true },
    fly: { run: () => fly(null), keys: ["f"], needsObject: true },
    name: { run: () => panel.edit(rowOf(state.selected[0])), keys: ["n", "F2"], can: () => state.selected.length > 0 },
    // As the form with the box does, where there is something to clean by.
    export: { run: () => ask("export", [Boolean(state.cleans) && byId("clean", HTMLInputElement).checked]), keys: ["e"], needsObject: true },
    narrower: { run: () => ask("walk", [-1]), keys: ["["], can: () => Boolean(state.walks?.[0]) },
    wider: { run: () => ask("walk", [1]), keys: ["]"], can: () => Boolean(state.walks?.[1]) },
    list: { run: () => ask("list") },
    move: { run: () => tools.hold("translate"), keys: ["m"], isOn: () => tools.tool === "move" && tools.handle.controls.mode === "translate" },
    turn: { run: () => tools.hold("rotate"), keys: ["r"], isOn: () => tools.tool === "move" && tools.handle.controls.mode === "rotate" },
    size: { run: () => tools.hold("scale"), keys: ["s"], isOn: () => tools.tool === "move" && tools.handle.controls.mode === "scale" },
    nothing: { run: () => (tools.tool === "click" ? ask("change", ["none"]) : tools.choose(tools.tool)), keys: ["Escape"] },
  };
  const own = { rectangle: "x", lasso: "o", polygon: "g", brush: "b", sphere: "", box: "", flood: "", color: "", range: "", measure: "" };
  for (const [tool, key] of /** @type {[import("./served_tools.js").Tool, string][]} */ (Object.entries(own))) {
    commands[tool] = { run: () => tools.choose(tool), keys: key ? [key] : [], isOn: () => tools.tool === tool };
  }
  /** @type {[Mode, string][]} */ ([["set", "1"], ["add", "2"], ["remove", "3"], ["intersect", "4"]]).forEach(([name, key]) => {
    commands[`mode-${name}`] = { run: () => (mode = name), keys: [key], isOn: () => mode === name };
  });

  const showPossible = handle(commands, () => state.gaussians > 0);
  function showButtons() {
    showPossible();
    const [undoes, redoes] = state.steps;
    byId("undo", HTMLButtonElement).title = undoes ? `Ctrl+Z: ${undoes}` : "Ctrl+Z";
    byId("redo", HTMLButtonElement).title = redoes ? `Ctrl+Y: ${redoes}` : "Ctrl+Y";
  }

  // Forms and buttons that say in the document what they ask for.
  for (const node of document.querySelectorAll("button[data-ask]")) {
    const button = /** @type {HTMLButtonElement} */ (node);
    button.addEventListener("click", () => void ask(button.dataset.ask ?? "", JSON.parse(button.dataset.values ?? "[]")));
  }
  for (const form of document.querySelectorAll("form[data-ask]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const fields = /** @type {(HTMLInputElement | HTMLSelectElement)[]} */ ([...form.querySelectorAll("input, select")]);
      void ask(/** @type {HTMLFormElement} */ (form).dataset.ask ?? "", fields.flatMap(valueOf));
    });
  }
  const adaptive = byId("adaptive", HTMLInputElement);
  adaptive.addEventListener("change", () => void ask("adaptive", [adaptive.checked]));
  byId("page-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const values = [byId("page-name", HTMLInputElement).value, byId("page-over", HTMLInputElement).checked];
    void ask("export page", [...values, ...stage.orbit.target.toArray()], { view: scene.view() });
  });
  for (const id of ["scale", "threshold"]) {
    const field = byId(id, HTMLInputElement);
    field.addEventListener("input", () => (dragged = field));
    for (const name of ["change", "pointerup", "pointercancel", "blur"]) field.addEventListener(name, () => (dragged = null));
    field.addEventListener("change", () => void ask(id, [field.valueAsNumber]));
  }

  // -------------------------------------------------------------------------------------------------- the pointer
  /** @param {number | null} row */
  function hover(row) {
    if (row === scene.hovered) return;
    scene.hovered = row;
    scene.paint();
  }
  /** @param {number} x @param {number} y @param {MouseEvent} event */
  function click(x, y, event) {
    const how = modeOf(event);
    if (tools.click(x, y, how)) return;
    const [sam, track] = ["sam", "track"].map((id) => byId(id, HTMLInputElement).value.trim());
    const asked = { mode: how, view: scene.view(), points: [[x, y]] };
    if (sam || track) {
      void ask("mark", [sam, track], asked);
      return;
    }
    // A known object needs no server to be known; what a click means in a tree, by features or on nothing, the server says.
    const row = state.local ? (pick(x, y)?.row ?? 0) : 0;
    if (row > 0) choose(row, event);
    else void ask("click", [], asked);
  }

  const pick = point(stage, {
    look: (x, y) => scene.pick(x, y),
    click,
    hover,
    nameOf: (row) => scene.objects[row - 1]?.name ?? "",
    isHeld: () => tools.handle.isHeld,
    pressed: showButtons,
  });

  // --------------------------------------------------------------------------------------------------- the address
  // The address has the view, so that a page that is loaded again is where it was. What is selected is the session's: it
  // is in a link that somebody takes along, and followed once.
  let known = "";
  /** Groups of a link that are not listed yet, and whether it is gone to where they are. */
  let linked = { ids: /** @type {readonly number[]} */ ([]), flies: false };
  /** @param {readonly number[]} selected */
  const placeWith = (selected) =>
    addressOf({ eye: stage.camera.position.toArray(), target: stage.orbit.target.toArray(), selected, hidden: [], only: null });
  /** @param {string} place */
  function stand(place) {
    clearTimeout(waiting);
    known = place;
    history.replaceState(null, "", known);
  }
  // What is not followed yet stays, for a page that is loaded again meanwhile.
  const rememberPlace = () => stand(placeWith(linked.ids));
  function takeLink() {
    const link = placeWith(state.selected);
    copyLink(`${location.href.split("#")[0]}${link}`, (text) => said({ said: text, well: true }), () => stand(link));
  }
  function followAddress() {
    if (location.hash === known) return;
    known = location.hash;
    const { eye, target, selected } = placeOf(location.hash);
    if (eye && target) stage.fly(new Vector3(...eye), new Vector3(...target), 0);
    linked = { ids: selected ?? [], flies: !eye || !target };
    void selectLinked();
  }
  async function selectLinked() {
    const { ids, flies } = linked;
    if (!ids.length || !state.listed) return;
    linked = { ids: [], flies: false };
    rememberPlace();
    const there = ids.filter((id) => rowOf(id) > 0);
    if (there.length) await ask("picks", ["set", ...there]);
    if (there.length && flies) await fly(null);
    const lacking = ids.length - there.length;
    if (lacking) said({ said: `The link names ${lacking === 1 ? "an object that is" : `${lacking} objects that are`} not here.`, well: false });
  }
  let waiting = 0;
  stage.orbit.addEventListener("change", () => {
    clearTimeout(waiting);
    waiting = setTimeout(rememberPlace, 400);
  });
  addEventListener("hashchange", followAddress);

  followTheme(stage);
  show();
  followAddress();
  Object.assign(window, { gseg: { meta, state, stage, panel, scene, link, tools, pick, ask, commands, Vector3 } });
}

/**
 * The values of a field: a color is three.
 *
 * @param {HTMLInputElement | HTMLSelectElement} field
 * @returns {unknown[]}
 */
function valueOf(field) {
  if (field.type === "checkbox") return [/** @type {HTMLInputElement} */ (field).checked];
  // NaN where it is empty, which the server refuses: JSON has null for it.
  if (field.type === "number" || field.type === "range") return [/** @type {HTMLInputElement} */ (field).valueAsNumber];
  if (field.type === "color") return [1, 3, 5].map((at) => Number.parseInt(field.value.slice(at, at + 2), 16));
  return [field.value];
}

try {
  main();
} catch (error) {
  byId("status", HTMLElement).textContent = `The scene cannot be shown: ${/** @type {Error} */ (error).message ?? error}`;
}
