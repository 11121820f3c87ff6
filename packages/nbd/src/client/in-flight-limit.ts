/**
 * How much may be under way on one connection at once. First come, first served: a large request at the head of the
 * queue is not overtaken by small ones. A request larger than the whole limit goes when nothing else is under way.
 */
export class InFlightLimit {
  readonly #maxBytes: number;
  readonly #maxRequests: number;
  #bytes = 0;
  #requests = 0;
  #waiting: Waiter[] = [];
  #failure: Error | undefined;

  constructor(limits: { maxBytes: number; maxRequests: number }) {
    this.#maxBytes = limits.maxBytes;
    this.#maxRequests = limits.maxRequests;
  }

  /** Resolves when the request may go. Rejects with the signal's reason, or with what fail() was given. */
  async acquire(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#failure) throw this.#failure;
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#take(bytes);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { bytes, resolve, reject, detach: () => signal?.removeEventListener('abort', onAbort) };
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal?.reason as Error);
        // The one that left may have been the one that blocked the rest.
        this.#admit();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  release(bytes: number): void {
    this.#bytes -= bytes;
    this.#requests -= 1;
    this.#admit();
  }

  /** Turns away all who wait, and all who come later. */
  fail(error: Error): void {
    this.#failure ??= error;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) {
      waiter.detach();
      waiter.reject(error);
    }
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#take(next.bytes);
      next.detach();
      next.resolve();
    }
  }

  #fits(bytes: number): boolean {
    if (this.#requests === 0) return true;
    return this.#requests < this.#maxRequests && this.#bytes + bytes <= this.#maxBytes;
  }

  #take(bytes: number): void {
    this.#bytes += bytes;
    this.#requests += 1;
  }
}

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly detach: () => void;
}
