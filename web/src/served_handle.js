// What is held in the picture: a gizmo with the outline of what is moved, or of a shape that is placed; and a line.
import { BufferGeometry, LineBasicMaterial, LineSegments, Object3D, Quaternion, TransformControls, Vector3 } from "./vendor.js";

/** @typedef {"translate" | "rotate" | "scale"} Grip */

const COLOR = 0xffd369;

export class Handle {
  #object = new Object3D();
  /** @type {LineSegments | null} */
  #outline = null;
  /** @type {LineSegments | null} */
  #line = null;

  /**
   * @param {import("./stage.js").Stage} stage
   * @param {() => void} moved while it is dragged
   * @param {() => void} done when it is let go
   */
  constructor(stage, moved, done) {
    this.stage = stage;
    this.centre = new Vector3();
    this.controls = new TransformControls(stage.camera, stage.canvas);
    stage.scene.add(this.#object, this.controls.getHelper());
    this.controls.addEventListener("change", () => stage.draw());
    this.controls.addEventListener("objectChange", () => {
      // One factor for all axes.
      const { scale } = this.#object;
      const factor = [scale.x, scale.y, scale.z].reduce((a, b) => (Math.abs(Math.log(Math.abs(b))) > Math.abs(Math.log(Math.abs(a))) ? b : a));
      scale.setScalar(Math.max(0.01, Math.abs(factor)));
      moved();
    });
    this.controls.addEventListener("dragging-changed", ({ value }) => {
      stage.orbit.enabled = !value;
      if (!value) done();
    });
  }

  /** Whether the pointer is on it. */
  get isHeld() {
    return this.controls.dragging || this.controls.axis !== null;
  }

  get isThere() {
    return Boolean(this.controls.object);
  }

  get position() {
    return this.#object.position;
  }

  get quaternion() {
    return this.#object.quaternion;
  }

  get factor() {
    return this.#object.scale.x;
  }

  /**
   * @param {Grip} grip
   * @param {readonly number[]} centre
   */
  put(grip, centre) {
    this.centre.fromArray(centre);
    this.#object.position.copy(this.centre);
    this.#object.quaternion.identity();
    this.#object.scale.setScalar(1);
    this.controls.setMode(grip);
    this.controls.attach(this.#object);
    this.stage.draw();
  }

  /** @param {Grip} grip */
  grip(grip) {
    this.controls.setMode(grip);
    this.stage.draw();
  }

  /**
   * @param {Vector3} shift from where it was put
   * @param {Quaternion} turn
   * @param {number} factor
   */
  set(shift, turn, factor) {
    this.#object.position.copy(this.centre).add(shift);
    this.#object.quaternion.copy(turn);
    this.#object.scale.setScalar(factor);
    this.stage.draw();
  }

  take() {
    this.controls.detach();
    this.outline([]);
    this.stage.draw();
  }

  /** The motion from where it was put: p -> turn p + shift. @returns {import("./state.js").Pose} */
  get pose() {
    const { x, y, z, w } = this.quaternion;
    const shift = this.position.clone().sub(this.centre.clone().applyQuaternion(this.quaternion));
    return { turn: [x, y, z, w], shift: [shift.x, shift.y, shift.z] };
  }

  /**
   * Lines around it that go where it goes.
   *
   * @param {Vector3[]} ends two a line
   */
  outline(ends) {
    drop(this.#outline);
    this.#outline = ends.length ? lines(ends) : null;
    if (this.#outline) this.#object.add(this.#outline);
    this.stage.draw();
  }

  /**
   * A line in the scene.
   *
   * @param {readonly (readonly number[])[]} ends two, or none
   */
  line(ends) {
    drop(this.#line);
    this.#line = ends.length === 2 ? lines(ends.map(([x, y, z]) => new Vector3(x, y, z))) : null;
    if (this.#line) this.stage.scene.add(this.#line);
    this.stage.draw();
  }
}

/** @param {LineSegments | null} found */
function drop(found) {
  found?.removeFromParent();
  found?.geometry.dispose();
  /** @type {LineBasicMaterial | undefined} */ (found?.material)?.dispose();
}

/** @param {Vector3[]} ends */
function lines(ends) {
  const material = new LineBasicMaterial({ color: COLOR, depthTest: false, transparent: true });
  const found = new LineSegments(new BufferGeometry().setFromPoints(ends), material);
  found.renderOrder = 2;
  return found;
}

/**
 * @param {readonly number[]} edges
 * @param {readonly number[]} [offset] of the middle
 */
export function boxLines(edges, offset = [0, 0, 0]) {
  const ends = [];
  for (let axis = 0; axis < 3; axis++) {
    for (const [a, b] of [[-1, -1], [-1, 1], [1, -1], [1, 1]]) {
      for (const end of [-1, 1]) {
        const at = [0, 0, 0];
        at[axis] = (end * edges[axis]) / 2 + offset[axis];
        at[(axis + 1) % 3] = (a * edges[(axis + 1) % 3]) / 2 + offset[(axis + 1) % 3];
        at[(axis + 2) % 3] = (b * edges[(axis + 2) % 3]) / 2 + offset[(axis + 2) % 3];
        ends.push(new Vector3(...at));
      }
    }
  }
  return ends;
}

/** @param {number} radius */
export function sphereLines(radius) {
  const ends = [];
  const steps = 48;
  for (let axis = 0; axis < 3; axis++) {
    for (let s = 0; s < steps; s++) {
      for (const t of [s, s + 1]) {
        const at = [0, 0, 0];
        at[(axis + 1) % 3] = radius * Math.cos((2 * Math.PI * t) / steps);
        at[(axis + 2) % 3] = radius * Math.sin((2 * Math.PI * t) / steps);
        ends.push(new Vector3(...at));
      }
    }
  }
  return ends;
}

/** Rotation about x, then y, then z, in degrees. @param {readonly number[]} degrees */
export function quaternionOf([x, y, z]) {
  const about = (/** @type {[number, number, number]} */ axis, /** @type {number} */ angle) =>
    new Quaternion().setFromAxisAngle(new Vector3(...axis), (angle * Math.PI) / 180);
  return about([0, 0, 1], z).multiply(about([0, 1, 0], y)).multiply(about([1, 0, 0], x));
}
