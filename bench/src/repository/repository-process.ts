/**
 * One verb of our side in a process of its own, so that it is measured as every other program is, its start included:
 *
 *   node repository-process.ts REQUEST-AS-JSON
 *
 * Prints one JSON object (`RepositoryReport`).
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
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
import { packNameOf, packObject, PACKS, type PackName } from '@lifeboat/repository/format/names';
import { IndexCache, localIndex } from '@lifeboat/repository/write/index-cache';
import { writeRun } from '@lifeboat/repository/write/index-run';
import type { ObjectInfo, StoreOptions } from '@lifeboat/repository/store/object-store';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import type { WriteDiskStats } from '@lifeboat/repository/write/disk-writer';
import { threadSealer } from '@lifeboat/repository/write/thread-sealer';
import { imageSource } from './image-source.ts';

export interface RepositoryRequest {
  readonly verb: 'init' | 'backup' | 'restore' | 'verify' | 'points' | 'reads' | 'index';
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
  /** Points to be made (`points`), reads (`reads`), chunks of a made-up index (`index`). */
  readonly count?: number;
  /** Packs that the store is to list beside its own. */
  readonly madeUpPacks?: number;
  readonly indexDirectory?: string;
}

export interface RepositoryReport {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  readonly stats?: WriteDiskStats;
  readonly puts?: number;
  /** Of the verb itself: what began before and ends after it is left out. */
  readonly verbMs?: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
}

/** Counts what a person pays for. */
class CountingStore extends DirectoryStore {
  puts = 0;

  override putIfAbsent(...args: Parameters<DirectoryStore['putIfAbsent']>): ReturnType<DirectoryStore['putIfAbsent']> {
    this.puts++;
    return super.putIfAbsent(...args);
  }

  override async *list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    yield* super.list(prefix, options);
    if (prefix !== PACKS) return;
    for (let i = 0; i < (request.madeUpPacks ?? 0); i++) yield { name: packObject(madeUpPack(i)), sizeBytes: 32 * MiB };
  }
}

const MACHINE = parseMachineId('bench');
const DISK = 'vda';
const READ_BYTES = 4 * KiB;
/** Chunk id, pack, slot, offset, length: as a run of the local index has them. */
const RECORD_BYTES = 76;
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
  return { init, backup, restore, verify, points, reads, index };
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
    deps: {
      ...(zstdLevel === undefined ? {} : { sealer: threadSealer({ zstdLevel }) }),
      ...(request.indexDirectory === undefined ? {} : { indexDirectory: request.indexDirectory }),
    },
  });
  const { size: sizeBytes } = await stat(imagePath);
  const allocation = allocationPath ? (JSON.parse(await readFile(allocationPath, 'utf8')) as Extent[]) : undefined;
  const beganAtMs = systemClock.monotonicMs();
  const parent = request.changed === undefined ? undefined : (await newestPoint(repository)).disks[0]?.root;
  const session = await repository.beginSession({
    machineId: MACHINE,
    directory: join(request.directory, 'operation'),
  });
  if (parent && auditChunks > 0) {
    const chunkIndexes = Array.from({ length: auditChunks }, (_, i) =>
      Math.floor(((i + 0.5) * sizeBytes) / auditChunks / parent.chunkSizeBytes),
    ).filter((chunk) => changed !== 'all' && !changed.some((range) => touches(range, chunk, parent.chunkSizeBytes)));
    const { mismatches } = await session.compare({ parent, source: imageSource(imagePath), chunkIndexes }, context);
    if (mismatches.length > 0) throw new Error(`the audit found ${mismatches.length} chunks that changed untold`);
  }
  const { root, stats } = await session.writeDisk(
    { name: DISK, sizeBytes, source: imageSource(imagePath), changed, parent, allocation },
    context,
  );
  const pointId = newPointId(systemClock.nowMs(), systemRandom);
  await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: DISK, root }] });
  const verbMs = systemClock.monotonicMs() - beganAtMs;
  await repository.close();
  const indexes = request.indexDirectory === undefined ? [] : await readdir(request.indexDirectory);
  if (indexes.length > 1)
    throw new Error(`the writer used another index than the one that was made up: ${indexes.join(', ')}`);
  return { stats, puts: store.puts, verbMs };
}

function touches(range: { offsetBytes: number; lengthBytes: number }, chunk: number, chunkSizeBytes: number): boolean {
  const { offsetBytes, lengthBytes } = range;
  return offsetBytes < (chunk + 1) * chunkSizeBytes && chunk * chunkSizeBytes < offsetBytes + lengthBytes;
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

/** Points of a machine on which nothing changes; then how long it takes to list them all. */
async function points(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const { disks } = await newestPoint(repository);
  for (let i = 1; i < (request.count ?? 1); i++) {
    const session = await repository.beginSession({
      machineId: MACHINE,
      directory: join(request.directory, 'operation'),
    });
    // The clock of the names has seconds; the random part keeps them apart.
    const pointId = newPointId(systemClock.nowMs(), systemRandom);
    await session.commit({ pointId, machine: {}, capture: {}, disks });
  }
  const beganAtMs = systemClock.monotonicMs();
  const found = await repository.points(MACHINE);
  const verbMs = systemClock.monotonicMs() - beganAtMs;
  if (found.length < (request.count ?? 1)) throw new Error(`${found.length} points were listed`);
  await repository.close();
  return { verbMs };
}

/** Reads of 4 KiB at random places, one after the other, with nothing kept from one to the next ("cold") or with the usual cache. */
async function reads(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const device = repository.openDisk(await newestPoint(repository), DISK);
  const target = Buffer.alloc(READ_BYTES);
  const random = new DataView(Uint8Array.from(systemRandom.bytes(4 * (request.count ?? 1))).buffer);
  const times: number[] = [];
  for (let i = 0; i < (request.count ?? 1); i++) {
    const place = Math.floor((random.getUint32(4 * i) / 2 ** 32) * Math.floor(device.sizeBytes / READ_BYTES));
    const beganAtMs = systemClock.monotonicMs();
    await device.read(place * READ_BYTES, target);
    times.push(systemClock.monotonicMs() - beganAtMs);
  }
  await repository.close();
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** A local index of so many chunks nobody stored, evenly spread as real ids are, in the packs that `madeUpPack` names. */
async function index(): Promise<Partial<RepositoryReport>> {
  const { count = 1, madeUpPacks = 1, indexDirectory = '' } = request;
  const repository = await openRepository({ store, secret: secret() });
  const { directory, key, ...deps } = localIndex(repository.core, indexDirectory);
  await mkdir(directory, { recursive: true });
  const file = `run-${'0'.repeat(32)}`;
  const packs = Array.from({ length: Math.min(madeUpPacks, 65_536) }, (_, i) => Buffer.from(madeUpPack(i), 'hex'));
  const records = function* (): Generator<Buffer> {
    const record = Buffer.alloc(RECORD_BYTES);
    for (let i = 0; i < count; i++) {
      record.writeUIntBE(Math.floor((i / count) * 2 ** 48), 0, 6);
      record.writeUInt32BE(i, 6);
      packs[i % packs.length]?.copy(record, 32);
      record.writeUInt32BE(i % 32, 64);
      record.writeUInt32BE((i % 32) * MiB, 68);
      record.writeUInt32BE(MiB / 2, 72);
      yield record;
    }
  };
  await writeRun(join(directory, file), key, records());
  await writeFile(join(directory, 'manifest.json'), JSON.stringify({ runs: [{ file, segments: [] }] }));
  const made = await IndexCache.open({ directory, key, ...deps });
  if (made.count !== count) throw new Error(`the index holds ${made.count} chunks instead of ${count}`);
  await made.close();
  await repository.close();
  return {};
}

function madeUpPack(i: number): PackName {
  return packNameOf(createHash('sha256').update(`pack ${i}`).digest());
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
