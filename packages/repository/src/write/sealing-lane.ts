/**
 * One lane reads stripes of a disk, hashes their chunks, and seals those nobody has yet. It runs in a thread of its own
 * (`thread-sealer.ts`) or in the caller's (`inline-sealer.ts`); this is the work itself.
 *
 * ```
 *   hash(stripe) ─► ids          the next stripe is read while this one is sealed:
 *   store(wanted) ─► needsSeal   stripes are stored in the order they were hashed, two at most are held
 *   seal() ─► pack
 * ```
 * Requests of one lane are made by one caller. A lane holds one pack buffer; it gets it with `store` and gives it back, filled,
 * with `seal`. Its memory: two stripes and that buffer.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { ChunkId } from '../format/names.ts';
import { chunkId } from '../seal/blob-seal.ts';
import type { Compression } from '../seal/codec.ts';
import { PackBuilder, type FinishedPack, type PackOwner } from './pack-builder.ts';
import { openSource, type SourceSpec } from './source.ts';
import { StageClock, type StageTimes } from './stage-times.ts';

/** Everything a lane needs; crosses to the thread as it is. */
export interface LaneConfig {
  readonly source: SourceSpec;
  readonly sizeBytes: number;
  readonly chunkSizeBytes: number;
  /** Chunks per stripe, at most. */
  readonly stripeChunks: number;
  readonly owner: PackOwner;
}

/** Id of each chunk of a stripe in its order; undefined: all zeros. */
export type StripeIds = readonly (ChunkId | undefined)[];

export interface StoreRequest {
  /** Positions within the stripe hashed first and not stored yet; empty: nothing of it is wanted. */
  readonly wanted: readonly number[];
  /** A pack buffer, given when the lane has none and something is wanted. It is the lane's then, until `seal` gives it back. */
  readonly buffer?: ArrayBuffer;
}

export interface StoreReply {
  /** The pack has no room for another stripe: call `seal` before the next `store`. */
  readonly needsSeal: boolean;
}

export interface SealingLane {
  hash(chunks: readonly number[]): Promise<StripeIds>;
  store(request: StoreRequest): Promise<StoreReply>;
  seal(): Promise<{ buffer: ArrayBuffer; pack: FinishedPack }>;
  /** Ends the lane and closes its source, also after an error. */
  close(): Promise<LaneReport>;
}

export interface LaneReport {
  /** What the lane spent its time on. */
  readonly times: StageTimes;
  /** Bytes the source handed over, as it counted them itself; those that were asked of it where it does not count. */
  readonly sourceBytes: number;
}

interface Stripe {
  readonly plain: readonly Uint8Array[];
  readonly ids: StripeIds;
  readonly memory: Uint8Array;
}

export class LocalLane implements SealingLane {
  readonly #config: LaneConfig;
  readonly #device: BlockDevice;
  readonly #compression: Compression;
  readonly #stages = new StageClock();
  readonly #hashed: Stripe[] = [];
  readonly #free: Uint8Array[];
  #pack: { builder: PackBuilder; buffer: ArrayBuffer } | undefined;
  #askedBytes = 0;

  /** Opens the source. Throws what it throws, and `device.read-failed` when it is not of the size it was said to have. */
  static async open(config: LaneConfig, compression: Compression): Promise<LocalLane> {
    const device = await openSource(config.source);
    if (device.sizeBytes === config.sizeBytes) return new LocalLane(config, device, compression);
    await device.close();
    throw new LifeboatError(
      'device.read-failed',
      `the disk was said to have ${config.sizeBytes} bytes, its source has ${device.sizeBytes}`,
      { context: { expectedBytes: config.sizeBytes, foundBytes: device.sizeBytes } },
    );
  }

  private constructor(config: LaneConfig, device: BlockDevice, compression: Compression) {
    this.#config = config;
    this.#device = device;
    this.#compression = compression;
    const stripeBytes = config.stripeChunks * config.chunkSizeBytes;
    this.#free = [Buffer.allocUnsafeSlow(stripeBytes), Buffer.allocUnsafeSlow(stripeBytes)];
  }

  async hash(chunks: readonly number[]): Promise<StripeIds> {
    const memory = this.#free.pop();
    if (!memory || chunks.length > this.#config.stripeChunks)
      throw new LifeboatError('internal.bug', 'a lane was given too much');
    const { chunkSizeBytes, sizeBytes, owner } = this.#config;
    const plain = chunks.map((chunk, i) => {
      const length = Math.min(chunkSizeBytes, sizeBytes - chunk * chunkSizeBytes);
      return memory.subarray(i * chunkSizeBytes, i * chunkSizeBytes + length);
    });
    await this.#readAll(chunks, plain);
    const ids = this.#stages.time('hash', () =>
      plain.map((bytes) => (isZero(bytes) ? undefined : chunkId(owner.chunkIdKey, bytes))),
    );
    this.#hashed.push({ plain, ids, memory });
    return ids;
  }

  async store({ wanted, buffer }: StoreRequest): Promise<StoreReply> {
    const stripe = this.#hashed.shift();
    if (!stripe) throw new LifeboatError('internal.bug', 'a lane was asked to store what it did not hash');
    if (buffer) {
      if (this.#pack) throw new LifeboatError('internal.bug', 'a lane was given a second pack buffer');
      const builder = new PackBuilder({
        owner: this.#config.owner,
        buffer: new Uint8Array(buffer),
        compression: this.#compression,
        stages: this.#stages,
      });
      this.#pack = { builder, buffer };
    }
    for (const position of wanted) {
      const id = stripe.ids[position];
      const bytes = stripe.plain[position];
      if (!this.#pack || !id || !bytes)
        throw new LifeboatError('internal.bug', `a lane has no chunk ${position} to store`);
      this.#pack.builder.add(id, bytes);
      // The next stripe is being read by this same thread: let its socket or file answer between two compressions.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#free.push(stripe.memory);
    const { stripeChunks, chunkSizeBytes } = this.#config;
    return {
      needsSeal: this.#pack !== undefined && !this.#pack.builder.hasRoom(stripeChunks, stripeChunks * chunkSizeBytes),
    };
  }

  seal(): Promise<{ buffer: ArrayBuffer; pack: FinishedPack }> {
    const current = this.#pack;
    if (!current) throw new LifeboatError('internal.bug', 'a lane without a pack was asked to seal it');
    this.#pack = undefined;
    return Promise.resolve({ buffer: current.buffer, pack: current.builder.finish() });
  }

  async close(): Promise<LaneReport> {
    const sourceBytes = this.#device.bytesRead ?? this.#askedBytes;
    await this.#device.close();
    return { times: this.#stages.times, sourceBytes };
  }

  /** Neighbours are read in one request; all requests of a stripe are in flight together. */
  async #readAll(chunks: readonly number[], plain: readonly Uint8Array[]): Promise<void> {
    const { chunkSizeBytes } = this.#config;
    const reads: Promise<void>[] = [];
    for (let i = 0; i < chunks.length;) {
      let end = i + 1;
      while (end < chunks.length && chunks[end] === (chunks[end - 1] ?? 0) + 1) end++;
      const first = plain[i];
      const last = plain[end - 1];
      if (first && last) {
        // Neighbours on the disk are neighbours in the stripe's memory.
        const run = new Uint8Array(first.buffer, first.byteOffset, last.byteOffset + last.length - first.byteOffset);
        this.#askedBytes += run.length;
        reads.push(this.#device.read((chunks[i] ?? 0) * chunkSizeBytes, run));
      }
      i = end;
    }
    const outcomes = await Promise.allSettled(reads);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }
}

const ZEROS = Buffer.alloc(64 * 1024);

/** memcmp against zeros: 30 GiB/s, and most data says no in its first 64 KiB. */
function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length);
    if (Buffer.compare(part, ZEROS.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}
