/**
 * What was measured so far, a JSON line each, so that a run that was broken off goes on where it was instead of measuring hours
 * again. A log belongs to one command line and one state of our code; any other begins anew.
 */
import { createHash } from 'node:crypto';
import { appendFile, mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemCode } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';

const ASK_LIMIT_MS = 60_000;
const ROOT = join(import.meta.dirname, '..', '..', '..');

export class RoundLog<T> {
  readonly #path: string;
  readonly #done: Map<string, T>;

  /** `key`: whatever makes results comparable; the commit and uncommitted changes are added. */
  static async open<T>(directory: string, key: readonly string[], signal: AbortSignal): Promise<RoundLog<T>> {
    const path = join(directory, `${hash([...key, await codeState(signal)])}.jsonl`);
    await mkdir(dirname(path), { recursive: true });
    const done = new Map<string, T>();
    for (const line of (await readIfThere(path)).split('\n')) {
      try {
        const { name, value } = JSON.parse(line) as { name: string; value: T };
        done.set(name, value);
      } catch {
        // A line cut off by a kill, or the empty one at the end: measured again.
      }
    }
    return new RoundLog(path, done);
  }

  private constructor(path: string, done: Map<string, T>) {
    this.#path = path;
    this.#done = done;
  }

  get size(): number {
    return this.#done.size;
  }

  async once(name: string, measure: () => Promise<T>): Promise<T> {
    const known = this.#done.get(name);
    if (known !== undefined) return known;
    const value = await measure();
    this.#done.set(name, value);
    await appendFile(this.#path, `\n${JSON.stringify({ name, value })}\n`);
    return value;
  }

  /** The figure is complete: the next run measures again. */
  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

async function codeState(signal: AbortSignal): Promise<string> {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout } = await runTool('git', args, { timeoutMs: ASK_LIMIT_MS, signal, cwd: ROOT, okCodes: [0, 128] });
    return stdout;
  };
  return `${await ask('rev-parse', 'HEAD')}${await ask('diff', 'HEAD', '--', 'packages', 'bench')}`;
}

function hash(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return '';
    throw error;
  }
}
