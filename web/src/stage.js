// The picture: camera, renderer, and drawing when there is something new to draw, and only then.
import {
  Color,
  Matrix4,
  OrbitControls,
  PerspectiveCamera,
  Raycaster,
  Scene,
  SparkRenderer,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "./vendor.js";
import { AS_TRAINED, blurOf, limitStretching } from "./shading.js";

/** What renderers of splats take for the near plane. */
const NEAR = 0.01;

/** Screens with more pixels than this for one of the page's are drawn as if they had as many. */
const FINEST = 2;

const FLIGHT_MS = 450;

/** Seconds for a turn of the turntable. */
const TURN_SECONDS = 40;

export class Stage {
  /** @type {number | null} */
  #asked = null;
  /** @type {{from: [Vector3, Vector3], to: [Vector3, Vector3], start: number, ms: number} | null} */
  #flight = null;
  #caster = new Raycaster();

  /**
   * @param {HTMLElement} host
   * @param {import("./meta.js").Meta} meta
   */
  constructor(host, meta) {
    this.host = host;
    this.renderer = new WebGLRenderer({ antialias: false });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, FINEST));
    this.canvas = this.renderer.domElement;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "Picture of the scene");
    host.prepend(this.canvas);
    this.scene = new Scene();
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      onDirty: () => this.draw(),
      sortRadial: false,
      accumExtSplats: true,
      ...AS_TRAINED,
      ...blurOf(meta.mode),
    });
    limitStretching(this.spark);
    this.scene.add(this.spark);
    this.camera = new PerspectiveCamera(meta.view.fov, 1, NEAR, 1e4);
    this.camera.position.fromArray(meta.view.eye);
    this.orbit = new OrbitControls(this.camera, this.canvas);
    this.orbit.target.fromArray(meta.view.target);
    this.orbit.zoomToCursor = true;
    this.orbit.autoRotateSpeed = 60 / TURN_SECONDS;
    this.orbit.listenToKeyEvents(this.canvas);
    this.orbit.addEventListener("change", () => this.draw());
    this.orbit.update();
    this.canvas.addEventListener("pointerdown", () => {
      this.#flight = null;
    });
    new ResizeObserver(() => this.#resize()).observe(host);
    this.#resize();
  }

  /** @param {number} color 0xrrggbb */
  setBackground(color) {
    this.scene.background = new Color(color);
    this.draw();
  }

  /** Draw soon: once, however often this is called before. */
  draw() {
    this.#asked ??= requestAnimationFrame((now) => {
      this.#asked = null;
      this.#step(now);
      this.renderer.render(this.scene, this.camera);
      if (this.#flight || this.orbit.autoRotate) this.draw();
    });
  }

  /** Whether the picture is what it will be: nothing moves, and splats are in the order of this view. */
  get isSettled() {
    return this.#asked === null && !this.#flight && !this.spark.sorting && !this.spark.sortDirty;
  }

  /** What is shown now, as the address of a picture. */
  picture() {
    // The picture is gone as soon as the browser has put it on the screen, so it is drawn once more.
    this.renderer.render(this.scene, this.camera);
    return this.canvas.toDataURL("image/png");
  }

  /** @param {boolean} on */
  turntable(on) {
    this.orbit.autoRotate = on;
    this.draw();
  }

  /**
   * Go somewhere else.
   *
   * @param {Vector3} eye
   * @param {Vector3} target
   * @param {number} [ms]
   */
  fly(eye, target, ms = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : FLIGHT_MS) {
    const from = /** @type {[Vector3, Vector3]} */ ([this.camera.position.clone(), this.orbit.target.clone()]);
    this.#flight = { from, to: [eye.clone(), target.clone()], start: performance.now(), ms };
    if (ms <= 0) this.#step(performance.now());
    this.draw();
  }

  /**
   * Go where a ball fills most of the picture, looking the way the camera looks now. From inside the ball, as from a room
   * at its walls, it is only looked at: outside, they would be before everything else.
   *
   * @param {Vector3} centre
   * @param {number} radius
   */
  flyTo(centre, radius) {
    const half = (this.camera.fov * Math.PI) / 360;
    const narrow = Math.min(half, Math.atan(Math.tan(half) * this.camera.aspect));
    if (this.camera.position.distanceTo(centre) < radius) {
      this.fly(this.camera.position, centre);
      return;
    }
    const back = this.camera.position.clone().sub(this.orbit.target).normalize();
    this.fly(back.multiplyScalar(Math.max(radius / Math.sin(narrow), 4 * NEAR) * 1.15).add(centre), centre);
  }

  /** @param {number} now */
  #step(now) {
    if (this.#flight) {
      const { from, to, start, ms } = this.#flight;
      const t = ms > 0 ? Math.min(1, Math.max(0, (now - start) / ms)) : 1;
      const smooth = t * t * (3 - 2 * t);
      this.camera.position.lerpVectors(from[0], to[0], smooth);
      this.orbit.target.lerpVectors(from[1], to[1], smooth);
      if (t === 1) this.#flight = null;
    }
    this.orbit.update();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  /**
   * The ray through a place of the picture.
   *
   * @param {number} x from the left of the canvas, in pixels of the page
   * @param {number} y from its top
   */
  ray(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.camera.updateMatrixWorld();
    this.#caster.setFromCamera(new Vector2((x / width) * 2 - 1, 1 - (y / height) * 2), this.camera);
    return this.#caster.ray;
  }

  /** From the scene to pixels of the page: x and y times the third, which is below 0 behind the camera. */
  projection() {
    this.camera.updateMatrixWorld();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return new Matrix4()
      .set(width / 2, 0, 0, width / 2, 0, -height / 2, 0, height / 2, 0, 0, 0, 1, 0, 0, 0, 1)
      .multiply(this.camera.projectionMatrix)
      .multiply(this.camera.matrixWorldInverse);
  }
}
