/**
 * What a machine said on its console so far, for any number of readers, each from the beginning.
 *
 * The console is always read, whoever listens: a guest whose console nobody reads hangs in its own messages. The newest
 * `RETAINED_BYTES` are kept; a reader that is further behind is told how much it missed, in a line of the log itself.
 */
import { MiB } from '@lifeboat/foundation/units';

export const RETAINED_BYTES = 8 * MiB;

export class ConsoleLog {
  #chunks: Uint8Array[] = [];
  /** Position of the first retained byte, counted from the machine's first. */
  #startBytes = 0;
  #endBytes = 0;
  #over: { error: Error | undefined } | undefined;
  readonly #waiting = new Set<() => void>();

  append(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#endBytes += bytes.length;
    while (this.#endBytes - this.#startBytes > RETAINED_BYTES && this.#chunks.length > 1) {
      this.#startBytes += this.#chunks.shift()?.length ?? 0;
    }
    this.#wake();
  }

  /** No more will come: readers end, or fail with `error`, after what is there. */
  end(error?: Error): void {
    this.#over ??= { error };
    this.#wake();
  }

  async *read(): AsyncGenerator<Uint8Array, void, undefined> {
    let positionBytes = 0;
    for (;;) {
      if (positionBytes < this.#startBytes) {
        const missed = this.#startBytes - positionBytes;
        positionBytes = this.#startBytes;
        yield Buffer.from(`\r\n[lifeboat: ${missed} bytes of console output were not kept]\r\n`);
        continue;
      }
      const next = this.#chunkAt(positionBytes);
      if (next !== undefined) {
        positionBytes += next.length;
        yield next;
        continue;
      }
      if (this.#over) {
        if (this.#over.error) throw this.#over.error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
    }
  }

  #chunkAt(positionBytes: number): Uint8Array | undefined {
    let offset = this.#startBytes;
    for (const chunk of this.#chunks) {
      if (positionBytes < offset + chunk.length) return chunk.subarray(positionBytes - offset);
      offset += chunk.length;
    }
    return undefined;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
