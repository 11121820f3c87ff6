/**
 * One verb of our side in a process of its own, so that it is measured as every other program is, its start included:
 *
 *   node repository-process.ts REQUEST-AS-JSON
 *
 * Prints one JSON object (`RepositoryReport`).
 */
import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extent } from '@lifeboat/foundation/block-device';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { newPointId, parseMachineId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { copyDisk } from '@lifeboat/engine/restore/copy-disk';
import { initRepository, openRepository, type Repository } from '@lifeboat/repository/repository';
import type { Point } from '@lifeboat/repository/read/point-reader';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import type { WriteDiskStats } from '@lifeboat/repository/write/disk-writer';
import { threadSealer } from '@lifeboat/repository/write/thread-sealer';
import { imageSource } from './image-source.ts';

export interface RepositoryRequest {
  readonly verb: 'init' | 'backup' | 'restore' | 'verify';
  /** Holds the repository, its key, and the operation of the session. */
  readonly directory: string;
  readonly imagePath: string;
  readonly zstdLevel?: number;
  readonly chunkSizeBytes?: number;
  /** JSON of extents, for a backup of what is allocated only. */
  readonly allocationPath?: string;
  /** What changed since the machine's newest point, which is the parent then. */
  readonly changed?: 'all' | readonly { readonly offsetBytes: number; readonly lengthBytes: number }[];
  /** Chunks of the parent compared with the source. */
  readonly auditChunks?: number;
  readonly targetPath?: string;
}

export interface RepositoryReport {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  readonly stats?: WriteDiskStats;
  readonly puts?: number;
}

/** Counts what a person pays for. */
class CountingStore extends DirectoryStore {
  puts = 0;

  override putIfAbsent(...args: Parameters<DirectoryStore['putIfAbsent']>): ReturnType<DirectoryStore['putIfAbsent']> {
    this.puts++;
    return super.putIfAbsent(...args);
  }
}

const MACHINE = parseMachineId('bench');
const DISK = 'vda';
const signal = new AbortController().signal;
const context = { signal, progress: () => {} };
const request = JSON.parse(process.argv[2] ?? '{}') as RepositoryRequest;
const storePath = join(request.directory, 'repository');
const store = new CountingStore(storePath);

const beganMs = systemClock.monotonicMs();
const details = await VERBS()[request.verb]();
const { user, system } = process.cpuUsage();
const report: RepositoryReport = {
  wallMs: systemClock.monotonicMs() - beganMs,
  cpuMs: (user + system) / 1000,
  peakBytes: await peakMemory(),
  ...details,
};
process.stdout.write(`${JSON.stringify(report)}\n`);

function VERBS(): Readonly<Record<RepositoryRequest['verb'], () => Promise<Partial<RepositoryReport>>>> {
  return { init, backup, restore, verify };
}

async function init(): Promise<Partial<RepositoryReport>> {
  await mkdir(storePath, { recursive: true });
  const chunk = request.chunkSizeBytes === undefined ? {} : { chunkSizeBytes: request.chunkSizeBytes };
  await (await initRepository({ store, secret: secret(), ...chunk })).close();
  return {};
}

async function backup(): Promise<Partial<RepositoryReport>> {
  const { zstdLevel, allocationPath, imagePath, changed = 'all', auditChunks = 0 } = request;
  const repository = await openRepository({
    store,
    secret: secret(),
    deps: zstdLevel === undefined ? {} : { sealer: threadSealer({ zstdLevel }) },
  });
  const { size: sizeBytes } = await stat(imagePath);
  const allocation = allocationPath ? (JSON.parse(await readFile(allocationPath, 'utf8')) as Extent[]) : undefined;
  const parent = request.changed === undefined ? undefined : (await newestPoint(repository)).disks[0]?.root;
  const session = await repository.beginSession({
    machineId: MACHINE,
    directory: join(request.directory, 'operation'),
  });
  if (parent && auditChunks > 0) {
    const chunkIndexes = Array.from({ length: auditChunks }, (_, i) =>
      Math.floor(((i + 0.5) * sizeBytes) / auditChunks / parent.chunkSizeBytes),
    );
    const { mismatches } = await session.compare({ parent, source: imageSource(imagePath), chunkIndexes }, context);
    if (mismatches.length > 0) throw new Error(`the audit found ${mismatches.length} chunks that changed untold`);
  }
  const { root, stats } = await session.writeDisk(
    { name: DISK, sizeBytes, source: imageSource(imagePath), changed, parent, allocation },
    context,
  );
  const pointId = newPointId(systemClock.nowMs(), systemRandom);
  await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: DISK, root }] });
  await repository.close();
  return { stats, puts: store.puts };
}

async function restore(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const device = repository.openDisk(await newestPoint(repository), DISK);
  const path = request.targetPath ?? '';
  const file = await open(path, 'wx');
  await file.truncate(device.sizeBytes);
  await file.close();
  const target = await openFileDevice(path, { writable: true });
  await copyDisk(device, target, { targetIsBlank: true, name: DISK }, context);
  await target.close();
  await repository.close();
  return {};
}

async function verify(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const found = await repository.checkPoint(await newestPoint(repository), 'content', context);
  if (!found.sound) throw new Error(`the check found damage: ${JSON.stringify(found.objects)}`);
  await repository.close();
  return {};
}

async function newestPoint(repository: Repository): Promise<Point> {
  const newest = (await repository.points(MACHINE)).at(-1);
  if (newest?.state !== 'readable') {
    throw new LifeboatError('repository.point-missing', `${storePath} has no readable point`);
  }
  return repository.readPoint(MACHINE, newest.pointId);
}

function secret(): { keyFile: string } {
  return { keyFile: join(request.directory, 'repository.key') };
}

async function peakMemory(): Promise<number> {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  return Math.round((Number(kibibytes) * KiB) / MiB) * MiB;
}
