/** The `lifeboat` command as a person runs it: a process of its own, with its output and its exit code. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));

export interface Ended {
  readonly code: number | null;
  /** What ended it from outside. */
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as the one JSON document it must be. */
  readonly json: unknown;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once stdout or stderr has shown `pattern`; rejects when it ends without. */
  shows(pattern: RegExp): Promise<void>;
}

/** How the command is started from source. */
const SOURCE: readonly [string, ...string[]] = [process.execPath, MAIN];

/** Starts it with nothing of our environment but PATH, HOME and what is given. */
export function start(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  [program, ...before]: readonly [string, ...string[]] = SOURCE,
): Running {
  const { PATH = '', HOME = '', LIFEBOAT_TEMPORAL, LIFEBOAT_CACHE } = process.env;
  const child = spawn(program, [...before, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH,
      HOME,
      LANG: 'C.UTF-8',
      ...(LIFEBOAT_TEMPORAL === undefined ? {} : { LIFEBOAT_TEMPORAL }),
      ...(LIFEBOAT_CACHE === undefined ? {} : { LIFEBOAT_CACHE }),
      ...environment,
    },
  });
  const output = { stdout: '', stderr: '' };
  const look = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      for (const check of look) check();
    });
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({
        signal,
        ...output,
        code,
        get json() {
          return JSON.parse(output.stdout) as unknown;
        },
      }),
    );
  });
  const shows = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        if (!pattern.test(output.stdout + output.stderr)) return;
        look.delete(check);
        resolve();
      };
      look.add(check);
      check();
      void ended.then(
        ({ code, signal }) =>
          reject(new Error(`it ended with ${signal ?? code} before it showed ${pattern}: ${output.stderr}`)),
        reject,
      );
    });
  return { child, ended, shows };
}

export function lifeboat(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ended> {
  return start(args, environment).ended;
}
