// What both pages do with hands: buttons and keys, the pointer on the picture, light and dark.
import { byId, isTyping } from "./panel.js";

/**
 * @typedef {object} Command
 * @property {() => unknown} run
 * @property {string[]} [keys]
 * @property {boolean} [needsObject] whether something must be selected
 * @property {() => boolean} [isOn]
 * @property {() => boolean} [can]
 */

/** Pixels that a pointer may wander between down and up and still click. */
const STILL = 4;

/** Milliseconds of a pick above which objects are looked up now and then only while the pointer moves. */
const SLOW_PICK = 30;

const BACKGROUNDS = { light: 0xf3f4f6, dark: 0x1d2127 };

/**
 * Let buttons and keys do what can be done.
 *
 * @param {Record<string, Command>} commands
 * @param {() => boolean} hasObject whether something is selected
 * @returns {() => void} shows which of them can be done now
 */
export function handle(commands, hasObject) {
  const help = byId("help", HTMLDialogElement);
  const can = (/** @type {Command} */ command) => (!command.needsObject || hasObject()) && (!command.can || command.can());
  const buttons = [...document.querySelectorAll("button[data-command]")].map((node) => {
    const button = /** @type {HTMLButtonElement} */ (node);
    return { button, command: commands[button.dataset.command ?? ""] };
  });
  function show() {
    for (const { button, command } of buttons) {
      button.disabled = !can(command);
      if (command.isOn) button.setAttribute("aria-pressed", String(command.isOn()));
    }
  }
  for (const { button, command } of buttons) {
    button.addEventListener("click", () => {
      command.run();
      show();
    });
  }
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || help.open) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const pressed = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey ? "Shift+" : ""}${key}`;
    const command = Object.values(commands).find(({ keys }) => keys?.includes(pressed));
    if (!command || !can(command)) return;
    event.preventDefault();
    command.run();
    show();
  });
  byId("fold", HTMLButtonElement).addEventListener("click", () => document.body.classList.toggle("folded"));
  return show;
}

/**
 * What both pages can do with their picture.
 *
 * @param {import("./stage.js").Stage} stage
 * @param {() => void} home goes to the view of the beginning
 * @returns {Record<string, Command>}
 */
export function commandsOf(stage, home) {
  return {
    turntable: { run: () => stage.turntable(!stage.orbit.autoRotate), keys: ["t"], isOn: () => stage.orbit.autoRotate },
    home: { run: home, keys: ["Home"] },
    picture: {
      run: () => {
        const anchor = document.createElement("a");
        anchor.download = "picture.png";
        anchor.href = stage.picture();
        anchor.click();
      },
      keys: ["p"],
    },
    help: { run: () => byId("help", HTMLDialogElement).showModal(), keys: ["?", "Shift+?"] },
  };
}

/**
 * Clicks on the picture, and what is under the pointer.
 *
 * @param {import("./stage.js").Stage} stage
 * @param {object} page
 * @param {(x: number, y: number) => import("./picker.js").Hit | null} page.look at a pixel of the canvas
 * @param {(x: number, y: number, event: MouseEvent) => void} page.click
 * @param {(row: number | null) => void} page.hover is told which object is under the pointer
 * @param {(row: number) => string} page.nameOf an object
 * @param {() => boolean} page.isHeld whether a gizmo has the pointer
 * @param {() => void} page.pressed is told that something may have stopped
 * @returns {(x: number, y: number) => import("./picker.js").Hit | null} what is at a pixel of the canvas
 */
export function point(stage, page) {
  const { canvas } = stage;
  const label = byId("label", HTMLElement);
  let pickMs = 0;
  /** @param {number} x @param {number} y */
  function pick(x, y) {
    const start = performance.now();
    const hit = page.look(x, y);
    pickMs = performance.now() - start;
    return hit;
  }
  const placeIn = (/** @type {MouseEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return /** @type {const} */ ([event.clientX - box.left, event.clientY - box.top]);
  };
  let down = /** @type {readonly [number, number] | null} */ (null);
  canvas.addEventListener("pointerdown", (event) => {
    down = event.isPrimary && event.button === 0 && !page.isHeld() ? placeIn(event) : null;
    if (stage.orbit.autoRotate) stage.turntable(false);
    page.pressed();
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = placeIn(event);
    if (!down || Math.hypot(x - down[0], y - down[1]) > STILL || page.isHeld()) return;
    down = null;
    page.click(x, y, event);
  });
  canvas.addEventListener("dblclick", (event) => {
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
    const row = page.isHeld() ? 0 : (pick(x, y)?.row ?? 0);
    page.hover(row || null);
    label.hidden = !row;
    label.textContent = row ? page.nameOf(row) : "";
    label.style.transform = `translate(${x + 14}px, ${y + 14}px)`;
    canvas.style.cursor = row ? "pointer" : "";
  }
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || event.buttons) return;
    pointer = placeIn(event);
    if (looking) return;
    looking = true;
    if (pickMs > SLOW_PICK) setTimeout(lookUnderPointer, 4 * pickMs);
    else requestAnimationFrame(lookUnderPointer);
  });
  canvas.addEventListener("pointerleave", () => {
    pointer = null;
    label.hidden = true;
    page.hover(null);
  });
  return pick;
}

/**
 * The color behind the scene follows the browser's.
 *
 * @param {import("./stage.js").Stage} stage
 */
export function followTheme(stage) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => stage.setBackground(dark.matches ? BACKGROUNDS.dark : BACKGROUNDS.light);
  dark.addEventListener("change", follow);
  follow();
}

/**
 * Let somebody take an address along.
 *
 * @param {string} address
 * @param {(text: string) => void} say
 * @param {() => void} show puts it where addresses are, as there is nowhere else
 */
export function copyLink(address, say, show) {
  const shown = () => {
    show();
    say("The address above leads to this view with these objects");
  };
  if (!navigator.clipboard) {
    shown();
    return;
  }
  navigator.clipboard.writeText(address).then(() => say("The link is copied: it opens this view with these objects"), shown);
}
