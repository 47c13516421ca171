// CommonJS in a page: npm packages as they come, without a bundler.
'use strict';

const modules = new Map();

function load(path) {
  if (modules.has(path)) return modules.get(path).exports;
  const module = { exports: {} };
  modules.set(path, module);
  const text = read(path);
  if (path.endsWith('.json')) {
    module.exports = JSON.parse(text);
  } else {
    const body = new Function('module', 'exports', 'require', `${text}\n//# sourceURL=${path}`);
    body(module, module.exports, (name) => load(resolve(name, path)));
  }
  return module.exports;
}

/** The path of what `from` calls `name`. */
function resolve(name, from) {
  if (name.startsWith('.')) return file(new URL(name, `http://x${from}`).pathname);
  const directory = `/node_modules/${name}`;
  const { browser, main } = load(`${directory}/package.json`);
  const entry = typeof browser === 'string' ? browser : (main ?? 'index.js');
  return file(new URL(entry, `http://x${directory}/`).pathname);
}

/** The path itself, or with what may be left out of it. */
function file(path) {
  const bare = path.replace(/\/$/, '');
  const found = [bare, `${bare}.js`, `${bare}/index.js`].find((name) => read(name) !== null);
  if (!found) throw new Error(`no module ${path}`);
  return found;
}

function read(path) {
  const request = new XMLHttpRequest();
  request.open('GET', path, false);
  request.send();
  return request.status === 200 ? request.responseText : null;
}
