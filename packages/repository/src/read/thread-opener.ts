/**
 * Opens blobs in threads.
 *
 * ```
 *   caller ── sealed bytes, handed over ──► thread: decrypt, decompress, compare with the id
 *   caller ◄── plain bytes, handed over ─── thread
 * ```
 * Memory changes hands and is not copied. Slots bound how many blobs are in flight. Threads start with the first large
 * blob and do not keep the process alive. Small blobs (pages) are opened in place: the way to a thread costs more.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { KiB } from '@lifeboat/foundation/units';

import { openBlob, type BlobOpening } from '../seal/blob-seal.ts';
import { zstd } from '../seal/codec.ts';
import type { BlobOpener } from './blob-opener.ts';
import { Slots } from './slots.ts';

const MAX_THREADS = 4;
/** Per thread: one blob being opened, one waiting. */
const SLOTS_PER_THREAD = 2;
/** Sealed bytes up to which a blob is opened by the caller. */
const INLINE_BYTES = 16 * KiB;

export interface OpenRequest {
  readonly id: number;
  readonly opening: BlobOpening;
  readonly sealed: Uint8Array;
}

export type OpenResponse =
  | { readonly id: number; readonly plain: Uint8Array }
  | { readonly id: number; readonly failure: string };

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, { resolve: (response: OpenResponse) => void; reject: (error: Error) => void }>;
  dead: LifeboatError | undefined;
}

export function threadOpener(options: { threads?: number; entry?: URL } = {}): BlobOpener {
  return new ThreadOpener(
    options.entry ?? new URL('./opening-thread.ts', import.meta.url),
    options.threads ?? Math.min(availableParallelism(), MAX_THREADS),
  );
}

class ThreadOpener implements BlobOpener {
  readonly #entry: URL;
  readonly #threadCount: number;
  readonly #inline = zstd(1);
  readonly #slots: Slots;
  #threads: Thread[] = [];
  #nextId = 0;

  constructor(entry: URL, threadCount: number) {
    this.#entry = entry;
    this.#threadCount = threadCount;
    this.#slots = new Slots(threadCount * SLOTS_PER_THREAD);
  }

  async open(opening: BlobOpening, sealed: Uint8Array): Promise<{ plain: Uint8Array } | { failure: string }> {
    if (sealed.length <= INLINE_BYTES) return openBlob(opening, sealed, this.#inline);
    return this.#slots.run(async () => {
      const response = await this.#ask({ opening, sealed });
      return 'failure' in response ? { failure: response.failure } : { plain: response.plain };
    });
  }

  async close(): Promise<void> {
    const threads = this.#threads;
    this.#threads = [];
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #ask(request: Omit<OpenRequest, 'id'>): Promise<OpenResponse> {
    const thread = this.#idlest();
    if (thread.dead) return Promise.reject(thread.dead);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      thread.waiting.set(id, { resolve, reject });
      // While it has work a thread keeps the process alive; otherwise not.
      thread.worker.ref();
      thread.worker.postMessage({ ...request, id }, ownMemory(request.sealed));
    });
  }

  /** Starts threads until there are enough, then picks the one with the least to do. A dead one is replaced. */
  #idlest(): Thread {
    this.#threads = this.#threads.filter(({ dead }) => !dead);
    const idlest = this.#threads.toSorted((a, b) => a.waiting.size - b.waiting.size)[0];
    if (idlest && (idlest.waiting.size === 0 || this.#threads.length >= this.#threadCount)) return idlest;
    const started = this.#start();
    this.#threads.push(started);
    return started;
  }

  #start(): Thread {
    const worker = new Worker(this.#entry, {
      resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 256 },
    });
    const thread: Thread = { worker, waiting: new Map(), dead: undefined };
    worker.on('message', (response: OpenResponse) => {
      thread.waiting.get(response.id)?.resolve(response);
      thread.waiting.delete(response.id);
      if (thread.waiting.size === 0) worker.unref();
    });
    const die = (cause: Error): void => {
      thread.dead ??= new LifeboatError(
        'repository.sealing-failed',
        `a thread that opens chunks ended: ${cause.message}`,
        { cause },
      );
      for (const { reject } of thread.waiting.values()) reject(thread.dead);
      thread.waiting.clear();
    };
    worker.on('error', (error) => die(error instanceof Error ? error : new Error(String(error))));
    worker.on('exit', (code) => die(new Error(`exit code ${code}`)));
    return thread;
  }
}

/** The memory of these bytes, to be handed over with them, unless it is part of Node's pool, which cannot move. */
export function ownMemory({ buffer }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize ? [buffer] : [];
}
