/**
 * The workflow code as the sandbox loads it: one file, made by webpack in some seconds, so it is cached.
 *
 *   <cache>/workflows/<hash of all that goes in>.js     first line: `// sha256 <hex of the rest>`
 *
 * The key covers our sources, the versions of the SDK and of this module's options, so clones share the cache and a stale
 * bundle cannot be loaded. A cached file that does not match its own first line is made again.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

/** Raised when the options below change what comes out. */
const RECIPE = 1;

const HEADER = /^\/\/ sha256 ([0-9a-f]{64})\n/;

export interface WorkflowBundle {
  readonly code: string;
  /** Whether it came from the cache. */
  readonly cached: boolean;
}

/**
 * The bundle of `entryPath` (default: all workflows). A Node module anywhere in workflow code fails the bundle.
 * `cacheDirectory` absent: always built. Errors: `internal.bug` with webpack's words; `disk.full`.
 */
export async function workflowBundle(
  options: { readonly cacheDirectory?: string; readonly entryPath?: string } = {},
): Promise<WorkflowBundle> {
  const entryPath = options.entryPath ?? fileURLToPath(import.meta.resolve('@lifeboat/workflows/bundle-entry'));
  if (!options.cacheDirectory) return { code: await build(entryPath), cached: false };
  const path = join(options.cacheDirectory, 'workflows', `${await keyOf(entryPath)}.js`);
  const cached = await readCached(path);
  if (cached !== undefined) return { code: cached, cached: true };
  const code = await build(entryPath);
  await writeCached(path, code);
  return { code, cached: false };
}

async function build(entryPath: string): Promise<string> {
  const complaints: string[] = [];
  const logger = new DefaultLogger('ERROR', ({ message }) => complaints.push(message));
  try {
    const { code } = await bundleWorkflowCode({
      workflowsPath: entryPath,
      logger,
      webpackConfigHook: (config) => ({
        ...config,
        // Stack traces and the cache must not depend on where this clone lies.
        context: sourceRoot(),
        output: { ...config.output, devtoolModuleFilenameTemplate: 'lifeboat:///[resource-path]' },
      }),
    });
    return code;
  } catch (cause) {
    const message = [messageOf(cause), ...complaints].join('\n');
    throw new LifeboatError('internal.bug', `workflows could not be bundled from ${entryPath}: ${message}`, { cause });
  }
}

async function keyOf(entryPath: string): Promise<string> {
  const hash = createHash('sha256');
  const require = createRequire(import.meta.url);
  hash.update(JSON.stringify({ recipe: RECIPE, sdk: sdkVersion(require), entry: relative(sourceRoot(), entryPath) }));
  const contracts = dirname(fileURLToPath(import.meta.resolve('@lifeboat/contracts/workflow/names')));
  for (const directory of [dirname(entryPath), contracts]) {
    for (const name of (await readdir(directory, { recursive: true })).sort()) {
      if (!name.endsWith('.ts')) continue;
      hash.update(`\0${name.split(sep).join('/')}\0`).update(await readFile(join(directory, name)));
    }
  }
  return hash.digest('hex');
}

function sdkVersion(require: NodeJS.Require): string {
  return (require('@temporalio/worker/package.json') as { version: string }).version;
}

/** The folder that holds all rooms. */
function sourceRoot(): string {
  return fileURLToPath(new URL('../../', import.meta.url));
}

async function readCached(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const [header, expected] = HEADER.exec(text) ?? [];
  if (!header) return undefined;
  const code = text.slice(header.length);
  return sha256(code) === expected ? code : undefined;
}

/** Appears whole or not at all; two processes that write it at once write the same. */
async function writeCached(path: string, code: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(draft, `// sha256 ${sha256(code)}\n${code}`);
    await rename(draft, path);
  } catch (cause) {
    await rm(draft, { force: true });
    if (systemCode(cause) !== 'ENOSPC') throw cause;
    throw new LifeboatError('disk.full', `${path} could not be written`, { cause });
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
