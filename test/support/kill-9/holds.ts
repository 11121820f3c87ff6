/**
 * Holds: a test names a byte of an operation's progress, and the observed agent stops the world of that operation there.
 *
 *   test    writes holds/<verb>-<machine>.json ─────────────────────────────► waits for .held ─► kills ─► continues it
 *   agent   verb reports byte N ─► SIGSTOP to the process its data comes from or goes to ─► writes .held
 *
 * What is stopped is the other end (QEMU, the server of the target image), not the agent: the operation stands in the middle
 * of its work, while heartbeats, locks and everything else of the agent go on. Each hold works once.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { standStill } from '../stopped-process.ts';

export interface Hold {
  readonly verb: 'captureMachine' | 'restoreDisks' | 'bootTest';
  /** The machine as the verb is called with it: its UUID. */
  readonly machine: string;
  /** Stop when this many bytes are done, in the first phase that reports `phase`. */
  readonly phase: string;
  readonly atBytes: number;
  /** Where the pid of the other end stands, alone or as `pid` of a JSON object; `{opId}` is replaced. */
  readonly pidFile: string;
}

export interface Held {
  readonly opId: string;
  readonly agentPid: number;
  readonly stoppedPid: number;
  readonly doneBytes: number;
}

const fileOf = (root: string, { verb, machine }: Pick<Hold, 'verb' | 'machine'>, suffix: string): string =>
  join(root, 'holds', `${verb}-${machine}.${suffix}`);

export function placeHold(root: string, hold: Hold): void {
  mkdirSync(join(root, 'holds'), { recursive: true });
  rmSync(fileOf(root, hold, 'held'), { force: true });
  writeFileSync(fileOf(root, hold, 'json'), JSON.stringify(hold));
}

/** Undefined until the operation stands there. */
export function readHeld(root: string, hold: Hold): Held | undefined {
  return readJson(fileOf(root, hold, 'held')) as Held | undefined;
}

/** For the agent, when a verb begins. */
export function holdFor(root: string, verb: Hold['verb'], machine: string): Hold | undefined {
  return readJson(fileOf(root, { verb, machine }, 'json')) as Hold | undefined;
}

/** For the agent, when the byte is reached. Synchronous: nothing of this process runs in between. */
export function stopOtherEnd(root: string, hold: Hold, at: { opId: string; doneBytes: number }): void {
  const pidFile = hold.pidFile.replaceAll('{opId}', at.opId);
  const stoppedPid = standStill(pidFile);
  if (stoppedPid === undefined) throw new Error(`nobody can be stopped: ${pidFile} names no process`);
  // Gone before the word of it is out: an agent that is killed right now must not hold the next attempt.
  rmSync(fileOf(root, hold, 'json'));
  const held: Held = { ...at, agentPid: process.pid, stoppedPid };
  writeFileSync(fileOf(root, hold, 'held.new'), JSON.stringify(held));
  renameSync(fileOf(root, hold, 'held.new'), fileOf(root, hold, 'held'));
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
