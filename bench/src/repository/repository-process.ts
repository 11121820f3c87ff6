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
import type { BlockDevice, Extent } from '@lifeboat/foundation/block-device';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { newPointId, parseMachineId, type PointId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { copyDisk } from '@lifeboat/engine/restore/copy-disk';
import { initRepository, openRepository, type Repository } from '@lifeboat/repository/repository';
import type { BlobOpener } from '@lifeboat/repository/read/blob-opener';
import { threadOpener } from '@lifeboat/repository/read/thread-opener';
import { MapReader } from '@lifeboat/repository/read/map-reader';
import type { Point } from '@lifeboat/repository/read/point-reader';
import { buryPoint } from '@lifeboat/repository/collect/tombstones';
import type { BlobRef, Place } from '@lifeboat/repository/format/blob-ref';
import { MAX_INDEX_SEGMENT_ENTRIES } from '@lifeboat/repository/format/limits';
import { rootLevel } from '@lifeboat/repository/format/map-page';
import type { CheckLevel } from '@lifeboat/repository/format/verification';
import {
  chunkIdOf,
  packNameOf,
  packObject,
  packOfObject,
  PACKS,
  pointObject,
  pointsPrefix,
  type PackName,
} from '@lifeboat/repository/format/names';
import { IndexCache, localIndex } from '@lifeboat/repository/write/index-cache';
import { writeRun } from '@lifeboat/repository/write/index-run';
import { writeIndexSegment } from '@lifeboat/repository/write/index-segments';
import { defaultWriterLimits } from '@lifeboat/repository/write/limits';
import { MapBuilder } from '@lifeboat/repository/write/map-builder';
import { PackDeltas } from '@lifeboat/repository/write/pack-deltas';
import { PackSetWriter } from '@lifeboat/repository/write/pack-set-writer';
import { PackSizes } from '@lifeboat/repository/write/pack-sizes';
import { PageWriter } from '@lifeboat/repository/write/page-writer';
import { SessionFiles } from '@lifeboat/repository/write/session-files';
import { listNames, type ByteRange, type ObjectInfo, type StoreOptions } from '@lifeboat/repository/store/object-store';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import type { WriteDiskStats } from '@lifeboat/repository/write/disk-writer';
import { threadSealer } from '@lifeboat/repository/write/thread-sealer';
import { imageSource } from './image-source.ts';
import { serveS3 } from './s3-gateway.ts';

export interface RepositoryRequest {
  readonly verb: keyof ReturnType<typeof VERBS>;
  /** Holds the repository, its key, and the operation of the session. */
  readonly directory: string;
  readonly imagePath: string;
  readonly zstdLevel?: number;
  readonly chunkSizeBytes?: number;
  /** JSON of extents, for a backup of what is allocated only. */
  readonly allocationPath?: string;
  /** What changed since the machine's newest point, which is the parent then. */
  readonly changed?: 'all' | readonly ByteRange[];
  /** The same as JSON in a file, where it may be too long for a command line. */
  readonly changedPath?: string;
  /** Chunks of the parent compared with the source. */
  readonly auditChunks?: number;
  readonly targetPath?: string;
  /** Points to be made (`points`), reads (`reads`), chunks of a made-up index (`index`) or map (`maps`), packs of a made-up point (`packs`), of a journal (`journal`). */
  readonly count?: number;
  /** Packs that the store is to list beside its own. It says that it has any that is made up, and lets go of it. */
  readonly madeUpPacks?: number;
  readonly level?: CheckLevel;
  /** Random reads: through an S3 server over the directory. */
  readonly overS3?: boolean;
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
  /** Of random reads. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  readonly coldP50Ms?: number;
  readonly coldP99Ms?: number;
}

/** Counts what a person pays for. */
class CountingStore extends DirectoryStore {
  puts = 0;
  /** While points are made by the thousand: of the machine's points a listing names this one alone, or they would be listed a thousand times. */
  onlyPoint: string | undefined;

  override putIfAbsent(...args: Parameters<DirectoryStore['putIfAbsent']>): ReturnType<DirectoryStore['putIfAbsent']> {
    this.puts++;
    return super.putIfAbsent(...args);
  }

  override async *list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    if (this.onlyPoint !== undefined && prefix === pointsPrefix(MACHINE)) {
      const found = await super.head(this.onlyPoint);
      if (found) yield found;
      return;
    }
    yield* super.list(prefix, options);
    if (prefix !== PACKS) return;
    for (let i = 0; i < (request.madeUpPacks ?? 0); i++)
      yield { name: packObject(madeUpPack(i)), sizeBytes: MADE_UP_BYTES };
  }

  override async *names(prefix: string, options?: StoreOptions): AsyncIterable<string> {
    // What is left out or made up, is so in both.
    if (this.onlyPoint === undefined && prefix !== PACKS) yield* super.names(prefix, options);
    else yield* listNames({ list: this.list.bind(this) }, prefix, options);
  }

  override async head(name: string): Promise<ObjectInfo | undefined> {
    return isMadeUp(name) ? { name, sizeBytes: MADE_UP_BYTES } : super.head(name);
  }

  override async delete(name: string): Promise<void> {
    if (!isMadeUp(name)) await super.delete(name);
  }
}

const MACHINE = parseMachineId('bench');
const DISK = 'vda';
const READ_BYTES = 4 * KiB;
const MADE_UP = '0'.repeat(16);
const MADE_UP_BYTES = 32 * MiB;
/** As a writer has them. */
const PACK_CHANGES = 65_536;
const SEGMENT_CHUNKS = MAX_INDEX_SEGMENT_ENTRIES;
/** A tidy-up looks into one after the other. */
const SEGMENTS = 4;
/** Chunks of a journalled pack: more than a real one has, so that the making up takes less fsyncs. */
const JOURNAL_BLOBS = 512;
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

function VERBS() {
  return {
    init,
    backup,
    restore,
    verify,
    points,
    reads,
    index,
    packs,
    maps,
    journal,
    resume,
    condemn,
    compact,
    sweep,
  } satisfies Record<string, () => Promise<Partial<RepositoryReport>>>;
}

async function init(): Promise<Partial<RepositoryReport>> {
  await mkdir(storePath, { recursive: true });
  const chunk = request.chunkSizeBytes === undefined ? {} : { chunkSizeBytes: request.chunkSizeBytes };
  await (await initRepository({ store, secret: secret(), ...chunk })).close();
  return {};
}

async function backup(): Promise<Partial<RepositoryReport>> {
  const { zstdLevel, imagePath, auditChunks = 0 } = request;
  const said = await readChanged();
  const changed = said ?? 'all';
  const repository = await openRepository({
    store,
    secret: secret(),
    deps: {
      ...(zstdLevel === undefined ? {} : { sealer: threadSealer({ zstdLevel }) }),
      ...(request.indexDirectory === undefined ? {} : { indexDirectory: request.indexDirectory }),
    },
  });
  const { size: sizeBytes } = await stat(imagePath);
  const allocation = await readAllocation();
  const beganAtMs = systemClock.monotonicMs();
  const from = said === undefined ? undefined : await newestPoint(repository);
  const parent = from?.disks[0]?.root;
  const session = await repository.beginSession({
    machineId: MACHINE,
    directory: join(request.directory, 'operation'),
    parent: from?.pointId,
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

async function readChanged(): Promise<RepositoryRequest['changed']> {
  const { changed, changedPath } = request;
  return changedPath === undefined ? changed : (JSON.parse(await readFile(changedPath, 'utf8')) as ByteRange[]);
}

async function readAllocation(): Promise<Extent[] | undefined> {
  const { allocationPath } = request;
  return allocationPath === undefined ? undefined : (JSON.parse(await readFile(allocationPath, 'utf8')) as Extent[]);
}

function touches(range: ByteRange, chunk: number, chunkSizeBytes: number): boolean {
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
  const found = await repository.checkPoint(await newestPoint(repository), request.level ?? 'content', context);
  if (!found.sound) throw new Error(`the check found damage: ${JSON.stringify(found.objects)}`);
  await repository.close();
  return {};
}

/** Points of a machine on which nothing changes; then how long it takes to list and read them all. */
async function points(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const first = await newestPoint(repository);
  const { disks } = first;
  store.onlyPoint = pointObject(MACHINE, first.pointId);
  for (let i = 1; i < (request.count ?? 1); i++) {
    const session = await repository.beginSession({
      machineId: MACHINE,
      directory: join(request.directory, 'operation'),
    });
    // The clock of the names has seconds; the random part keeps them apart.
    const pointId = newPointId(systemClock.nowMs(), systemRandom);
    await session.commit({ pointId, machine: {}, capture: {}, disks });
    store.onlyPoint = pointObject(MACHINE, pointId);
  }
  store.onlyPoint = undefined;
  const beganAtMs = systemClock.monotonicMs();
  const found = await repository.points(MACHINE);
  const verbMs = systemClock.monotonicMs() - beganAtMs;
  if (found.length < (request.count ?? 1)) throw new Error(`${found.length} points were listed`);
  await repository.close();
  return { verbMs };
}

/**
 * Reads of 4 KiB at random places that hold data, one after the other. Cold: the repository is opened anew for each, so that neither pages of the map nor
 * keys of packs nor chunks are in memory (the page cache of the machine is). Warm: as a machine that runs from the point reads, after
 * as many reads that are not timed.
 */
async function reads(): Promise<Partial<RepositoryReport>> {
  const count = request.count ?? 1;
  // Its threads are started by the first read that is not timed.
  const opener = threadOpener();
  const keptOpen: BlobOpener = {
    open: (opening, sealed) => opener.open(opening, sealed),
    close: () => Promise.resolve(),
  };
  const gateway = request.overS3 ? await serveS3({ storePath, directory: request.directory }) : undefined;
  const from = gateway?.store ?? store;
  const open = async (): Promise<{ repository: Repository; device: BlockDevice }> => {
    const repository = await openRepository({ store: from, secret: secret(), deps: { opener: keptOpen } });
    return { repository, device: repository.openDisk(await newestPoint(repository), DISK) };
  };
  const data = (await readAllocation())?.filter(({ kind }) => kind === 'data') ?? [];
  const { repository, device } = await open();
  for (let i = 0; i < count; i++) await timeRead(device, data);
  const warm: number[] = [];
  for (let i = 0; i < count; i++) warm.push(await timeRead(device, data));
  await repository.close();
  const cold: number[] = [];
  for (let i = 0; i < count; i++) {
    const fresh = await open();
    cold.push(await timeRead(fresh.device, data));
    await fresh.repository.close();
  }
  await opener.close();
  await gateway?.stop();
  return {
    p50Ms: share(warm, 0.5),
    p99Ms: share(warm, 0.99),
    coldP50Ms: share(cold, 0.5),
    coldP99Ms: share(cold, 0.99),
  };
}

/** `data`: what is not empty; a read of nothing would measure nothing. Every block of it is as likely as any other. */
async function timeRead(device: BlockDevice, data: readonly Extent[]): Promise<number> {
  const extents = data.length > 0 ? data : [{ offsetBytes: 0, lengthBytes: device.sizeBytes }];
  const blocksOf = ({ lengthBytes }: { lengthBytes: number }): number => Math.floor(lengthBytes / READ_BYTES);
  let block = Math.floor(Math.random() * extents.reduce((sum, extent) => sum + blocksOf(extent), 0));
  const extent = extents.find((candidate) => {
    if (block < blocksOf(candidate)) return true;
    block -= blocksOf(candidate);
    return false;
  });
  const target = Buffer.alloc(READ_BYTES);
  const beganAtMs = systemClock.monotonicMs();
  await device.read((extent?.offsetBytes ?? 0) + block * READ_BYTES, target);
  return systemClock.monotonicMs() - beganAtMs;
}

function share(times: readonly number[], part: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * part)] ?? Number.NaN;
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

/** A point of a disk that holds nothing, and is said to need so many made-up packs: counted, sorted and written as a backup does. */
async function packs(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  await commitMadeUp(repository, async (deltas) => {
    for (let i = 0; i < (request.count ?? 1); i++) {
      deltas.addPack(madeUpPack(i), 31);
      if (deltas.isFull) await deltas.spill();
    }
    return { sizeBytes: MiB, map: 'hole' };
  });
  await repository.close();
  return {};
}

/**
 * A point whose map names so many made-up chunks, a half of each made-up pack, and a third of what the oldest point holds; it stays
 * alone. So all packs are dead in part, and what was really stored most of all.
 */
async function maps(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const { core, chunkSizeBytes } = repository;
  const points = await repository.points();
  const stored = await someStored(repository, points[0]?.pointId);
  const count = request.count ?? 1;
  const sizeBytes = count * chunkSizeBytes;
  await commitMadeUp(repository, async (deltas) => {
    const { superblock } = core;
    const { leafEntries } = superblock;
    const pages = madeUpPages(repository, 'map');
    const builder = new MapBuilder({
      geometry: superblock,
      rootLevel: rootLevel(superblock, count),
      base: undefined,
      pages,
      deltas,
    });
    for (let leaf = 0; leaf * leafEntries < count; leaf++) {
      const own = stored.slice(leaf * leafEntries, (leaf + 1) * leafEntries);
      const madeUp = madeUpRefs(
        leaf * leafEntries + own.length,
        Math.min(leafEntries, count - leaf * leafEntries) - own.length,
      );
      const places = [...own, ...madeUp];
      const rest = Array.from({ length: leafEntries - places.length }, () => 'hole' as const);
      await builder.putLeaf(leaf, [...places, ...rest]);
      if (deltas.isFull) await deltas.spill();
    }
    const map = await builder.finish();
    await pages.flush();
    for (const { pack, pages: added } of pages.packs) deltas.addPack(pack, added);
    return { sizeBytes, map: typeof map === 'string' ? map : { ...map } };
  });
  for (const { machineId, pointId } of points)
    if (machineId && pointId)
      await buryPoint(core, { machineId, pointId, by: 'bench', reason: 'only the newest stays' });
  await repository.close();
  return {};
}

/** Every third chunk of a point. */
async function someStored(repository: Repository, pointId: PointId | undefined): Promise<BlobRef[]> {
  if (!pointId) throw new Error('there is no point yet');
  const [disk] = (await repository.readPoint(MACHINE, pointId)).disks;
  const { pages, superblock } = repository.core;
  if (!disk) throw new Error(`point ${pointId} has no disk`);
  const map = new MapReader({ root: disk.root, pages, geometry: superblock, what: 'the first disk' });
  const found: BlobRef[] = [];
  for await (const { places } of map.runs(0, map.chunkCount))
    if (Array.isArray(places)) found.push(...(places as Place[]).filter((place) => typeof place === 'object'));
  return found.filter((_, i) => i % 3 === 0);
}

function madeUpPages({ core, chunkSizeBytes }: Repository, kind: 'map' | 'set'): PageWriter {
  const { tenantId, chunkIdKey } = core.keyring;
  const baseKey = core.keyring.machineKey(MACHINE);
  return new PageWriter({
    owner: { kind, tenantId, chunkIdKey, baseKey, generation: new Uint8Array(0), access: { machineId: MACHINE } },
    compression: core.zstd(1),
    packBytes: defaultWriterLimits(chunkSizeBytes).pagePackBytes,
    async upload(pack, bytes) {
      await store.putIfAbsent(packObject(pack.name), [bytes]);
      return 'stored';
    },
  });
}

/** `count`: adds what the disk needs, and says what it is. */
async function commitMadeUp(
  repository: Repository,
  count: (deltas: PackDeltas) => Promise<{ sizeBytes: number; map: Place }>,
): Promise<void> {
  const { core } = repository;
  const directory = join(request.directory, 'operation');
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  const deltas = new PackDeltas({ directory, maxPacks: PACK_CHANGES, random: systemRandom });
  const { sizeBytes, map } = await count(deltas);
  const sizes = new PackSizes();
  for await (const object of store.list(PACKS)) {
    const pack = packOfObject(object.name);
    if (pack) sizes.set(pack, object.sizeBytes);
  }
  const pages = madeUpPages(repository, 'set');
  const { packSetEntries: maxPacks } = core.superblock;
  const sizeOf = (pack: PackName): number => sizes.get(pack) ?? 0;
  const writer = new PackSetWriter({ pages: core.pages, writer: pages, maxPacks, sizeOf });
  const set = await writer.update(null, deltas.sorted());
  await pages.flush();
  await deltas.close();
  for (let sequence = 0; sequence < SEGMENTS; sequence++)
    await writeIndexSegment(core, {
      sessionId: session.sessionId,
      sequence,
      refs: madeUpRefs(sequence * SEGMENT_CHUNKS, SEGMENT_CHUNKS),
    });
  const root = { sizeBytes, chunkSizeBytes: repository.chunkSizeBytes, map, packs: set && { ...set } };
  const pointId = newPointId(systemClock.nowMs() + 1000, systemRandom);
  await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: DISK, root }] });
}

/** The journal of a session that was killed after so many packs, none of which the store has; it says it has them all. */
async function journal(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const directory = join(request.directory, 'resumed');
  await (await repository.beginSession({ machineId: MACHINE, directory })).detach();
  const files = new SessionFiles({ directory, tenantId: repository.core.keyring.tenantId, machineId: MACHINE });
  for await (const { pack } of files.openJournal())
    throw new Error(`pack ${pack} lies in a journal that was just begun`);
  for (let i = 0; i < (request.count ?? 1); i++) {
    const pack = madeUpPack(i);
    const blobs = madeUpRefs(i * JOURNAL_BLOBS, JOURNAL_BLOBS).map((ref) => ({ ...ref, pack }));
    await files.append({ pack, sizeBytes: MADE_UP_BYTES, blobs });
  }
  await files.close();
  await repository.close();
  return {};
}

async function resume(): Promise<Partial<RepositoryReport>> {
  const { indexDirectory } = request;
  const repository = await openRepository({
    store,
    secret: secret(),
    deps: indexDirectory === undefined ? {} : { indexDirectory },
  });
  const session = await repository.beginSession({ machineId: MACHINE, directory: join(request.directory, 'resumed') });
  await session.abandon();
  await repository.close();
  return {};
}

async function condemn(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const { state, livePacks, deadPacks } = await repository.condemn();
  if (state !== 'published') throw new Error(`the list is '${state}': ${livePacks} packs are alive, ${deadPacks} dead`);
  await repository.close();
  return {};
}

/** What cannot be read stays as it is, and that is every made-up pack. */
async function compact(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const { state, compaction } = await repository.condemn({ compact: {} });
  if (state !== 'published' || !compaction?.packs)
    throw new Error(`the list is '${state}', and ${compaction?.packs} packs were written anew`);
  await repository.close();
  return {};
}

async function sweep(): Promise<Partial<RepositoryReport>> {
  const repository = await openRepository({ store, secret: secret() });
  const { state } = await repository.sweep();
  if (state !== 'swept') throw new Error(`the sweep is '${state}'`);
  await repository.close();
  return {};
}

function madeUpRefs(first: number, count: number): BlobRef[] {
  return Array.from({ length: count }, (_, i) => {
    const id = chunkIdOf(
      createHash('sha256')
        .update(`chunk ${first + i}`)
        .digest(),
    );
    return {
      id,
      pack: madeUpPack(Math.floor((first + i) / 32)),
      slot: i % 32,
      offsetBytes: (i % 32) * MiB,
      lengthBytes: MiB / 2,
    };
  });
}

/** Names that a store can tell from real ones. */
function madeUpPack(i: number): PackName {
  return packNameOf(
    createHash('sha256')
      .update(`pack ${i}`)
      .digest()
      .fill(0, 32 - MADE_UP.length / 2),
  );
}

function isMadeUp(object: string): boolean {
  return object.startsWith(PACKS) && object.endsWith(MADE_UP);
}

async function newestPoint(repository: Repository): Promise<Point> {
  const newest = await repository.newestPoint(MACHINE);
  if (!newest) throw new LifeboatError('repository.point-missing', `${storePath} has no readable point`);
  return newest;
}

function secret(): { keyFile: string } {
  return { keyFile: join(request.directory, 'repository.key') };
}

async function peakMemory(): Promise<number> {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  return Math.round((Number(kibibytes) * KiB) / MiB) * MiB;
}
