// Run a program's `async def main()` under Pyodide in node: run.mjs <pyodide> <wheels> <program.py> <mounted folder> [arguments]
import { readFileSync, readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [pyodide, wheels, program, folder, ...rest] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(pyodide, "pyodide.mjs")).href);
const py = await loadPyodide({ indexURL: pyodide, packageCacheDir: wheels, args: ["-W", "ignore"] });
const names = readdirSync(wheels);
const locked = Object.entries(JSON.parse(readFileSync(join(pyodide, "pyodide-lock.json"))).packages);
// Compiled packages are Pyodide's own; what is pure Python is unpacked as it comes from PyPI.
const own = locked.filter(([, p]) => names.includes(p.file_name)).map(([name]) => name);
await py.loadPackage(own, { messageCallback: () => {} });
for (const [place, there] of [["/wheels", wheels], ["/tree", folder]]) {
  py.FS.mkdirTree(place);
  py.FS.mount(py.FS.filesystems.NODEFS, { root: there }, place);
}
const pure = names.filter((n) => n.endsWith("none-any.whl") && !locked.some(([, p]) => p.file_name === n));
py.globals.set("pure", py.toPy(pure));
py.runPython(`
import site, zipfile
for name in pure:
    zipfile.ZipFile("/wheels/" + name).extractall(site.getsitepackages()[0])
import importlib
importlib.invalidate_caches()
`);
py.globals.set("arguments", py.toPy(rest));
try {
  await py.runPythonAsync("import sys\nsys.argv = ['program', *arguments]");
  py.runPython(readFileSync(program, "utf8"));
  await py.runPythonAsync("await main()");
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
}
