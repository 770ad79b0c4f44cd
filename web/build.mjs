// Builds the page into the folder that is named: the same bytes from every build with the locked versions.
//
//   vendor.js    what is used of three and Spark; changes with their versions alone
//   page.js      ours, which takes the former from a global name
//   loader.js    unpacks both in a page of one file
//   page.css, page.html
//   served.js, served.css, served.html: the page that a server gives out
//   LICENSES.txt of what is bundled
//   SOURCES.txt  digests of what it was built from: a test sees when somebody forgot to build
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const out = process.argv[2];
const here = import.meta.dirname;
const common = { bundle: true, minify: true, format: "iife", target: "es2022", legalComments: "none", write: true };

/** The vendored names come from the script before ours. */
const vendorElsewhere = {
  name: "vendor-elsewhere",
  setup(/** @type {import("esbuild").PluginBuild} */ builder) {
    builder.onResolve({ filter: /\/vendor\.js$/ }, () => ({ path: "vendor", namespace: "global" }));
    builder.onLoad({ filter: /.*/, namespace: "global" }, () => ({ contents: "module.exports = gsegVendor", loader: "js" }));
  },
};

await mkdir(out, { recursive: true });
const source = (name) => join(here, "src", name);
await build({ ...common, entryPoints: [source("vendor.js")], globalName: "gsegVendor", outfile: join(out, "vendor.js") });
await build({ ...common, entryPoints: [source("main.js")], plugins: [vendorElsewhere], outfile: join(out, "page.js") });
await build({ ...common, entryPoints: [source("loader.js")], outfile: join(out, "loader.js") });
await build({ ...common, entryPoints: [source("page.css")], outfile: join(out, "page.css") });
await build({ ...common, entryPoints: [source("served.js")], plugins: [vendorElsewhere], outfile: join(out, "served.js") });
await build({ ...common, entryPoints: [source("served.css")], outfile: join(out, "served.css") });
/** A document with the parts that it has in common with others: {{> name}} is the file part_name.html. */
async function whole(/** @type {string} */ name) {
  let text = await readFile(source(name), "utf8");
  for (const [mark, part] of text.matchAll(/\{\{> (\w+)\}\}\n/g)) {
    text = text.replace(mark, await readFile(source(`part_${part}.html`), "utf8"));
  }
  return text;
}
for (const name of ["page.html", "served.html"]) await writeFile(join(out, name), await whole(name));

const bundled = [
  ["three", "https://github.com/mrdoob/three.js"],
  ["@sparkjsdev/spark", "https://github.com/sparkjsdev/spark, with what its Rust part is compiled from"],
  ["fflate", "https://github.com/101arrowz/fflate"],
];
const licenses = [];
for (const [name, where] of bundled) {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  licenses.push(`${name} ${version} (${where})\n\n${(await readFile(join(folder, "LICENSE"), "utf8")).trim()}\n`);
}
licenses.push(`Rust crates that Spark's WebAssembly names, under MIT or Apache-2.0 (zlib-rs: zlib; memchr: MIT or Unlicense):
${crates(await readFile(join(out, "vendor.js"), "latin1")).join(", ")}\n`);
await writeFile(join(out, "LICENSES.txt"), `vendor.js holds parts of these.\n\n${licenses.join(`\n${"-".repeat(80)}\n\n`)}`);

/** What the compiled code says that its sources were. */
function crates(/** @type {string} */ code) {
  const longest = [...code.matchAll(/[A-Za-z0-9+/]{100000,}/g)].map(([text]) => Buffer.from(text, "base64").toString("latin1"));
  const found = longest.join("\n").matchAll(/registry\/src\/[^/]+\/([a-z0-9_-]+-\d+\.\d+\.\d+)\//g);
  return [...new Set([...found].map(([, name]) => name))].sort();
}

const names = [...(await readdir(join(here, "src"))).map((name) => `src/${name}`), "build.mjs", "package-lock.json"];
const lines = [];
for (const name of names.sort()) {
  lines.push(`${createHash("sha256").update(await readFile(join(here, name))).digest("hex")}  ${name}\n`);
}
await writeFile(join(out, "SOURCES.txt"), lines.join(""));
