// Moving objects with a gizmo: several at once go as one body.
import { Object3D, Quaternion, TransformControls, Vector3 } from "./vendor.js";

/** @typedef {import("./state.js").Pose} Pose */

export class Mover {
  /** @type {Map<number, Pose>} */
  #before = new Map();
  /** @type {Map<number, Pose>} */
  #now = new Map();
  #handle = new Object3D();
  #start = { turn: new Quaternion(), place: new Vector3() };

  /**
   * @param {import("./stage.js").Stage} stage
   * @param {(poses: ReadonlyMap<number, Pose>) => void} preview while it is dragged
   * @param {(poses: ReadonlyMap<number, Pose>) => void} done when it is let go
   */
  constructor(stage, preview, done) {
    this.controls = new TransformControls(stage.camera, stage.canvas);
    stage.scene.add(this.#handle, this.controls.getHelper());
    this.controls.addEventListener("change", () => stage.draw());
    this.controls.addEventListener("objectChange", () => {
      this.#now = this.#moved();
      preview(this.#now);
    });
    this.controls.addEventListener("dragging-changed", ({ value }) => {
      stage.orbit.enabled = !value;
      if (value || !this.#now.size) return;
      const poses = this.#now;
      this.#now = new Map();
      done(poses);
    });
  }

  /** Whether the pointer is on the gizmo. */
  get isHeld() {
    return this.controls.dragging || this.controls.axis !== null;
  }

  /** @returns {"translate" | "rotate" | null} null: there is no gizmo */
  get mode() {
    return this.controls.object ? /** @type {"translate" | "rotate"} */ (this.controls.mode) : null;
  }

  /**
   * @param {"translate" | "rotate"} mode
   * @param {Vector3} centre where the objects are now
   * @param {Map<number, Pose>} poses which they have now
   */
  attach(mode, centre, poses) {
    this.#before = poses;
    this.#now = new Map();
    this.#handle.position.copy(centre);
    this.#handle.quaternion.identity();
    this.#start = { turn: new Quaternion(), place: centre.clone() };
    this.controls.setMode(mode);
    this.controls.attach(this.#handle);
  }

  detach() {
    this.controls.detach();
  }

  /** @returns {Map<number, Pose>} */
  #moved() {
    const turn = this.#handle.quaternion.clone().multiply(this.#start.turn.clone().invert());
    const shift = this.#handle.position.clone().sub(this.#start.place.clone().applyQuaternion(turn));
    return new Map([...this.#before].map(([row, pose]) => [row, then(pose, turn, shift)]));
  }
}

/**
 * A pose, and then a motion.
 *
 * @param {Pose} pose
 * @param {Quaternion} turn
 * @param {Vector3} shift
 * @returns {Pose}
 */
export function then(pose, turn, shift) {
  const [x, y, z, w] = turn.clone().multiply(new Quaternion(...pose.turn)).normalize().toArray();
  const place = new Vector3(...pose.shift).applyQuaternion(turn).add(shift);
  return { turn: [x, y, z, w], shift: [place.x, place.y, place.z] };
}

/**
 * Where a point of an object is now.
 *
 * @param {readonly [number, number, number]} point
 * @param {Pose | undefined} pose
 */
export function placed(point, pose) {
  const v = new Vector3(...point);
  return pose ? v.applyQuaternion(new Quaternion(...pose.turn)).add(new Vector3(...pose.shift)) : v;
}
