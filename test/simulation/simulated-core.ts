/** The real repository over a simulated world: everything but the store, the clock, randomness and what production does in threads. */
import { createHash } from 'node:crypto';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { silentLog } from '@lifeboat/foundation/log';
import type { SafetyRules } from '@lifeboat/repository/collect/rules';
import type { Core } from '@lifeboat/repository/core';
import { hex, keySetObject, keySetOfObject, keySetsPrefix, type ChunkId } from '@lifeboat/repository/format/names';
import type { BlobOpener } from '@lifeboat/repository/read/blob-opener';
import { BlobReader } from '@lifeboat/repository/read/blob-reader';
import { DiskReader } from '@lifeboat/repository/read/disk-reader';
import { MapReader } from '@lifeboat/repository/read/map-reader';
import { PageReader } from '@lifeboat/repository/read/page-reader';
import type { Point } from '@lifeboat/repository/read/point-reader';
import { Relocations } from '@lifeboat/repository/read/relocations';
import { chunkId, openBlob } from '@lifeboat/repository/seal/blob-seal';
import type { Compression } from '@lifeboat/repository/seal/codec';
import { CurrentKeys } from '@lifeboat/repository/seal/current-keys';
import { newestGeneration } from '@lifeboat/repository/seal/key-store';
import type { ObjectStore } from '@lifeboat/repository/store/object-store';
import { PackBuilder } from '@lifeboat/repository/write/pack-builder';
import type { Sealer } from '@lifeboat/repository/write/sealer';
import type { LaneConfig, SealingLane } from '@lifeboat/repository/write/sealing-lane';
import { noTimes } from '@lifeboat/repository/write/stage-times';

import { Remembered } from './remembered.ts';
import { TENANT_ID, type Learning, type SimulatedAgentKeyring, type SimulatedKeyring } from './simulated-keys.ts';
import { storeOf, type Process, type World } from './world.ts';

export const CHUNK_BYTES = 64;
export const LIMITS = { stripeChunks: 2, packBytes: 1024, spareBuffers: 1, waitingLeaves: 3, pagePackBytes: 4096 };

const fixed = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);
const superblock = {
  repositoryId: fixed(16, 1),
  tenantId: TENANT_ID,
  createdMs: 0,
  chunkSizeBytes: CHUNK_BYTES,
  leafEntries: 2,
  branchEntries: 2,
  packSetEntries: 4,
  capabilities: 1,
};
/** Chunks of 64 bytes that do not compress: nothing would be stored compressed anyway. */
const raw: Compression = {
  compress: (plain) => plain,
  decompress: (packed) => packed,
};

type Opened = Awaited<ReturnType<BlobOpener['open']>>;
const opened = new Remembered<string, { readonly sealed: Uint8Array; readonly result: Opened }>();
/** Opens the real seals, those of the same bytes under the same key once. */
const opener: BlobOpener = {
  open(opening, sealed) {
    const { key, kind, id, slot, plain } = opening;
    const at = `${hex(key)} ${kind} ${id} ${slot} ${JSON.stringify(plain)}`;
    const { result } = opened.ofSame(
      at,
      (known) => Buffer.compare(known.sealed, sealed) === 0,
      () => ({ sealed: new Uint8Array(sealed), result: openBlob(opening, sealed, raw) }),
    );
    // Whoever reads it may wipe it.
    return Promise.resolve('plain' in result ? { plain: new Uint8Array(result.plain) } : result);
  },
  close: () => Promise.resolve(),
};

const chunkIds = new Remembered<string, ChunkId>();
const idOf = (chunkIdKey: Uint8Array, plain: Buffer): ChunkId =>
  chunkIds.of(plain.toString('latin1'), () => chunkId(chunkIdKey, plain));

/** A repository as one process has it open: its caches are its own. */
export function openSimulated(
  world: World,
  process: Process,
  how: {
    readonly rules: SafetyRules;
    readonly keyring: SimulatedKeyring | SimulatedAgentKeyring;
    /** Whether it asks for epochs that came since. */
    readonly learns: boolean;
  },
): Core {
  const { rules, keyring } = how;
  const clock = {
    nowMs: () => Math.floor(world.nowMs + process.skewMs),
    monotonicMs: () => world.nowMs,
    sleep: () => world.pause(process),
  };
  const bytes = (length: number): Uint8Array =>
    createHash('shake128', { outputLength: length }).update(`${world.random()} ${world.step}`).digest();
  const store = storeOf(world, process);
  const refreshKeys = how.learns ? learning(store, keyring) : unchanging;
  const relocations = new Relocations({ store, keyring, log: silentLog });
  const blobs = new BlobReader({ store, keyring, refreshKeys, relocations, opener });
  const pages = new PageReader(blobs, superblock);
  return {
    store,
    superblock,
    keyring,
    refreshKeys,
    blobs,
    pages,
    relocations,
    clock,
    random: { bytes },
    log: silentLog,
    zstd: () => raw,
    rules,
  };
}

/** Where no key is rotated. */
const unchanging = (): Promise<void> => Promise.resolve();

/** Asks for new epochs as production does. What a key set holds are scrypt's and curves' matters: here its name says the epoch. */
function learning(store: ObjectStore, keyring: Learning): () => Promise<void> {
  const tenant = hex(TENANT_ID);
  const keys = new CurrentKeys({
    store,
    tenant,
    generation: keyring.epoch,
    learn: async (known) => {
      const newest = await newestGeneration(store, tenant);
      keyring.learn(newest);
      return Math.max(known, newest);
    },
  });
  return () => keys.refresh();
}

/** What a rotation does. */
export async function putKeySet(store: ObjectStore, epoch: number): Promise<void> {
  await store.putIfAbsent(keySetObject(hex(TENANT_ID), epoch, 'a'), [Buffer.from('keys')]);
}

/** The newest there is, for who opens the repository now. */
export function epochOf({ objects }: World): number {
  const epochs = [...objects.names(keySetsPrefix(hex(TENANT_ID)))].map((name) => keySetOfObject(name)?.generation ?? 0);
  return Math.max(1, ...epochs);
}

/** Every disk has this name. */
export const DISK = 'vda';

export function mapOf(core: Core, point: Point): MapReader {
  const disk = point.disks.find(({ name }) => name === DISK);
  if (!disk) throw new LifeboatError('internal.bug', `the simulation made no disk ${DISK}`);
  return new MapReader({ root: disk.root, pages: core.pages, geometry: superblock, what: DISK });
}

/** The disk of a point, through the reader everybody uses. */
export function openDisk(core: Core, point: Point): DiskReader {
  return new DiskReader({ map: mapOf(core, point), blobs: core.blobs, what: { point: point.pointId, disk: DISK } });
}

export const simulatedSealer: Sealer = {
  laneCount: 1,
  openLane: (config) => Promise.resolve(new SimulatedLane(config)),
};

/** A lane in this thread that never waits for anything but promises. */
class SimulatedLane implements SealingLane {
  readonly #config: LaneConfig;
  readonly #disk: Buffer;
  readonly #hashed: { readonly ids: readonly (ChunkId | undefined)[]; readonly plain: readonly Uint8Array[] }[] = [];
  #pack: { readonly builder: PackBuilder; readonly buffer: ArrayBuffer } | undefined;

  constructor(config: LaneConfig) {
    this.#config = config;
    this.#disk = Buffer.from(JSON.stringify(config.source.options).slice(1, -1), 'hex');
  }

  hash(chunks: readonly number[]): Promise<readonly (ChunkId | undefined)[]> {
    const plain = chunks.map((chunk) => this.#disk.subarray(chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES));
    const ids = plain.map((part) =>
      part.every((byte) => byte === 0) ? undefined : idOf(this.#config.owner.chunkIdKey, part),
    );
    this.#hashed.push({ ids, plain });
    return Promise.resolve(ids);
  }

  store({ wanted, buffer }: Parameters<SealingLane['store']>[0]): Promise<{ needsSeal: boolean }> {
    const stripe = this.#hashed.shift();
    if (buffer) {
      const builder = new PackBuilder({
        owner: this.#config.owner,
        buffer: new Uint8Array(buffer),
        compression: raw,
      });
      this.#pack = { builder, buffer };
    }
    for (const position of wanted) {
      const id = stripe?.ids[position];
      const part = stripe?.plain[position];
      if (!id || !part || !this.#pack) throw new LifeboatError('internal.bug', 'nothing to store');
      this.#pack.builder.add(id, part);
    }
    const { stripeChunks } = this.#config;
    return Promise.resolve({
      needsSeal: this.#pack !== undefined && !this.#pack.builder.hasRoom(stripeChunks, stripeChunks * CHUNK_BYTES),
    });
  }

  seal(): ReturnType<SealingLane['seal']> {
    const current = this.#pack;
    if (!current) throw new LifeboatError('internal.bug', 'no pack to seal');
    this.#pack = undefined;
    return Promise.resolve({ buffer: current.buffer, pack: current.builder.finish() });
  }

  close(): ReturnType<SealingLane['close']> {
    return Promise.resolve({ times: noTimes(), sourceBytes: 0 });
  }
}
