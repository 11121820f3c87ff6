import { orAbort } from './or-abort.ts';

/** A fixed number of equal buffers, which change hands between threads without a copy; who finds none waits. This is what caps the bytes in flight. */
export class BufferPool {
  readonly #bytes: number;
  readonly #free: ArrayBuffer[] = [];
  readonly #waiting: ((buffer: ArrayBuffer) => void)[] = [];
  #unmade: number;

  constructor(input: { count: number; bytes: number }) {
    this.#unmade = input.count;
    this.#bytes = input.bytes;
  }

  async acquire(signal: AbortSignal): Promise<ArrayBuffer> {
    signal.throwIfAborted();
    const free = this.#free.pop();
    if (free) return free;
    if (this.#unmade > 0) {
      this.#unmade--;
      return new ArrayBuffer(this.#bytes);
    }
    // A waiter that gave up may still be handed a buffer; the pool dies with the write that was aborted.
    return orAbort(new Promise<ArrayBuffer>((resolve) => this.#waiting.push(resolve)), signal);
  }

  release(buffer: ArrayBuffer): void {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(buffer);
    else this.#free.push(buffer);
  }
}
