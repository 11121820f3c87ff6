/**
 * What three machines wrote, recorded once and kept in the cache: the disk at first, and for each step the runs of blocks that
 * differ from the step before, with what is in them.
 *
 * ```
 *   loop mount of an ext4 image ─ work ─► sync, freeze, copy of the image, thaw ─ work ─► …        (trace-workloads.ts)
 *                                              └─► compared with the copy before, block by block ─► extents + bytes
 * ```
 * Everything runs in mount and process namespaces of its own: when its shell ends, however it ends, mounts, loop devices and
 * servers are gone. Needs root.
 *
 * Not recorded: blocks that were written with what they held already. A dirty bitmap names them as well; they are read, and not stored.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '@lifeboat/foundation/errors';
import { formatBytes, KiB, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { ensureFree } from '@lifeboat/host/disk-space';
import type { ByteRange } from '@lifeboat/repository/store/object-store';
import { PREAMBLE, WORKLOADS, type Workload } from './trace-workloads.ts';

const RECORD_LIMIT_MS = 60 * 60_000;
const BLOCK_BYTES = 4 * KiB;
const PIECE_BYTES = 4 * MiB;

export interface TraceStep {
  readonly label: string;
  readonly changed: readonly ByteRange[];
  /** The bytes of `changed`, one after the other. */
  readonly bytesPath: string;
}

export interface Trace {
  readonly label: string;
  readonly sizeBytes: number;
  /** The disk before the first step; sparse. */
  readonly basePath: string;
  readonly steps: readonly TraceStep[];
}

/** Errors: `disk.full`, `host.tool-failed` (also where programs for it cannot be installed, or this is not root). */
export async function changeTraces(input: {
  cacheRoot: string;
  signal: AbortSignal;
  say: (text: string) => void;
}): Promise<Trace[]> {
  const traces: Trace[] = [];
  for (const workload of WORKLOADS) traces.push(await oneTrace(workload, input));
  return traces;
}

async function oneTrace(
  workload: Workload,
  { cacheRoot, signal, say }: { cacheRoot: string; signal: AbortSignal; say: (text: string) => void },
): Promise<Trace> {
  const parent = join(cacheRoot, 'bench', 'traces');
  // Another script is another trace.
  const version = createHash('sha256')
    .update(JSON.stringify([PREAMBLE, workload]))
    .digest('hex')
    .slice(0, 12);
  const directory = join(parent, `${workload.name}-${version}`);
  const kept = await readTrace(directory);
  if (kept) return kept;

  await mkdir(parent, { recursive: true });
  const scratch = `${directory}.new-${process.pid}`;
  await ensureFree(parent, workload.sizeBytes * (workload.steps.length + 2), `recording the trace '${workload.label}'`);
  await rm(scratch, { recursive: true, force: true });
  try {
    await mkdir(scratch);
    say(`recording the trace '${workload.label}' on an ext4 file system of ${formatBytes(workload.sizeBytes)}`);
    await record(workload, scratch, signal);
    const steps: TraceStep[] = [];
    for (const [i, label] of workload.steps.entries()) {
      say(`what '${label}' changed`);
      const bytesPath = `step-${i + 1}.bytes`;
      const before = join(scratch, `copy-${i}`);
      const after = join(scratch, `copy-${i + 1}`);
      const changed = await differences({ before, after, bytesPath: join(scratch, bytesPath) }, signal);
      steps.push({ label, changed, bytesPath });
      if (i > 0) await rm(before);
    }
    await rm(join(scratch, `copy-${workload.steps.length}`));
    await rename(join(scratch, 'copy-0'), join(scratch, 'base.raw'));
    const trace: Trace = { label: workload.label, sizeBytes: workload.sizeBytes, basePath: 'base.raw', steps };
    await writeFile(join(scratch, 'trace.json'), JSON.stringify(trace));
    await rename(scratch, directory);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  const made = await readTrace(directory);
  if (!made) throw new Error(`${directory} is not there although it was just made`);
  return made;
}

async function readTrace(directory: string): Promise<Trace | undefined> {
  try {
    const trace = JSON.parse(await readFile(join(directory, 'trace.json'), 'utf8')) as Trace;
    const steps = trace.steps.map((step) => ({ ...step, bytesPath: join(directory, step.bytesPath) }));
    return { ...trace, basePath: join(directory, trace.basePath), steps };
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function record(workload: Workload, scratch: string, signal: AbortSignal): Promise<void> {
  const script = [PREAMBLE, 'begin', workload.prepare, 'copy 0'];
  for (const [i, step] of workload.steps.entries()) {
    script.push(`step_number=${i + 1} step_name=${step}`, workload.step, `copy ${i + 1}`);
  }
  script.push(workload.finish ?? ':', 'end');
  await runTool('unshare', ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-euo', 'pipefail'], {
    timeoutMs: RECORD_LIMIT_MS,
    signal,
    stdin: `{\n${script.join('\n')}\n} > ${scratch}/log 2>&1 < /dev/null || { tail -n 20 ${scratch}/log >&2; exit 1; }\n`,
    env: { SCRATCH: scratch, SIZE: String(workload.sizeBytes) },
  });
}

/** Blocks of `after` that are not as in `before`, joined; their bytes go to `bytesPath`. */
async function differences(
  { before, after, bytesPath }: { before: string; after: string; bytesPath: string },
  signal: AbortSignal,
): Promise<ByteRange[]> {
  const files: FileHandle[] = [];
  try {
    const old = files[files.push(await open(before, 'r')) - 1] as FileHandle;
    const now = files[files.push(await open(after, 'r')) - 1] as FileHandle;
    const bytes = files[files.push(await open(bytesPath, 'wx')) - 1] as FileHandle;
    const { size } = await stat(after);
    const [a, b] = [Buffer.allocUnsafeSlow(PIECE_BYTES), Buffer.allocUnsafeSlow(PIECE_BYTES)];
    const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
    for (let at = 0; at < size; at += PIECE_BYTES) {
      signal.throwIfAborted();
      const length = Math.min(PIECE_BYTES, size - at);
      await Promise.all([old.read(a, 0, length, at), now.read(b, 0, length, at)]);
      if (a.compare(b, 0, length, 0, length) === 0) continue;
      for (let block = 0; block < length; block += BLOCK_BYTES) {
        const end = Math.min(block + BLOCK_BYTES, length);
        if (a.compare(b, block, end, block, end) === 0) continue;
        await bytes.write(b, block, end - block);
        const last = ranges.at(-1);
        if (last && last.offsetBytes + last.lengthBytes === at + block) last.lengthBytes += end - block;
        else ranges.push({ offsetBytes: at + block, lengthBytes: end - block });
      }
    }
    return ranges;
  } finally {
    for (const file of files) await file.close();
  }
}

/** Writes a step into a copy of the disk. */
export async function applyStep(step: TraceStep, imagePath: string, signal: AbortSignal): Promise<void> {
  const bytes = await open(step.bytesPath, 'r');
  const image = await open(imagePath, 'r+');
  try {
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    for (const { offsetBytes, lengthBytes } of step.changed) {
      for (let at = 0; at < lengthBytes;) {
        signal.throwIfAborted();
        const { bytesRead } = await bytes.read(piece, 0, Math.min(PIECE_BYTES, lengthBytes - at), null);
        if (bytesRead === 0) throw new Error(`${step.bytesPath} ends early`);
        await image.write(piece, 0, bytesRead, offsetBytes + at);
        at += bytesRead;
      }
    }
  } finally {
    await bytes.close();
    await image.close();
  }
}
