import { spawn, type ChildProcess } from 'node:child_process';
import process from 'node:process';

export interface ToolOptions {
  readonly limitMs: number;
  readonly stdout?: 'inherit' | 'pipe';
  readonly stderr?: 'inherit' | 'pipe';
  readonly environment?: Readonly<Record<string, string>>;
}

export interface ToolResult {
  readonly code: number | null;
  /** How it ended, for a person: `code 1`, `SIGKILL`, `its limit of 15 min`. */
  readonly how: string;
  /** What was piped, both streams in the order of arrival. */
  readonly output: string;
  readonly elapsedMs: number;
}

/** After SIGTERM: vitest's workers and the tests' own clean-up, which destroys domains and unmounts. */
const GRACE_MS = 30_000;
const running = new Set<ChildProcess>();

/**
 * Runs a program of the tool chain to its end. It stays in our process group, so that Ctrl-C reaches it too. One that is
 * over its limit gets SIGTERM, then SIGKILL. Rejects only if it cannot be started.
 */
export async function spawnTool(file: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  const { limitMs, stdout = 'pipe', stderr = 'pipe' } = options;
  const startedMs = performance.now();
  const child = spawn(file, args, {
    stdio: ['ignore', stdout, stderr],
    env: { ...process.env, ...options.environment },
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  let overLimit = false;
  const limit = setTimeout(() => {
    overLimit = true;
    void stop(child);
  }, limitMs);
  try {
    const { code, signal } = await ended(child);
    const how = overLimit ? `its limit of ${limitMs / 60_000} min` : (signal ?? `code ${code}`);
    return { code, how, output, elapsedMs: performance.now() - startedMs };
  } finally {
    clearTimeout(limit);
    running.delete(child);
  }
}

/** Ends whatever is running, and waits for it. */
export async function stopTools(): Promise<void> {
  await Promise.all([...running].map(stop));
}

async function stop(child: ChildProcess): Promise<void> {
  const kill = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
  child.kill('SIGTERM');
  if (child.exitCode === null && child.signalCode === null) await ended(child);
  clearTimeout(kill);
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
}
