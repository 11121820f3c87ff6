/** Works through what an iterable gives, so many at a time; the first failure ends all of it. */
export async function inLanes<T>(
  count: number,
  items: AsyncIterable<T> | Iterable<T>,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const stop = new AbortController();
  const lane = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const next = await iterator.next();
      if (next.done) return;
      await action(next.value);
    }
  };
  const lanes = Array.from({ length: count }, () =>
    lane().catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  try {
    await Promise.all(lanes);
  } finally {
    await Promise.allSettled(lanes);
    await iterator.return?.();
  }
}
