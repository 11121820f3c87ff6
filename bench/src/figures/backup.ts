/**
 * A full backup against the least that any backup must do: read the same export, compress what was read.
 *
 *   ours:    captureMachine into an empty repository, in a process of its own that has the agent's modules loaded
 *   theirs:  nbdcopy of the export of a libvirt backup job, to null   +   zstd -1 of the allocated data, from the page cache
 */
import { open, rm, type FileHandle } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@lifeboat/foundation/clock';
import { newPointId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { giveToQemu } from '@lifeboat/host/state';
import { configurationEnvironment } from '@lifeboat/runtime/configuration';
import { type BenchGuest, pausedGuest } from '../bench-guest.ts';
import type { BenchLab } from '../bench-lab.ts';
import type { CaptureProcessReport } from '../capture-process.ts';
import { type Figure, median, pairRatios } from '../series.ts';
import { timeTool, type ToolTime } from '../timed-tool.ts';

const LIMIT_MS = 20 * 60_000;
const PIECE_BYTES = 8 * MiB;
const CAPTURE_PROCESS = fileURLToPath(new URL('../capture-process.ts', import.meta.url));
const AGENT_MODULE = new URL('../../../agent/src/agent-process.ts', import.meta.url).href;
const MEMORY_GOAL_MB = 400;

export async function backupFigure(lab: BenchLab, repeat: number): Promise<Figure> {
  const guest = await pausedGuest(lab);
  const flatPath = join(await lab.directory('flat'), 'data');
  const dataBytes = await whileExported(lab, guest, (uri) => copyData(lab, uri, flatPath));
  // Through the shell's redirection: as root, `zstd -o /dev/null` gives the device the permissions of the file it reads.
  const zstd = ['zstd', '-1', `-T${cpus().length}`, '-q', '-c'];
  const zstdToNull = ['sh', '-c', `exec ${zstd.join(' ')} "$0" > /dev/null`, flatPath];
  await timeTool(zstdToNull, lab.signal); // both sides read from the page cache
  const ours: CaptureProcessReport[] = [];
  const copies: ToolTime[] = [];
  const compressions: ToolTime[] = [];
  const theirSide = async (): Promise<void> => {
    copies.push(await whileExported(lab, guest, (uri) => timeTool(['nbdcopy', uri, 'null:'], lab.signal)));
    compressions.push(await timeTool(zstdToNull, lab.signal));
  };
  for (let round = 0; round < repeat; round++) {
    lab.say(`backup: round ${round + 1} of ${repeat}`);
    // Who begins alternates, so that neither side always follows the other.
    if (round % 2 === 1) await theirSide();
    ours.push(await captureFresh(lab, guest));
    if (round % 2 === 0) await theirSide();
  }
  await guest.remove();

  const wall = { ours: ours.map(({ wallMs }) => wallMs / 1000), theirs: sums(copies, compressions, 'wallSeconds') };
  const cpu = { ours: ours.map(({ cpuMs }) => cpuMs / 1000), theirs: sums(copies, compressions, 'cpuSeconds') };
  const peaks = ours.map(({ peakBytes }) => peakBytes / 1e6);
  const [first] = ours;
  const seconds = { unit: 's', digits: 2 };
  return {
    title: 'Full backup against nbdcopy and zstd -1',
    method: [
      `Guest: the demo's, started and paused, its disk on AHCI as qcow2; ${formatBytes(dataBytes)} of data; Lifeboat read ${formatBytes(first?.readBytes ?? 0)} and stored ${formatBytes(first?.storedBytes ?? 0)}`,
      'Lifeboat: the verb captureMachine from begin to commit into an empty repository, in its own process',
      `Against it: \`nbdcopy EXPORT null:\` of the same kind of export (a libvirt backup job on the same paused guest), plus \`${zstd.join(' ')}\` of the allocated data as one file from the page cache to /dev/null`,
      'CPU times are those of the programs; what QEMU needs to serve the export is in neither',
      'Resident memory: VmHWM of the process of the capture, in which all modules of the agent are loaded',
    ],
    series: [
      { label: 'Lifeboat, wall clock', ...seconds, values: wall.ours },
      { label: 'nbdcopy, wall clock', ...seconds, values: copies.map(({ wallSeconds }) => wallSeconds) },
      { label: 'zstd, wall clock', ...seconds, values: compressions.map(({ wallSeconds }) => wallSeconds) },
      { label: 'nbdcopy + zstd, wall clock', ...seconds, values: wall.theirs },
      { label: 'Lifeboat, CPU', ...seconds, values: cpu.ours },
      { label: 'nbdcopy + zstd, CPU', ...seconds, values: cpu.theirs },
      { label: 'Ratio of wall clocks', unit: '', digits: 2, values: pairRatios(wall.ours, wall.theirs) },
      { label: 'Peak resident memory', unit: 'MB', digits: 0, values: peaks },
      {
        label: 'Resident memory before the capture',
        unit: 'MB',
        digits: 0,
        values: ours.map(({ idleBytes }) => idleBytes / 1e6),
      },
    ],
    verdicts: [
      { label: 'Wall clock, ratio of medians', unit: '', digits: 2, value: median(wall.ours) / median(wall.theirs) },
      { label: 'CPU, ratio of medians', unit: '', digits: 2, value: median(cpu.ours) / median(cpu.theirs) },
      {
        label: 'Peak resident memory, highest',
        unit: 'MB',
        digits: 0,
        value: Math.max(...peaks),
        below: MEMORY_GOAL_MB,
      },
    ],
  };
}

async function captureFresh(lab: BenchLab, guest: BenchGuest): Promise<CaptureProcessReport> {
  const operation = lab.opId('full');
  const configuration = lab.withRepository(`repository-${operation}`);
  const { stdout } = await runTool(process.execPath, [CAPTURE_PROCESS, guest.name, operation, AGENT_MODULE], {
    env: configurationEnvironment(configuration),
    timeoutMs: LIMIT_MS,
    signal: lab.signal,
  });
  const { place } = configuration.repository;
  if (place.kind === 'directory') await rm(place.path, { recursive: true });
  const { id } = guest;
  for (const pointId of await lab.hypervisor.listCheckpoints(id)) await lab.hypervisor.deleteCheckpoint(id, pointId);
  return JSON.parse(stdout) as CaptureProcessReport;
}

/** The export that a capture would read, for another program. */
async function whileExported<T>(lab: BenchLab, guest: BenchGuest, use: (uri: string) => Promise<T>): Promise<T> {
  const { hypervisor, signal } = lab;
  const directory = await lab.directory('export');
  await giveToQemu(directory);
  const pointId = newPointId(systemClock.nowMs(), systemRandom);
  const job = await hypervisor.beginBackup(
    { machineId: guest.id, pointId, incrementalDisks: [], directory, freeze: false },
    { signal },
  );
  try {
    const [disk] = job.disks;
    if (!disk) throw new Error(`${guest.name} exports no disk`);
    return await use(`nbd+unix:///${disk.exportName}?socket=${disk.socketPath}`);
  } finally {
    await hypervisor.endBackup(guest.id, directory);
    await hypervisor.deleteCheckpoint(guest.id, pointId);
    await rm(directory, { recursive: true });
  }
}

/** The allocated data of an export, one extent after the other, as libnbd's tools see them. Returns its bytes. */
async function copyData(lab: BenchLab, uri: string, flatPath: string): Promise<number> {
  const tool = { timeoutMs: LIMIT_MS, signal: lab.signal };
  const rawPath = `${flatPath}.raw`;
  await runTool('nbdcopy', [uri, rawPath], tool);
  const { stdout } = await runTool('nbdinfo', ['--json', '--map', uri], { ...tool, maxOutputBytes: 64 * MiB });
  const extents = JSON.parse(stdout) as { offset: number; length: number; description: string }[];
  const raw = await open(rawPath, 'r');
  const flat = await open(flatPath, 'w', 0o600);
  let dataBytes = 0;
  try {
    for (const { offset, length, description } of extents) {
      if (description !== 'data') continue;
      await copyRange(raw, flat, { offset, length, signal: lab.signal });
      dataBytes += length;
    }
  } finally {
    await raw.close();
    await flat.close();
  }
  await rm(rawPath);
  return dataBytes;
}

async function copyRange(
  from: FileHandle,
  to: FileHandle,
  range: { offset: number; length: number; signal: AbortSignal },
): Promise<void> {
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  const end = range.offset + range.length;
  for (let at = range.offset; at < end;) {
    range.signal.throwIfAborted();
    const { bytesRead } = await from.read(piece, 0, Math.min(piece.length, end - at), at);
    if (bytesRead === 0) throw new Error(`the copy of the export ends at byte ${at}, before ${end}`);
    await to.writeFile(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
}

function sums(left: readonly ToolTime[], right: readonly ToolTime[], field: keyof ToolTime): number[] {
  return left.map((time, index) => time[field] + (right[index]?.[field] ?? Number.NaN));
}
