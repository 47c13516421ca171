// Checks the types and bundles the page into the directory that is named.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const [dist] = process.argv.slice(2);
if (!dist) {
  console.error('usage: node build.mjs DIRECTORY');
  process.exit(2);
}

const checked = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc'], {
  stdio: 'inherit',
});
if (checked.status !== 0) process.exit(checked.status ?? 1);

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });

const target = ['chrome111', 'firefox115', 'safari16.4'];
const shared = { bundle: true, minify: true, target, legalComments: 'none', logLevel: 'warning' };
const { metafile } = await build({
  ...shared,
  entryPoints: ['src/main.ts'],
  outfile: join(dist, 'phone.js'),
  format: 'esm',
  metafile: true,
});
await build({ ...shared, entryPoints: ['static/phone.css'], outfile: join(dist, 'phone.css') });
for (const name of readdirSync('static')) {
  if (!name.endsWith('.css')) copyFileSync(join('static', name), join(dist, name));
}
writeFileSync(join(dist, 'notices.txt'), notices(Object.keys(metafile.inputs)));

/** The licences of the packages whose files are in the bundle. */
function notices(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const within = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (within) packages.add(within[1]);
  }
  const parts = [...packages].sort().map((name) => {
    const directory = join('node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
    const texts = readdirSync(directory).filter((file) => /^(licen[cs]e|notice)/i.test(file));
    if (texts.length === 0) throw new Error(`${name}: no licence in ${dirname(directory)}`);
    const words = texts.map((file) => readFileSync(join(directory, file), 'utf8').trim());
    return `${name} ${version} (${license})\n\n${words.join('\n\n')}\n`;
  });
  const head = 'The web phone of Landline (Apache-2.0) holds these packages:\n';
  return [head, ...parts].join(`\n${'-'.repeat(72)}\n\n`);
}
