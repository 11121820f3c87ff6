import { readFile } from 'node:fs/promises';
import { systemCode } from '@lifeboat/foundation/errors';

/**
 * Names one process for good. A pid alone is reused, so a pid file from before could name a stranger; pid plus start
 * time is unique within one boot, and the boot id tells boots apart (proc(5): `starttime` counts from boot).
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat; decimal text, because it is 64 bits wide. */
  readonly startTime: string;
  readonly bootId: string;
}

let bootIdOnce: Promise<string> | undefined;

function bootId(): Promise<string> {
  bootIdOnce ??= readFile('/proc/sys/kernel/random/boot_id', 'utf8').then((text) => text.trim());
  return bootIdOnce;
}

/** Who runs under a pid now; undefined if nobody does, or only a zombie that waits for its parent. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    // ENOENT: no such process. ESRCH: it went away between open and read.
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return undefined;
    throw error;
  }
  const parsed = parseStat(stat);
  if (parsed === undefined) throw new Error(`/proc/${pid}/stat cannot be understood: '${stat}'`);
  if (parsed.state === 'Z' || parsed.state === 'X') return undefined;
  return { pid, startTime: parsed.startTime, bootId: await bootId() };
}

/** A line as in /proc/<pid>/stat; undefined if it is not a whole one. */
export function parseStat(
  line: string,
): { pid: number; state: string; groupId: number; startTime: string } | undefined {
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const pid = Number.parseInt(line, 10);
  const groupId = Number(fields[2]);
  const [state, startTime] = [fields[0], fields[19]];
  if (!(pid > 1) || !(groupId >= 0) || state === undefined || startTime === undefined || !/^\d+$/.test(startTime))
    return undefined;
  return { pid, state, groupId, startTime };
}

/** Whether the process that was recorded still runs. */
export async function stillRuns(recorded: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(recorded.pid);
  return now !== undefined && now.startTime === recorded.startTime && now.bootId === recorded.bootId;
}

/** Reads an identity out of JSON that somebody may have damaged; undefined if it is not one. */
export function parseProcessIdentity(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, startTime, bootId } = value as Record<string, unknown>;
  // Pid 1 and below are never ours, and to kill(2) 0 and -1 mean "my group" and "everybody".
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 1) return undefined;
  if (typeof startTime !== 'string' || !/^\d+$/.test(startTime) || typeof bootId !== 'string') return undefined;
  return { pid, startTime, bootId };
}

/** Sends a signal to a process group; false if it was gone. What we start leads its own group, so its pid is the group's id. */
export function signalGroup(groupId: number, signal: 'SIGTERM' | 'SIGKILL'): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return false;
    throw error;
  }
}
