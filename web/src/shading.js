// Splats as the table says: tinted, moved, hidden. A moved object is looked at from where its splats still are, so that
// its view-dependent colors turn with it.
import { ACROSS, BESIDE, TEXELS } from "./table.js";
import { dyno } from "./vendor.js";

const FUNCTIONS = `
  vec3 gsegTurn(vec4 q, vec3 v) { return v + 2.0 * cross(q.xyz, cross(q.xyz, v) + q.w * v); }
  vec4 gsegProduct(vec4 a, vec4 b) {
    return vec4(a.w * b.xyz + b.w * a.xyz + cross(a.xyz, b.xyz), a.w * b.w - dot(a.xyz, b.xyz));
  }
  int gsegRow(usampler2D rows, int index) {
    return int(texelFetch(rows, ivec2(index % ${ACROSS}, index / ${ACROSS}), 0).r);
  }
  vec4 gsegTexel(sampler2D table, int row, int texel) {
    return texelFetch(table, ivec2((row % ${BESIDE}) * ${TEXELS} + texel, row / ${BESIDE}), 0);
  }`;

/**
 * @param {import("@sparkjsdev/spark").SplatMesh} mesh which has loaded, and was not drawn yet
 * @param {import("three").DataTexture} rows
 * @param {import("three").DataTexture} table
 */
export function drawByTable(mesh, rows, table) {
  const source = mesh.extSplats;
  if (!source) throw new Error("These splats are not in the extended encoding");
  const inputs = {
    rows: new dyno.DynoUsampler2D({ key: "gsegRows", value: rows }),
    table: new dyno.DynoSampler2D({ key: "gsegTable", value: table }),
  };
  const fetch = source.fetchSplat.bind(source);
  source.fetchSplat = ({ index, viewOrigin }) => {
    const eye = viewOrigin && carriedBack({ ...inputs, index, eye: viewOrigin });
    return asTheTableSays({ ...inputs, index, gsplat: fetch({ index, viewOrigin: eye }) });
  };
}

/**
 * Where the eye is for who stayed where the splats are stored.
 *
 * @param {Record<string, any>} inputs
 * @returns {any}
 */
function carriedBack(inputs) {
  return new dyno.Dyno({
    inTypes: { rows: "usampler2D", table: "sampler2D", index: "int", eye: "vec3" },
    outTypes: { eye: "vec3" },
    inputs,
    globals: () => [dyno.unindent(FUNCTIONS)],
    statements: ({ inputs: i, outputs: o }) =>
      dyno.unindentLines(`
        int gsegEyeRow = gsegRow(${i.rows}, ${i.index});
        vec4 gsegEyeTurn = gsegTexel(${i.table}, gsegEyeRow, 1);
        vec3 gsegEyeShift = gsegTexel(${i.table}, gsegEyeRow, 2).xyz;
        ${o.eye} = gsegTurn(vec4(-gsegEyeTurn.xyz, gsegEyeTurn.w), ${i.eye} - gsegEyeShift);`),
  }).outputs.eye;
}

/**
 * @param {Record<string, any>} inputs
 * @returns {any}
 */
function asTheTableSays(inputs) {
  return new dyno.Dyno({
    inTypes: { rows: "usampler2D", table: "sampler2D", index: "int", gsplat: dyno.Gsplat },
    outTypes: { gsplat: dyno.Gsplat },
    inputs,
    globals: () => [dyno.unindent(FUNCTIONS)],
    statements: ({ inputs: i, outputs: o }) =>
      dyno.unindentLines(`
        ${o.gsplat} = ${i.gsplat};
        int gsegOf = gsegRow(${i.rows}, ${i.index});
        vec4 gsegTint = gsegTexel(${i.table}, gsegOf, 0);
        vec4 gsegTurned = gsegTexel(${i.table}, gsegOf, 1);
        vec4 gsegShifted = gsegTexel(${i.table}, gsegOf, 2);
        ${o.gsplat}.rgba.rgb = mix(${i.gsplat}.rgba.rgb, gsegTint.rgb, gsegTint.a);
        ${o.gsplat}.center = gsegTurn(gsegTurned, ${i.gsplat}.center) + gsegShifted.xyz;
        ${o.gsplat}.quaternion = gsegProduct(gsegTurned, ${i.gsplat}.quaternion);
        if (gsegShifted.w < 0.5) ${o.gsplat}.flags = 0u;`),
  }).outputs.gsplat;
}

// Where Spark and the renderers that splats are trained with differ, theirs is taken: splats as large as the picture are
// not cut off, their tails are drawn until an eighth bit cannot show them, and those beside the picture are stretched no
// further than at 1.3 times its half width, and are not left out.
export const AS_TRAINED = { maxStdDev: Math.sqrt(2 * Math.log(255)), maxPixelRadius: 1e4, clipXY: 1e3, minAlpha: 1 / 255 };

/** @param {import("@sparkjsdev/spark").SparkRenderer} spark */
export function limitStretching(spark) {
  const shader = spark.material.vertexShader;
  const before = "vec2 J2 = -(J1 * viewCenter.xy) * invZ;";
  if (!shader.includes(before)) throw new Error("This is not the version of Spark that the page was written for");
  spark.material.vertexShader = shader.replace(
    before,
    "vec2 widest = 1.3 / vec2(projectionMatrix[0][0], projectionMatrix[1][1]);" +
      "vec2 J2 = -J1 * clamp(viewCenter.xy * invZ, -widest, widest);",
  );
}

/**
 * How much splats are widened: half a pixel or so, which for antialiasing makes them fainter in turn.
 *
 * @param {"classic" | "antialiased"} mode
 */
export function blurOf(mode) {
  return mode === "antialiased" ? { preBlurAmount: 0, blurAmount: 0.3 } : { preBlurAmount: 0.3, blurAmount: 0 };
}
