// What the page uses of others. Whatever is not named here is not in the bundle.
export {
  BufferGeometry,
  Color,
  DataTexture,
  FloatType,
  LineBasicMaterial,
  LineSegments,
  Matrix4,
  Object3D,
  PerspectiveCamera,
  Quaternion,
  Raycaster,
  RedIntegerFormat,
  RGBAFormat,
  Scene,
  UnsignedShortType,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export { TransformControls } from "three/addons/controls/TransformControls.js";
export { dyno, SparkRenderer, SplatFileType, SplatMesh } from "@sparkjsdev/spark";
