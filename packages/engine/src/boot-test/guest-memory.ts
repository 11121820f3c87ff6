/**
 * Memory for the guests that boot tests start on this host, so that several at once do not drive it, and the machines that run on it, into swap.
 *
 * A guest touches its memory little by little, so what is free now says too much. Counted is what was promised to guests of this process, and
 * besides what the kernel says is available at this moment.
 */
import { readFile } from 'node:fs/promises';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { formatBytes, KiB, MiB } from '@lifeboat/foundation/units';

/** Of all memory: the rest is for the host, its page cache, and QEMU beside its guests. */
const SHARE_OF_GUESTS = 0.8;
const MEMINFO = '/proc/meminfo';

export interface HostMemory {
  readonly totalBytes: number;
  readonly availableBytes: number;
}

export class GuestMemory {
  readonly #look: () => Promise<HostMemory>;
  #promisedBytes = 0;

  constructor(look: () => Promise<HostMemory> = lookAtHost) {
    this.#look = look;
  }

  /**
   * Resolves with what gives it back; idempotent. Errors: `engine.no-memory`, transient: a later attempt may find that another guest has
   * ended.
   */
  async take(memoryMiB: number, what: string): Promise<() => void> {
    const { totalBytes, availableBytes } = await this.#look();
    // From here to the promise nothing waits, so that two do not both get the last of it.
    const neededBytes = memoryMiB * MiB;
    const leftBytes = Math.min(totalBytes * SHARE_OF_GUESTS - this.#promisedBytes, availableBytes);
    if (neededBytes > leftBytes) {
      throw new LifeboatError(
        'engine.no-memory',
        `${what} needs ${formatBytes(neededBytes)}; this host has ${formatBytes(Math.max(0, leftBytes))} for another guest, ${formatBytes(this.#promisedBytes)} are promised to guests that run`,
        { context: { neededBytes, leftBytes, promisedBytes: this.#promisedBytes } },
      );
    }
    this.#promisedBytes += neededBytes;
    let isBack = false;
    return () => {
      if (!isBack) this.#promisedBytes -= neededBytes;
      isBack = true;
    };
  }
}

async function lookAtHost(): Promise<HostMemory> {
  const text = await readFile(MEMINFO, 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * KiB;
  return { totalBytes: of('MemTotal'), availableBytes: of('MemAvailable') };
}
