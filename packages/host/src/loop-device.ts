/**
 * Loop devices of an operation.
 *
 * 1. Ask for a free device. 2. Record device, file (inode), offset and limit in the operation's directory.
 * 3. Attach exactly that device; lost the race for it: again from 1. 4. Use. 5. Detach, make sure, remove the record.
 *
 * Killed anywhere between 2 and 5, the record leads to the device; it is only detached if what is attached to it
 * is still exactly what the record says.
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, hasCode } from '@lifeboat/foundation/errors';
import { runTool } from './children.ts';
import { deviceNumber } from './device-number.ts';
import { readRecord, removeIfThere, writeDurably } from './durable-file.ts';

const LOSETUP_TIMEOUT_MS = 30_000;
/** Others attach loop devices at the same time; losing this often in a row is something else. */
const MAX_RACES = 16;
/** Detaching takes effect when the last opener (a scanner, mostly) closes the device: 5.1 s in all. */
const DETACH_WAITS_MS = [5, 20, 100, 300, 700, 1500, 2500];
const RECORD_SUFFIX = '.loop';

interface LoopRecord {
  readonly device: string;
  /** Resolved, as the kernel shows it. */
  readonly path: string;
  readonly file: FileIdentity;
  readonly offsetBytes: number;
  /** 0: to the end of the file. */
  readonly sizeLimitBytes: number;
}

interface FileIdentity {
  /** `major:minor` of the filesystem the file is on. */
  readonly fileDevice: string;
  readonly inode: number;
}

/** What is attached now. */
export interface AttachedLoop extends Omit<LoopRecord, 'file'> {
  /** Undefined if the kernel cannot ask the file: a second after its FUSE server died (seen with 6.18). */
  readonly file: FileIdentity | undefined;
}

export interface LoopOptions {
  readonly path: string;
  readonly offsetBytes: number;
  readonly sizeLimitBytes: number;
  readonly readOnly: boolean;
  /** The operation's directory; gets `<name>.loop`. */
  readonly directory: string;
  readonly name: string;
  readonly signal?: AbortSignal;
}

export interface LoopDevice {
  /** `/dev/loopN` */
  readonly path: string;
  /** May be called again. Errors: `host.loop-busy` if somebody still holds it open. */
  detach(): Promise<void>;
}

/** A run of a file as a block device. Needs root. */
export async function loopDevice(options: LoopOptions): Promise<LoopDevice> {
  const { path, offsetBytes, sizeLimitBytes } = options;
  const resolved = await realpath(path);
  const { dev, ino } = await stat(resolved);
  const file = { fileDevice: deviceNumber(BigInt(dev)), inode: ino };
  const recordPath = join(options.directory, `${options.name}${RECORD_SUFFIX}`);
  const args = [
    '-o',
    String(offsetBytes),
    '--sizelimit',
    String(sizeLimitBytes),
    ...(options.readOnly ? ['--read-only'] : []),
  ];
  for (let race = 0; race < MAX_RACES; race++) {
    options.signal?.throwIfAborted();
    const device = (await losetup(['--find'])).trim();
    const record = { device, path: resolved, file, offsetBytes, sizeLimitBytes };
    await writeDurably(recordPath, JSON.stringify(record));
    try {
      await losetup([...args, '--', device, path]);
    } catch (error) {
      const taken = (await attachedLoops()).some((loop) => loop.device === device);
      if (hasCode(error, 'host.tool-failed') && taken) continue; // somebody else was faster
      await detachRecord(recordPath, record);
      throw error;
    }
    return { path: device, detach: async () => void (await detachRecord(recordPath, record)) };
  }
  await removeIfThere(recordPath);
  throw new LifeboatError('host.loop-busy', `Lost the race for a free loop device ${MAX_RACES} times for ${path}`, {
    context: { path },
  });
}

export interface RecordedLoop {
  readonly name: string;
  readonly device: string | undefined;
  /** As for recorded children; `not-ours`: the device serves another file or run by now. */
  readonly outcome: 'detached' | 'gone' | 'not-ours' | 'unreadable';
}

/** Detaches the loop devices a dead attempt recorded. The caller holds the operation's lock. */
export async function detachRecordedLoops(directory: string): Promise<RecordedLoop[]> {
  const results: RecordedLoop[] = [];
  const files = (await readdir(directory)).filter((file) => file.endsWith(RECORD_SUFFIX));
  for (const file of files.sort()) {
    const name = file.slice(0, -RECORD_SUFFIX.length);
    const path = join(directory, file);
    const record = await readLoopRecord(path);
    results.push(
      record === undefined
        ? { name, device: undefined, outcome: 'unreadable' }
        : { name, device: record.device, outcome: await detachRecord(path, record) },
    );
  }
  return results;
}

async function detachRecord(recordPath: string, record: LoopRecord): Promise<'detached' | 'gone' | 'not-ours'> {
  const outcome = await detachIfOurs(record);
  await removeIfThere(recordPath);
  return outcome;
}

async function detachIfOurs(record: LoopRecord): Promise<'detached' | 'gone' | 'not-ours'> {
  for (const [attempt, waitMs] of [...DETACH_WAITS_MS, 0].entries()) {
    const current = (await attachedLoops()).find((loop) => loop.device === record.device);
    if (current === undefined || !isSame(current, record)) {
      if (attempt > 0) return 'detached';
      return current === undefined ? 'gone' : 'not-ours';
    }
    // A device that is open elsewhere takes the request and detaches at its last close. It is asked again all the same:
    // once in some runs a single request, made while a lazily unmounted filesystem let go, did not take effect.
    if (waitMs > 0) {
      await losetup(['--detach', record.device]);
      await systemClock.sleep(waitMs);
    }
  }
  throw new LifeboatError('host.loop-busy', `${record.device} is still open elsewhere and could not be detached`, {
    context: { device: record.device },
  });
}

/** By inode, which no renaming fools; by path only where the kernel does not know the inode any more. */
function isSame(now: AttachedLoop, record: LoopRecord): boolean {
  if (now.offsetBytes !== record.offsetBytes || now.sizeLimitBytes !== record.sizeLimitBytes) return false;
  if (now.file === undefined) return now.path === record.path;
  return now.file.inode === record.file.inode && now.file.fileDevice === record.file.fileDevice;
}

/** Every attached loop device of the host. */
export async function attachedLoops(): Promise<AttachedLoop[]> {
  const columns = 'NAME,BACK-FILE,BACK-INO,BACK-MAJ:MIN,OFFSET,SIZELIMIT';
  const text = await losetup(['--list', '--json', '--output', columns]);
  if (text.trim() === '') return []; // some versions print nothing at all when there is none
  const { loopdevices } = JSON.parse(text) as { loopdevices: Record<string, string | number | null>[] };
  return loopdevices.map((row) => {
    const [inode, fileDevice] = [row['back-ino'], row['back-maj:min']];
    const known = inode !== null && inode !== undefined && fileDevice !== null && fileDevice !== undefined;
    return {
      device: String(row['name']),
      path: String(row['back-file']),
      file: known ? { inode: Number(inode), fileDevice: String(fileDevice).trim() } : undefined,
      offsetBytes: Number(row['offset']),
      sizeLimitBytes: Number(row['sizelimit']),
    };
  });
}

async function readLoopRecord(path: string): Promise<LoopRecord | undefined> {
  let value: unknown;
  try {
    value = await readRecord(path);
  } catch (error) {
    if (hasCode(error, 'host.record-damaged')) return undefined;
    throw error;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { device, path: filePath, file, offsetBytes, sizeLimitBytes } = value as Partial<LoopRecord>;
  const sound =
    typeof device === 'string' &&
    /^\/dev\/loop\d+$/.test(device) &&
    typeof filePath === 'string' &&
    typeof file?.fileDevice === 'string' &&
    [file.inode, offsetBytes, sizeLimitBytes].every((number) => Number.isSafeInteger(number));
  return sound ? (value as LoopRecord) : undefined;
}

async function losetup(args: readonly string[]): Promise<string> {
  return (await runTool('losetup', args, { timeoutMs: LOSETUP_TIMEOUT_MS })).stdout;
}
