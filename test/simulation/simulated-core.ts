/** The real repository over a simulated world: everything but the store, the clock, randomness and what production does in threads. */
import { createHash, hash } from 'node:crypto';

import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import type { Random } from '@lifeboat/foundation/random';
import type { SafetyRules } from '@lifeboat/repository/collect/rules';
import type { Core } from '@lifeboat/repository/core';
import type { KeyBundle } from '@lifeboat/repository/format/key-set';
import { sha256 } from '@lifeboat/repository/format/frame';
import type { ChunkId } from '@lifeboat/repository/format/names';
import type { PackHeader } from '@lifeboat/repository/format/pack';
import { inlineOpener } from '@lifeboat/repository/read/blob-opener';
import { BlobReader } from '@lifeboat/repository/read/blob-reader';
import { DiskReader } from '@lifeboat/repository/read/disk-reader';
import { MapReader } from '@lifeboat/repository/read/map-reader';
import { PageReader } from '@lifeboat/repository/read/page-reader';
import type { Point } from '@lifeboat/repository/read/point-reader';
import { Relocations } from '@lifeboat/repository/read/relocations';
import { chunkId } from '@lifeboat/repository/seal/blob-seal';
import type { Compression } from '@lifeboat/repository/seal/codec';
import { TenantKeyring, type SessionKey } from '@lifeboat/repository/seal/keyring';
import { PackBuilder } from '@lifeboat/repository/write/pack-builder';
import type { Sealer } from '@lifeboat/repository/write/sealer';
import type { LaneConfig, SealingLane } from '@lifeboat/repository/write/sealing-lane';
import { noTimes } from '@lifeboat/repository/write/stage-times';

import { storeOf, type Process, type World } from './world.ts';

export const CHUNK_BYTES = 64;
export const LIMITS = { stripeChunks: 2, packBytes: 1024, spareBuffers: 1, waitingLeaves: 3, pagePackBytes: 4096 };

const fixed = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);
const superblock = {
  repositoryId: fixed(16, 1),
  tenantId: fixed(16, 2),
  createdMs: 0,
  chunkSizeBytes: CHUNK_BYTES,
  leafEntries: 2,
  branchEntries: 2,
  packSetEntries: 4,
  capabilities: 1,
};
const bundle: KeyBundle = {
  tenantId: superblock.tenantId,
  epochs: [{ epoch: 1, sessionPrivateKey: fixed(32, 3) }],
  chunkIdKey: fixed(32, 4),
  machineRootKey: fixed(32, 5),
  signingSeed: fixed(32, 6),
};

/** Chunks of 64 bytes that do not compress: nothing would be stored compressed anyway. */
const raw: Compression = {
  compress: (plain) => plain,
  decompress: (packed) => packed,
};

/**
 * Keys that cost nothing: signatures and tags of names are hashes, a sealed session key is the key. Curves take nine tenths of a
 * schedule's time, and no rule of collection depends on them.
 */
class SimulatedKeyring extends TenantKeyring {
  readonly #machineKeys = new Map<string, Buffer>();
  readonly #indexKey = super.indexKey;

  override get indexKey(): Buffer {
    return this.#indexKey;
  }

  override machineKey(machineId: MachineId): Buffer {
    const known = this.#machineKeys.get(machineId) ?? super.machineKey(machineId);
    this.#machineKeys.set(machineId, known);
    return known;
  }

  override nameTag(plain: string): string {
    return hash('sha256', plain).slice(0, 32);
  }

  override get signer(): Buffer {
    return fixed(32, 7);
  }

  override sign(bytes: Uint8Array): Buffer {
    const half = sha256(this.signer, bytes);
    return Buffer.concat([half, half]);
  }

  override verify(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    return Buffer.compare(signer, this.signer) === 0 && Buffer.compare(this.sign(bytes), signature) === 0;
  }

  override newSessionKey(random: Random): SessionKey {
    const key = random.bytes(32);
    return { key, epoch: 1, sealed: Buffer.concat([key, fixed(48, 0)]) };
  }

  override baseKeyOf(header: PackHeader): Uint8Array | undefined {
    return header.sealedSessionKey ? header.sealedSessionKey.subarray(0, 32) : super.baseKeyOf(header);
  }
}

export const keyring = new SimulatedKeyring(bundle);

/** No key is ever rotated here. */
const refreshKeys = (): Promise<void> => Promise.resolve();

/** A repository as one process has it open: its caches are its own. */
export function openSimulated(world: World, process: Process, rules: SafetyRules): Core {
  const clock = {
    nowMs: () => Math.floor(world.nowMs + process.skewMs),
    monotonicMs: () => world.nowMs,
    sleep: () => world.pause(process),
  };
  const bytes = (length: number): Uint8Array =>
    createHash('shake128', { outputLength: length }).update(`${world.random()} ${world.step}`).digest();
  const store = storeOf(world, process);
  const relocations = new Relocations({ store, keyring, log: silentLog });
  const blobs = new BlobReader({ store, keyring, refreshKeys, relocations, opener: inlineOpener(raw) });
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

/** A disk of a point, through the reader everybody uses. */
export function openDisk(core: Core, point: Point, name: string): DiskReader {
  const disk = point.disks.find((candidate) => candidate.name === name);
  if (!disk) throw new LifeboatError('internal.bug', `the simulation made no disk ${name}`);
  const map = new MapReader({ root: disk.root, pages: core.pages, geometry: superblock, what: name });
  return new DiskReader({ map, blobs: core.blobs, what: { point: point.pointId, disk: name } });
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
      part.every((byte) => byte === 0) ? undefined : chunkId(this.#config.owner.chunkIdKey, part),
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
