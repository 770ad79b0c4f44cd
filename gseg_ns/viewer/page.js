// The upper part of the Segment tab: modes, tools, actions and the list of objects. Called with the id of the text
// field by which it speaks to the viewer, and with what viser keeps of its page (null: another version, which has none);
// the viewer speaks to it through `window.gsegTab.take()`.
//
// Whatever comes from a run or a user is put on the page as text (`textContent`, `value`, `title`), never as markup.
(function (field, viser) {
  "use strict";
  if (window.gsegTab) window.gsegTab.end();

  const page = Math.random().toString(36).slice(2);
  const state = { objects: [], selected: [], pictures: {}, mode: "set", tool: "click", steps: [null, null] };
  let sequence = 0;
  let queue = [];
  let held = null; // the mode while a modifier key is held
  let open = null;
  let editing = null;
  let letting = 0; // the timer after which a modifier key that is up is up for clicks, too
  let anchor = null; // where a range in the list begins
  let drawn = null; // where the mouse went down, to be drawn over a range
  let down = null; // where it went down on the picture
  let stripShows = "";
  let tallest = 0; // pixels of the largest picture so far
  const kept = new Map(); // rows of the list and their parts, by object
  const newest = new Map(); // numbers of what was taken last, by the names of the state

  // ------------------------------------------------------------------------------------------------ to the viewer

  function input() {
    const label = document.querySelector(`label[for="${field}"]`);
    const box = label && label.parentElement.parentElement.parentElement.parentElement;
    return box && { box, text: box.querySelector("input") };
  }

  function send(name, ...values) {
    queue.push([++sequence, name, ...values]);
    // viser passes the last of quick changes on: what came before goes along until there is no more room.
    while (queue.length > 1 && JSON.stringify(queue).length > 3000) queue.shift();
    queue = queue.slice(-12);
    write();
  }

  function write() {
    const found = input();
    if (!found || !queue.length) return;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    set.call(found.text, JSON.stringify([page, queue]));
    found.text.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // viser's page sends the changes of all fields by one way, 50 ms apart, later where the page is busy, and of several
  // the last alone: what was typed into one was lost to the next, to a button or to this script. It goes before whatever
  // else is sent.
  const typed = new Map(); // values by the ids of their fields, until they are sent

  function keepTyped() {
    if (!viser?.useGui || !viser.sendMessageRef?.current) return;
    const { updateGuiProps } = viser.useGui.getState();
    if (!updateGuiProps.keepsTyped) {
      const update = (id, updates) => {
        updateGuiProps(id, updates);
        if (window.event && "value" in updates) typed.set(id, updates.value); // by hand, and not by the viewer
      };
      viser.useGui.setState({ updateGuiProps: Object.assign(update, { keepsTyped: true }) });
    }
    const send = viser.sendMessageRef.current;
    if (!send.keepsTyped) {
      const sendAll = (message) => {
        if (message.type === "GuiUpdateMessage") typed.delete(message.id);
        for (const [id, value] of typed) send({ type: "GuiUpdateMessage", id, updates: { value } });
        typed.clear();
        send(message);
      };
      viser.sendMessageRef.current = Object.assign(sendAll, { keepsTyped: true });
    }
  }

  // ------------------------------------------------------------------------------------------------------ the page

  const SHAPES = {
    click: "M5 3l6 16 2-7 7-2z",
    rectangle: "M4 6h16v12H4z",
    undo: "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
    redo: "M15 14l5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
    groups: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
    through: "M3 12s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6zM12 9a3 3 0 1 0 .01 0z",
    sphere: "M12 3a9 9 0 1 0 .01 0zM3.5 12c3 3 14 3 17 0",
    box: "M12 3l8 4v10l-8 4-8-4V7zM4 7l8 4 8-4M12 11v10",
    flood: "M12 3c4 5 6 7 6 11a6 6 0 0 1-12 0c0-4 2-6 6-11z",
    color: "M14 4l6 6M17 3l4 4-3 3-4-4zM15 7l-9 9-2 4 4-2 9-9",
    range: "M3 20h18M5 20v-5M9 20v-9M13 20V5M17 20v-7",
    measure: "M3 16L16 3l5 5L8 21zM7 12l2 2M10 9l3 3M13 6l2 2",
    move: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
    help: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18v.01",
    pencil: "M4 20l1-5L16 4l4 4L9 19z",
    eye: "M3 12s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6zM12 10a2 2 0 1 0 .01 0z",
    closed: "M3 12s3 6 9 6 9-6 9-6M5 16l-2 2M12 18v3M19 16l2 2",
  };

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", SHAPES[name]);
    svg.append(path);
    return svg;
  }

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    element.className = className;
    element.append(...children);
    return element;
  }

  function hint(element, text) {
    element.title = text;
    element.setAttribute("aria-label", text.split(":")[0]);
  }

  function button(content, says, act, className = "") {
    const element = make("button", className, content);
    element.type = "button";
    hint(element, says);
    element.addEventListener("click", (event) => {
      event.stopPropagation();
      act(event);
    });
    return element;
  }

  const MODES = [
    ["set", "Replace", "Replace: a click selects what is under it and nothing else (1)"],
    ["add", "Add", "Add: a click adds what is under it (2, or hold Shift)"],
    ["remove", "Remove", "Remove: a click takes what is under it away (3, or hold Alt)"],
    ["intersect", "∩", "Intersect: of what is selected, keep what is under a click (4)"],
  ];
  const TOOLS = [
    ["click", "Objects: click on one"],
    ["rectangle", "Rectangle: drag one over the picture; the camera stands still meanwhile"],
    ["sphere", "Sphere: place it with its handle, then press Select"],
    ["box", "Box: place and turn it with its handle, then press Select"],
    ["flood", "Flood: a click means what is connected with the spot and of like color"],
    ["color", "Color: a click means all that has the color of the spot"],
    ["range", "Range: Gaussians by size or opacity"],
    ["measure", "Measure: click on two points"],
    ["move", "Move: move, turn and scale what is selected, with a handle or by numbers"],
  ];
  const KEYS = [
    ["1 2 3 4", "replace, add, remove, intersect"],
    ["Shift, Alt + click", "add, remove once"],
    ["H  I  U", "hide, isolate, show all"],
    ["N", "name what is selected"],
    ["X", "export"],
    ["F", "look at what is selected"],
    ["[  ]", "narrower, wider (runs with a tree of parts)"],
    ["List: draw over rows", "select all of them"],
    ["List: box of a row", "add it, or take it away"],
    ["List: Shift, Ctrl, Alt + click", "up to there, add, remove"],
    ["G", "groups or colors"],
    ["Delete", "remove"],
    ["Esc", "select nothing"],
    ["Ctrl+Z  Ctrl+Y", "undo, redo"],
  ];

  const modes = Object.fromEntries(
    MODES.map(([name, label, hint]) => [name, button(label, hint, () => setMode(name))]),
  );
  const tools = Object.fromEntries(
    TOOLS.map(([name, hint]) => [name, button(icon(name), hint, () => send("tool", name), "icon")]),
  );
  const undo = button(icon("undo"), "Undo", () => send("undo"), "icon");
  const redo = button(icon("redo"), "Redo", () => send("redo"), "icon");
  const groups = button(icon("groups"), "Groups: show the objects in colors, and back (G)", () => send("groups"), "icon");
  const through = button(icon("through"), "Through: the tool takes what the picture hides, too; off: what it shows alone", () => send("through"), "icon");
  const narrower = button("Narrower", "Narrower: the part of it that was clicked ([)", () => send("walk", -1));
  const wider = button("Wider", "Wider: what it is a part of (])", () => send("walk", 1));
  const strip = make("div", "strip");
  const walk = make("div", "line walk", narrower, wider);
  const help = button(icon("help"), "Keys", () => keys.toggleAttribute("hidden"), "icon");
  const keys = make("div", "keys");
  keys.hidden = true;
  for (const [key, meaning] of KEYS) keys.append(make("b", "", key), make("span", "", meaning));

  const said = make("div", "said", "Click on an object in the picture.");
  said.setAttribute("role", "status");
  const acts = {
    hide: button("Hide", "Hide: do not draw it (H)", () => send("hide")),
    isolate: button("Isolate", "Isolate: draw nothing else (I)", () => send("isolate")),
    name: button("Name", "Name: what is selected (N)", () => rename(state.selected[0])),
    export: button("Export", "Export: a PLY an object, in the folder exports of the run (X)", () => send("export")),
    showAll: button("Show all", "Show all: draw what is hidden again (U)", () => send("show all")),
    none: button("Select none", "Select none: (Esc)", () => send("change", "none")),
  };
  const search = make("input", "search");
  search.placeholder = "Search objects";
  search.setAttribute("aria-label", "Search objects");
  search.addEventListener("input", listAnew);
  const order = make("select", "order");
  order.title = "Order of the list";
  order.setAttribute("aria-label", "Order of the list");
  for (const name of ["size", "name", "id"]) order.append(new Option(`by ${name}`, name));
  order.addEventListener("change", listAnew);
  const refresh = button("List the objects", "List the objects: this method looks for them first, which takes a while", () => send("list"));
  refresh.hidden = true;
  const rows = make("div", "rows");
  rows.setAttribute("role", "listbox");

  const root = make(
    "div",
    "gseg",
    make("div", "line modes", ...Object.values(modes), make("i", ""), undo, redo, help),
    make("div", "line tools", ...Object.values(tools), make("i", ""), through, groups),
    keys,
    walk,
    said,
    make("div", "grid", ...Object.values(acts)),
    make("div", "line", search, order),
    refresh,
    rows,
    strip, // below, so that what is pointed at stays where it is when a tool has numbers
  );

  const style = document.createElement("style");
  style.textContent = `
    .gseg { padding: 0 8px 6px; font-size: 13px; width: 0; min-width: 100%; box-sizing: border-box; }
    .gseg .line.modes, .gseg .line.tools { gap: 3px; }
    .gseg .tools button.icon { width: 24px; padding: 2px; }
    .gseg button, .gseg input, .gseg select { font: inherit; color: inherit; border: 1px solid #8886; border-radius: 4px;
      background: #8881; height: 26px; padding: 0 6px; box-sizing: border-box; min-width: 0; }
    .gseg button { cursor: pointer; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
    .gseg button:hover { background: #8884; }
    .gseg button:disabled { opacity: 0.4; cursor: default; }
    .gseg button.on { background: #ffd369; color: #222; border-color: #ffd369; }
    .gseg button.icon { width: 28px; padding: 3px; flex: none; }
    .gseg svg { width: 100%; height: 100%; fill: none; stroke: currentColor; stroke-width: 1.8; display: block; }
    .gseg .line { display: flex; gap: 4px; margin-bottom: 5px; align-items: center; }
    .gseg .line i { flex: 1; }
    .gseg .modes button:not(.icon) { padding: 0 5px; flex: none; }
    .gseg .grid { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; margin-bottom: 5px; }
    .gseg .said { height: 34px; line-height: 17px; overflow: hidden; margin-bottom: 5px; font-size: 12px;
      overflow-wrap: anywhere; }
    .gseg .said.bad { color: #ff8b7b; }
    .gseg .search { flex: 1; }
    .gseg .keys { display: grid; grid-template-columns: auto 1fr; gap: 0 8px; font-size: 12px; margin-bottom: 5px; }
    .gseg .keys[hidden] { display: none; }
    .gseg .strip:not(:empty) { padding-top: 5px; }
    .gseg .strip .line { margin-bottom: 3px; }
    .gseg .strip label { font-size: 12px; opacity: 0.8; width: 62px; flex: none; overflow: hidden; white-space: nowrap; }
    .gseg .strip input[type="number"] { flex: 1; width: 0; padding: 0 4px; -moz-appearance: textfield; }
    .gseg .strip input[type="number"]::-webkit-inner-spin-button { display: none; }
    .gseg .strip input[type="range"] { width: 100%; height: 14px; padding: 0; margin: 0; border: 0; background: none;
      accent-color: #ffd369; }
    .gseg .strip .bars { height: 34px; display: flex; align-items: flex-end; gap: 1px; }
    .gseg .strip .bars i { flex: 1; background: #8888; min-height: 1px; }
    .gseg .strip .bars i.on { background: #ffd369; }
    .gseg .strip span { font-size: 12px; flex: 1; }
    .gseg .walk button { flex: 1; }
    .gseg [hidden] { display: none !important; }
    .gseg .rows { height: clamp(58px, calc(100vh - 574px - var(--strip, 0px)), 480px); overflow-y: auto; border: 1px solid #8884; border-radius: 4px;
      user-select: none; }
    .gseg .why { padding: 8px; opacity: 0.8; white-space: normal; }
    .gseg .row { display: flex; align-items: center; gap: 6px; height: 30px; padding: 0 4px; cursor: pointer;
      content-visibility: auto; contain-intrinsic-height: 30px; }
    .gseg .row:hover { background: #8883; }
    .gseg .row.on { background: #ffd36940; box-shadow: inset 3px 0 #ffd369; }
    .gseg .row.hidden .name, .gseg .row.hidden .picture { opacity: 0.4; }
    .gseg .row .picture { width: 26px; height: 26px; flex: none; border-radius: 3px; object-fit: cover; }
    .gseg .row button.tick { width: 18px; height: 18px; padding: 0; border: 1px solid #8888; line-height: 16px; }
    .gseg .row button.tick::before { content: "+"; opacity: 0.7; }
    .gseg .row.on button.tick::before { content: "✓"; opacity: 1; }
    .gseg .row .swatch { width: 8px; height: 26px; flex: none; border-radius: 2px; }
    .gseg .row .name { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .gseg .row input { flex: 1; }
    .gseg .row .count { opacity: 0.6; font-size: 11px; }
    .gseg .row button { border: 0; background: none; width: 22px; height: 22px; padding: 2px; flex: none; }`;

  // ------------------------------------------------------------------------------------------ numbers of the tool

  function tidy(value) {
    return String(Number(Number(value).toPrecision(4)));
  }

  function numeric(value, hint, act) {
    const element = make("input", "");
    element.type = "number";
    element.step = "any";
    element.value = tidy(value);
    element.title = hint;
    element.setAttribute("aria-label", hint);
    element.addEventListener("change", () => act(element));
    return element;
  }

  function line(label, ...children) {
    return make("div", "line", make("label", "", label), ...children);
  }

  const STRIPS = {
    tolerance: (place) => [
      line("Tolerance", numeric(place.tolerance, "Tolerance: 0 is the very color, 100 black and white", (e) => send("tolerance", Number(e.value)))),
    ],
    radius: (place, unit) => [
      line("Radius", numeric(place.radius, `Radius in ${unit}`, (e) => send("shape", Number(e.value))), unit,
        button("Select", "Select: what is in the sphere", () => send("apply", "select"))),
    ],
    edges: (place, unit) => {
      const fields = place.edges.map((edge, axis) =>
        numeric(edge, `Edge ${"xyz"[axis]} in ${unit}`, () => send("shape", ...fields.map((e) => Number(e.value)))));
      return [line("Edges", ...fields, unit, button("Select", "Select: what is in the box", () => send("apply", "select")))];
    },
    length: (place, unit) => {
      const metres = numeric(place.length, "Its true length in m", () => {});
      return [
        line("Length", make("span", "", `${tidy(place.length)} ${unit}`), "is", metres, "m",
          button("Set", "Set: all lengths are in metres then", () => send("length", Number(metres.value)))),
      ];
    },
    shift: (place, unit) => {
      const place_ = () => send("place", ...fields.map((e) => Number(e.value)));
      const fields = [
        ...place.shift.map((v, axis) => numeric(v, `Shift along ${"xyz"[axis]} in ${unit}`, place_)),
        ...place.turn.map((v, axis) => numeric(v, `Turn about ${"xyz"[axis]} in degrees`, place_)),
        numeric(place.size, "Size: factor", place_),
      ];
      return [
        line(`Shift, ${unit}`, ...fields.slice(0, 3)),
        line("Turn, °", ...fields.slice(3, 6)),
        line("Size ×", fields[6], button("Move", "Move: what is selected", () => send("apply", "move")),
          button("Copy", "Copy: a copy of what is selected, there", () => send("apply", "copy"))),
      ];
    },
    property: (place, unit) => {
      const log = place.property === "size";
      const at = (t) => log ? place.low * (place.high / place.low) ** t : place.low + t * (place.high - place.low);
      const most = Math.max(...place.counts, 1);
      const bars = place.counts.map((count) => {
        const bar = make("i", "");
        bar.style.height = `${100 * Math.sqrt(count / most)}%`;
        return bar;
      });
      const ends = [0, 1].map((end) => {
        const range = make("input", "");
        range.type = "range";
        range.max = bars.length;
        range.value = end * bars.length;
        range.setAttribute("aria-label", end ? "Largest" : "Smallest");
        range.addEventListener("input", () => shown());
        return range;
      });
      const said = make("span", "");
      const values = () => ends.map((e) => at(Number(e.value) / bars.length)).sort((a, b) => a - b);
      function shown() {
        const [low, high] = ends.map((e) => Number(e.value)).sort((a, b) => a - b);
        bars.forEach((bar, number) => bar.classList.toggle("on", number >= low && number < high));
        said.textContent = `${values().map((v) => Number(v.toPrecision(2))).join(" to ")}${log ? ` ${unit}` : ""}`;
      }
      const kind = make("select", "");
      kind.setAttribute("aria-label", "What the range is of");
      for (const name of ["size", "opacity"]) kind.append(new Option(name, name, false, name === place.property));
      kind.addEventListener("change", () => send("ranged", kind.value));
      shown();
      return [
        make("div", "bars", ...bars), ...ends,
        make("div", "line", kind, said, button("Select", "Select: what is in the range", () => {
          const [low, high] = values();
          // The ends are rounded; what lies at them is meant.
          send("range", low * (1 - 1e-6), high * (1 + 1e-6));
        })),
      ];
    },
  };

  function showStrip() {
    const place = state.place || {};
    const shows = JSON.stringify([state.tool, place, state.unit]);
    if (shows === stripShows) return;
    const active = document.activeElement;
    if (strip.contains(active) && active.type === "number") {
      // What is being typed stays; the other numbers follow when it is done.
      active.addEventListener("blur", () => setTimeout(showStrip), { once: true });
      return;
    }
    stripShows = shows;
    const kind = Object.keys(STRIPS).find((name) => name in place);
    strip.replaceChildren(...(kind ? STRIPS[kind](place, state.unit) : []));
  }

  // ----------------------------------------------------------------------------------------------------- the list

  function title(object) {
    return object.name || `Group ${object.id}`;
  }

  // In another order or of other objects, what was in sight is elsewhere: the list begins at its top.
  function listAnew() {
    rows.scrollTop = 0;
    list();
  }

  function list() {
    if (editing) return;
    const words = search.value.trim().toLowerCase();
    const shown = state.objects.filter((o) => !words || `${title(o)} ${o.id}`.toLowerCase().includes(words));
    if (order.value === "name") shown.sort((a, b) => title(a).localeCompare(title(b), undefined, { numeric: true }));
    if (order.value === "id") shown.sort((a, b) => a.id - b.id);
    if (!state.objects.length) kept.clear(); // what is listed next are others, under the same numbers
    const top = rows.scrollTop;
    const wanted = shown.map(row);
    if (!state.objects.length) wanted.push(make("div", "why", state.why || ""));
    else if (!shown.length) wanted.push(make("div", "why", "No object has such a name."));
    // Rows stay where they are: one that is replaced, or moved, while the mouse is down on it gets no click.
    const stay = new Set(wanted);
    for (const element of [...rows.children]) if (!stay.has(element)) element.remove();
    let at = rows.firstChild;
    for (const element of wanted) {
      if (element === at) at = at.nextSibling;
      else rows.insertBefore(element, at);
    }
    rows.scrollTop = top;
    mark(false);
  }

  function row(object) {
    if (!kept.has(object.id)) kept.set(object.id, newRow(object.id));
    const { element, parts } = kept.get(object.id);
    const called = title(object);
    parts.swatch.style.background = object.color;
    const picture = state.pictures[object.id] || "";
    if (parts.picture.getAttribute("src") !== picture) parts.picture.setAttribute("src", picture);
    parts.picture.style.visibility = picture ? "" : "hidden";
    if (parts.name.textContent !== called) parts.name.textContent = called;
    parts.count.textContent = object.count.toLocaleString("en");
    element.classList.toggle("hidden", object.hidden);
    element.title = `${called}: click selects, double click looks at it; draw over several`;
    hint(parts.tick, `Tick of ${called}: add it to what is selected, or take it away`);
    hint(parts.pencil, `Rename ${called}`);
    hint(parts.eye, `Eye of ${called}`);
    const eye = object.hidden ? "closed" : "eye";
    if (parts.eye.dataset.shows !== eye) parts.eye.replaceChildren(icon(eye));
    parts.eye.dataset.shows = eye;
    return element;
  }

  function newRow(id) {
    const parts = {
      // The viewer knows what is selected when this is its turn; here the answer to the press before may not have come.
      tick: button("", "", () => {
        anchor = id;
        send("pick", id, "toggle");
      }, "tick"),
      swatch: make("div", "swatch"),
      picture: make("img", "picture"),
      name: make("span", "name"),
      count: make("span", "count"),
      pencil: button(icon("pencil"), "", () => rename(id)),
      eye: button("", "", () => send("eye", id)),
    };
    parts.picture.alt = "";
    const element = make("div", "row", ...Object.values(parts));
    element.dataset.id = id;
    element.setAttribute("role", "option");
    element.addEventListener("click", (event) => {
      if (event.detail > 1) return;
      const ids = event.shiftKey ? between(anchor, id) : null;
      anchor = id;
      const mode = event.altKey ? "remove" : event.ctrlKey || event.metaKey || event.shiftKey ? "add" : state.mode;
      if (ids && ids.length > 1) send("picks", mode, ...ids);
      else send("pick", id, mode);
    });
    element.addEventListener("dblclick", (event) => {
      // Buttons that are pressed twice act twice, and that is all.
      if (!event.target.closest("button, input")) send("look", id);
    });
    element.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && !event.target.closest("button, input")) drawn = id;
    });
    element.addEventListener("pointerenter", () => {
      const ids = drawn === null ? null : between(drawn, id);
      if (ids && ids.length > 1) light(new Set(ids.map(String)));
    });
    element.addEventListener("pointerup", (event) => {
      const ids = drawn === null || drawn === id ? null : between(drawn, id);
      if (ids) send("picks", event.altKey ? "remove" : event.ctrlKey || event.metaKey || event.shiftKey ? "add" : state.mode, ...ids);
    });
    return { element, parts };
  }

  function between(one, other) {
    const ids = [...rows.children].map((child) => Number(child.dataset.id));
    const ends = [ids.indexOf(one), ids.indexOf(other)].sort((a, b) => a - b);
    return ends[0] < 0 ? null : ids.slice(ends[0], ends[1] + 1).slice(0, 300);
  }

  function isSeen(element) {
    // Its middle: where it ends is rounded, and may come out below the list by a pixel.
    const middle = element.offsetTop + element.offsetHeight / 2 - rows.offsetTop - rows.scrollTop;
    return middle >= 0 && middle <= rows.clientHeight;
  }

  function follow(element) {
    // Not `scrollIntoView`, which scrolls the panel, too.
    const top = element.offsetTop - rows.offsetTop;
    if (top < rows.scrollTop) rows.scrollTop = top;
    else if (top + element.offsetHeight > rows.scrollTop + rows.clientHeight)
      rows.scrollTop = top + element.offsetHeight - rows.clientHeight;
  }

  function rename(id) {
    const element = [...rows.children].find((child) => child.dataset.id === String(id));
    if (!element) return said.replaceChildren("Select one object first, or press the pencil of one in the list.");
    const object = state.objects.find((one) => one.id === id);
    const text = make("input", "");
    text.value = object.name;
    text.maxLength = 64;
    text.placeholder = title(object);
    text.setAttribute("aria-label", "Name of the object");
    editing = text;
    const name = element.querySelector(".name");
    name.replaceWith(text);
    follow(element);
    text.focus({ preventScroll: true });
    text.select();
    text.addEventListener("click", (event) => event.stopPropagation());
    const done = (keep) => {
      if (editing !== text) return;
      editing = null;
      text.replaceWith(name);
      if (keep && text.value.trim() !== object.name) send("name", id, text.value);
      list();
    };
    text.addEventListener("blur", () => done(true));
    text.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") done(false);
    });
  }

  function mark(scroll) {
    const first = light(new Set(state.selected.map(String)));
    if (scroll && first) follow(first);
  }

  function light(chosen) {
    let first = null;
    for (const element of rows.children) {
      const on = chosen.has(element.dataset.id);
      element.classList.toggle("on", on);
      element.setAttribute("aria-selected", on);
      if (on && !first) first = element;
    }
    return first;
  }

  function letDrawn() {
    if (drawn !== null) mark(false);
    drawn = null;
  }

  function show() {
    for (const [name, element] of Object.entries(modes)) element.classList.toggle("on", (held || state.mode) === name);
    for (const [name, element] of Object.entries(tools)) element.classList.toggle("on", state.tool === name);
    showStrip();
    walk.hidden = !state.walks;
    // The list gives what these take; what is selected stays in sight.
    const first = rows.querySelector(".on");
    const wasSeen = first && isSeen(first);
    root.style.setProperty("--strip", `${strip.offsetHeight + (walk.hidden ? 0 : walk.offsetHeight + 5)}px`);
    if (wasSeen) follow(first);
    [narrower.disabled, wider.disabled] = state.walks ? state.walks.map((more) => !more) : [true, true];
    groups.classList.toggle("on", Boolean(state.groups));
    through.classList.toggle("on", Boolean(state.through));
    through.disabled = typeof state.through !== "boolean"; // tools to which it says nothing
    const called = state.called || "nothing";
    const some = called !== "nothing";
    for (const name of ["hide", "isolate", "export"]) {
      const verb = name[0].toUpperCase() + name.slice(1);
      acts[name].textContent = some ? `${verb} ${called}` : verb;
      acts[name].disabled = !some;
    }
    acts.name.disabled = state.selected.length !== 1;
    acts.name.textContent = acts.name.disabled ? "Name" : `Name ${called}`;
    acts.none.disabled = !some;
    acts.showAll.disabled = !state.objects.some((object) => object.hidden) && !state.hides;
    undo.disabled = !state.steps[0];
    redo.disabled = !state.steps[1];
    undo.title = state.steps[0] ? `Undo: ${state.steps[0]} (Ctrl+Z)` : "Undo: nothing";
    redo.title = state.steps[1] ? `Redo: ${state.steps[1]} (Ctrl+Y)` : "Redo: nothing";
    refresh.hidden = state.listed !== false;
    said.textContent = state.said || "Click on an object in the picture.";
    said.title = said.textContent;
    said.classList.toggle("bad", state.well === false);
  }

  function take() {
    const patches = window.gsegLater || [];
    window.gsegLater = [];
    let relist = false;
    let remark = false;
    for (const [number, told] of patches) {
      // They may come in another order than the viewer told them in.
      const patch = Object.fromEntries(Object.entries(told).filter(([name]) => number > (newest.get(name) ?? 0)));
      for (const name of Object.keys(patch)) newest.set(name, number);
      // What is listed next are others, under the same numbers: a name that is being typed is for none of them.
      if (patch.objects && !patch.objects.length) editing = null;
      relist = relist || "objects" in patch || "pictures" in patch || "why" in patch;
      remark = remark || "selected" in patch;
      Object.assign(state, patch);
    }
    if (relist) list();
    if (relist || remark) mark(remark);
    show();
  }

  // ------------------------------------------------------------------------------------------- modifiers and keys

  function setMode(mode) {
    state.mode = mode;
    send("mode", mode);
    show();
  }

  function modeOf(event) {
    return event.shiftKey ? "add" : event.altKey || event.ctrlKey || event.metaKey ? "remove" : null;
  }

  function hold(mode) {
    clearTimeout(letting);
    if (mode === held) return;
    held = mode;
    send("held", mode);
    show();
  }

  function shifted(event) {
    if (!open || !["Shift", "Alt", "Control", "Meta"].includes(event.key)) return;
    if (modeOf(event)) hold(modeOf(event));
    else letting = setTimeout(() => hold(null), 200); // a click just before is on its way
  }

  function letGo() {
    hold(null);
  }

  function pressed(event) {
    down = null;
    if (!(event.target instanceof HTMLCanvasElement) || event.button !== 0) return;
    watch(); // a tab that was opened just now
    if (!open) return;
    hold(modeOf(event));
    down = { x: event.clientX, y: event.clientY };
  }

  // A drag moves the camera: viser counts as it does here.
  function moved(event) {
    if (down && Math.max(Math.abs(event.clientX - down.x), Math.abs(event.clientY - down.y)) > 3) down = null;
  }

  // viser says what is clicked on the picture; here is said where that was, after all that was chosen before.
  function released(event) {
    if (!down || !(event.target instanceof HTMLCanvasElement)) return;
    down = null;
    const box = event.target.getBoundingClientRect();
    send(
      "at",
      (event.clientX - box.left + 0.5) / event.target.clientWidth,
      (event.clientY - box.top + 0.5) / event.target.clientHeight,
    );
  }

  function key(event) {
    const writes = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName || "") || event.target.isContentEditable;
    if (!open || writes) return;
    const letter = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    const act = command
      ? { z: () => send(event.shiftKey ? "redo" : "undo"), y: () => send("redo") }[letter]
      : event.altKey
        ? undefined
        : {
            1: () => setMode("set"),
            2: () => setMode("add"),
            3: () => setMode("remove"),
            4: () => setMode("intersect"),
            h: () => send("hide"),
            i: () => send("isolate"),
            u: () => send("show all"),
            n: () => rename(state.selected[0]),
            x: () => send("export"),
            f: () => send("look", state.selected.length === 1 ? state.selected[0] : null),
            g: () => send("groups"),
            "[": () => send("walk", -1),
            "]": () => send("walk", 1),
            delete: () => send("remove"),
            escape: () => send("change", "none"),
          }[letter];
    if (!act || event.repeat) return;
    event.preventDefault();
    act();
  }

  // --------------------------------------------------------------------------------------------------- the picture

  // Where a page is drawn fewer than 38 times a second, viser takes ever fewer pixels, down to a fifth of the window's
  // a side, and mostly stays there: by its measure the machine is slow for good. The finest picture was lost on that.
  // As many pixels as the picture has are kept.
  function keepSharp() {
    const picture = viser?.backgroundMaterialRef?.current?.uniforms.colorMap.value?.image;
    const store = viser?.sceneRef?.current?.children.map((one) => one.__r3f?.root).find(Boolean);
    if (!picture || !store) return;
    tallest = Math.max(tallest, picture.height);
    const { setDpr, size, viewport } = store.getState();
    const needed = () => Math.min(window.devicePixelRatio, tallest / store.getState().size.height);
    if (!setDpr.keepsSharp) {
      const atLeast = (ratio) => setDpr(typeof ratio === "number" ? Math.max(ratio, needed()) : ratio);
      store.setState({ setDpr: Object.assign(atLeast, { keepsSharp: true }) });
    }
    if (size.height && viewport.dpr < 0.999 * needed()) store.getState().setDpr(needed());
  }

  // ------------------------------------------------------------------------------------------------------ its life

  function watch() {
    keepSharp();
    keepTyped();
    const found = input();
    if (found && root.parentElement !== found.box.parentElement) {
      found.box.style.display = "none";
      found.box.after(root);
      write();
    }
    const now = root.offsetParent !== null;
    if (found && now !== open) {
      open = now;
      send("open", open);
    }
  }

  document.head.append(style);
  document.addEventListener("pointerdown", pressed, true);
  document.addEventListener("pointermove", moved, true);
  document.addEventListener("pointerup", released, true);
  document.addEventListener("pointerup", letDrawn);
  document.addEventListener("keydown", key);
  document.addEventListener("keydown", shifted, true);
  document.addEventListener("keyup", shifted, true);
  window.addEventListener("blur", letGo);
  // viser moves the camera with letters and arrows; those typed into a field are not for it.
  root.addEventListener("keydown", (event) => /^(INPUT|SELECT)$/.test(event.target.tagName) && event.stopPropagation());
  const timer = setInterval(watch, 100);
  window.gsegTab = {
    take,
    end() {
      clearInterval(timer);
      document.removeEventListener("pointerdown", pressed, true);
      document.removeEventListener("pointermove", moved, true);
      document.removeEventListener("pointerup", released, true);
      document.removeEventListener("pointerup", letDrawn);
      document.removeEventListener("keydown", key);
      document.removeEventListener("keydown", shifted, true);
      document.removeEventListener("keyup", shifted, true);
      window.removeEventListener("blur", letGo);
      root.remove();
      style.remove();
    },
  };
  watch();
  take();
})
