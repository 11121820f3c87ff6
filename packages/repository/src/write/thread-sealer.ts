/**
 * A thread per lane. Bulk data never crosses: a thread reads its own source and fills a pack in shared memory; messages hold ids
 * and numbers.
 *
 * A thread that dies rejects everything asked of it with `repository.sealing-failed`; nothing it held was visible to anyone.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

import { LifeboatError } from '@lifeboat/foundation/errors';

import type { Sealer } from './sealer.ts';
import type { LaneReport, SealingLane, StoreReply, StoreRequest, StripeIds } from './sealing-lane.ts';
import { noTimes } from './stage-times.ts';
import { fromWire, type Answers, type Request, type Response, type ThreadData } from './thread-protocol.ts';

/** More threads than this would not stay below 400 MB with pack buffers of 36 MiB (docs/format.md, "Memory of a writer"). */
const MAX_THREADS = 4;
/** A thread's own objects are few; bulk data lies outside the heap. A small young generation keeps it resident-small. */
const THREAD_HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 256 };
/** A thread that does not end after its source was closed is ended. */
const CLOSE_TIMEOUT_MS = 10_000;

export function threadSealer(options: { threads?: number; zstdLevel?: number; entry?: URL } = {}): Sealer {
  const entry = options.entry ?? new URL('./sealing-thread.ts', import.meta.url);
  const zstdLevel = options.zstdLevel ?? 1;
  return {
    laneCount: options.threads ?? Math.min(availableParallelism(), MAX_THREADS),
    openLane: (config) => ThreadLane.start(entry, { config, zstdLevel }),
  };
}

type RequestBody<V extends Request['verb']> = Omit<Extract<Request, { verb: V }>, 'id' | 'verb'>;

class ThreadLane implements SealingLane {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #dead: Error | undefined;

  static async start(entry: URL, data: ThreadData): Promise<ThreadLane> {
    const lane = new ThreadLane(entry, data);
    try {
      await lane.#expect(0);
      return lane;
    } catch (error) {
      await lane.#worker.terminate();
      throw error;
    }
  }

  private constructor(entry: URL, data: ThreadData) {
    this.#worker = new Worker(entry, { workerData: data, resourceLimits: THREAD_HEAP });
    this.#worker.on('message', (response: Response) => {
      const waiting = this.#waiting.get(response.id);
      this.#waiting.delete(response.id);
      if ('error' in response) waiting?.reject(fromWire(response.error));
      else waiting?.resolve(response.value as never);
    });
    this.#worker.on('error', (error) => this.#die(error instanceof Error ? error : new Error(String(error))));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#die(new Error(`the thread ended with code ${code}`));
        resolve();
      });
    });
  }

  hash(chunks: readonly number[]): Promise<StripeIds> {
    return this.#ask('hash', { chunks });
  }

  store(request: StoreRequest): Promise<StoreReply> {
    return this.#ask('store', { request }, request.buffer ? [request.buffer] : []);
  }

  seal(): Promise<Answers['seal']> {
    return this.#ask('seal', {});
  }

  async close(): Promise<LaneReport> {
    if (this.#dead) {
      await this.#exited;
      return { times: noTimes(), sourceBytes: 0 };
    }
    const timer = setTimeout(() => void this.#worker.terminate(), CLOSE_TIMEOUT_MS);
    try {
      const report = await this.#ask('close', {});
      await this.#exited;
      return report;
    } finally {
      clearTimeout(timer);
      await this.#worker.terminate();
    }
  }

  /** `moved` belongs to the thread from now on. */
  #ask<V extends keyof Answers>(verb: V, body: RequestBody<V>, moved: ArrayBuffer[] = []): Promise<Answers[V]> {
    const id = this.#nextId++;
    const answer = this.#expect<Answers[V]>(id);
    if (!this.#dead) this.#worker.postMessage({ ...body, id, verb }, moved);
    return answer;
  }

  #expect<T>(id: number): Promise<T> {
    if (this.#dead) return Promise.reject(this.#dead);
    return new Promise<T>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #die(cause: Error): void {
    this.#dead ??= new LifeboatError('repository.sealing-failed', `a sealing thread ended early: ${cause.message}`, {
      cause,
    });
    for (const { reject } of this.#waiting.values()) reject(this.#dead);
    this.#waiting.clear();
  }
}
