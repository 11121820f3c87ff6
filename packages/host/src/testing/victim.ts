import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { identifyProcess } from '../process-identity.ts';

export interface Victim {
  readonly pid: number;
  /** The next line it prints, or undefined once it has ended. */
  nextLine(): Promise<string | undefined>;
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>;
}

/**
 * A separate Node process that runs `source` (a module body; imports by `source('x.ts')` of this package), to be
 * killed -9 in the middle of it. Ends with the test.
 */
export function startVictim(source: string): Victim {
  const child: ChildProcess = spawn(process.execPath, ['--input-type=module', '--no-warnings', '-e', source], {
    cwd: new URL('..', import.meta.url).pathname,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const lines = createInterface({ input: child.stdout as NonNullable<ChildProcess['stdout']> })[Symbol.asyncIterator]();
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await gone;
  };
  onTestFinished(kill);
  return {
    pid: child.pid as number,
    async nextLine() {
      const next = await lines.next();
      return next.done === true ? undefined : next.value;
    },
    kill,
  };
}

/** Waits until a condition holds; long, because it costs nothing where the condition comes true. */
export async function eventually(
  what: string,
  condition: () => Promise<boolean> | boolean,
  limitMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const isGone = async (pid: number): Promise<boolean> => (await identifyProcess(pid)) === undefined;

/** Import specifier of a module of this package, for `startVictim`. */
export const moduleUrl = (file: string): string => JSON.stringify(new URL(`../${file}`, import.meta.url).href);
