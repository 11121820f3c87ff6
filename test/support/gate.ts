/** A place where a fake verb waits until the test lets it go on. An abort of the verb's signal ends the wait. */
export class Gate {
  #opened = Promise.withResolvers<void>();
  #arrived = 0;
  #arrivals: (() => void)[] = [];

  async pass(signal: AbortSignal): Promise<void> {
    this.#arrived++;
    for (const notify of this.#arrivals.splice(0)) notify();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([this.#opened.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  open(): void {
    this.#opened.resolve();
  }

  /** Resolves once `count` verbs have come here, counted over the gate's life. */
  async reached(count: number): Promise<void> {
    while (this.#arrived < count) await new Promise<void>((resolve) => this.#arrivals.push(resolve));
  }
}
