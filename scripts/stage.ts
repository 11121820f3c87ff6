/**
 * `npm run stage`: Lifeboat as a directory that plain Node 24 runs, without this tree and without its node_modules:
 *
 *   bin/            the commands; `lifeboat` is the one for people
 *   lib/*.js        a bundle per process and thread entry, and what they share
 *   lib/workflows.js   the workflows, bundled for Temporal's sandbox
 *   lib/releases/   Temporal's native core for this platform, where the SDK looks for it
 *   node_modules/   what else cannot be bundled: native code, for this platform
 *   share/          other files that the code reads, and the licences of what was bundled
 *
 * Node strips no types under node_modules, so this is what a package, a tarball or an image holds.
 */
import { existsSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { rolldown } from 'rolldown';
import packageJson from '../package.json' with { type: 'json' };
import { workflowBundle } from '../worker/src/workflow-bundle.ts';
import { bundledName, locatedFiles } from './stage/located-files.ts';
import { replacedModules } from './stage/replaced-modules.ts';

const USAGE = `Usage: npm run stage [-- [--entry FILE]... [DIRECTORY]]

  DIRECTORY  where to (default dist/lifeboat); what an earlier run put there is replaced
  --entry    bundle this module, too

Example: npm run stage -- /opt/lifeboat`;

const ROOT = resolve(import.meta.dirname, '..');
/** How a directory of an earlier run is known: nothing else is removed. */
const STAGED_NAME = 'lifeboat-staged';
const COMMANDS = {
  lifeboat: 'cli/src/main.ts',
  'lifeboat-agent': 'agent/src/main.ts',
  'lifeboat-worker': 'worker/src/main.ts',
  'lifeboat-supervisor': 'agent/src/supervisor-main.ts',
};
/** The SDK starts it by `require.resolve('./workflow-worker-thread')`, which finds this name beside any bundle. */
const WORKFLOW_THREAD = 'workflow-worker-thread';

const NPM_PACKAGE = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/;
const NOTICE = /^(?:licen[cs]e|notice|copying)\b/i;

const { values, positionals } = parseArgs({
  options: { entry: { type: 'string', multiple: true, default: [] }, help: { type: 'boolean' } },
  allowPositionals: true,
});
if (values.help || positionals.length > 1) {
  console.error(USAGE);
  process.exit(values.help ? 0 : 2);
}
const directory = resolve(positionals[0] ?? join(ROOT, 'dist', 'lifeboat'));
const entries = [...Object.values(COMMANDS), ...values.entry].map((path) => resolve(ROOT, path));

await clear();
await bundle();
await stageWorkflows();
await stageNative();
await stageCommands();
console.log(directory);

async function clear(): Promise<void> {
  if (existsSync(directory)) {
    const marker = join(directory, 'package.json');
    if (!existsSync(marker) || !readFileSync(marker, 'utf8').includes(`"${STAGED_NAME}"`)) {
      throw new Error(`${directory} exists and was not made by this: name another directory, or remove it`);
    }
    await rm(directory, { recursive: true });
  }
  await mkdir(directory, { recursive: true });
  const about = { name: STAGED_NAME, version: packageJson.version, license: packageJson.license, type: 'module' };
  await writeFile(join(directory, 'package.json'), `${JSON.stringify(about, null, 2)}\n`);
  await cp(join(ROOT, 'LICENSE'), join(directory, 'LICENSE'));
}

/** Every file lies in lib/ itself, so that all of them name each other and what is in share/ in the same way. */
async function bundle(): Promise<void> {
  const located = locatedFiles();
  const build = await rolldown({
    cwd: ROOT,
    platform: 'node',
    input: {
      ...Object.fromEntries(entries.map((path) => [bundledName(path), path])),
      [WORKFLOW_THREAD]: join(ROOT, `node_modules/@temporalio/worker/lib/workflow/${WORKFLOW_THREAD}.js`),
    },
    // An entry that waits at its top level must not be imported by what it waits for.
    preserveEntrySignatures: 'strict',
    external: [/\.node$/, /^@napi-rs\/blake-hash-/],
    transform: { define: { __dirname: 'import.meta.dirname', __filename: 'import.meta.filename' } },
    plugins: [replacedModules(ROOT), located.plugin],
  });
  try {
    const { output } = await build.write({
      dir: join(directory, 'lib'),
      entryFileNames: '[name].js',
      chunkFileNames: '[name]-[hash].js',
    });
    await stageLicences(output.flatMap((part) => (part.type === 'chunk' ? part.moduleIds : [])));
  } finally {
    await build.close();
  }
  for (const [path, name] of located.shared) await cp(path, join(directory, 'share', name), { recursive: true });
}

/** Of every npm package that a module came from: its licence and notices go where its code goes. */
async function stageLicences(moduleIds: readonly string[]): Promise<void> {
  const packages = new Set(moduleIds.flatMap((id) => NPM_PACKAGE.exec(id)?.[0] ?? []));
  for (const path of packages) {
    const name = relative(join(ROOT, 'node_modules'), path);
    for (const file of (await readdir(path)).filter((entry) => NOTICE.test(entry))) {
      await cp(join(path, file), join(directory, 'share', 'licences', name, file));
    }
  }
}

async function stageWorkflows(): Promise<void> {
  const cacheDirectory = process.env['LIFEBOAT_CACHE'];
  const { code } = await workflowBundle(cacheDirectory === undefined ? {} : { cacheDirectory });
  await writeFile(join(directory, 'lib', 'workflows.js'), code);
}

async function stageNative(): Promise<void> {
  const core = `releases/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-gnu`;
  const hash = `node_modules/@napi-rs/blake-hash-linux-${process.arch}-gnu`;
  const copies = [
    [`node_modules/@temporalio/core-bridge/${core}`, `lib/${core}`],
    // Reads the source maps of workflows.
    ['node_modules/source-map/lib/mappings.wasm', 'lib/mappings.wasm'],
    [hash, hash],
  ] as const;
  for (const [from, to] of copies) await cp(join(ROOT, from), join(directory, to), { recursive: true });
}

async function stageCommands(): Promise<void> {
  for (const [name, entry] of Object.entries(COMMANDS)) {
    const path = join(directory, 'bin', name);
    const main = relative(dirname(path), join(directory, 'lib', `${bundledName(join(ROOT, entry))}.js`));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(
      path,
      `#!/bin/sh\nexec "\${LIFEBOAT_NODE:-node}" "$(dirname "$(readlink -f "$0")")/${main}" "$@"\n`,
    );
    await chmod(path, 0o755);
  }
}
