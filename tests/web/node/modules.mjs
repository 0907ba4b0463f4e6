// The packages are in the cache of the tests, outside of the source tree, so a bare name would not
// find them: they are looked up from where WEB_MODULES says.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const lookup = createRequire(join(process.env.WEB_MODULES, "package.json"));

/** What the package of this name exports, whichever of the two module systems it is written in. */
export async function load(name) {
  const found = await import(pathToFileURL(lookup.resolve(name)).href);
  return found.default ?? found;
}
