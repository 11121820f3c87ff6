/**
 * Turns a byte stream, cut anywhere, into what a parser asks for.
 *
 * ```
 *   socket ──► space() ─┬─► staging (headers, and what came behind them) ──copy──► take / fill / skip
 *                       └─► the fill target itself, while staging is empty: no copy at all
 * ```
 *
 * A parser is a generator that yields what it wants next and is resumed, synchronously, as soon as it is there. It is
 * synchronous on purpose: when a header has been understood, the very next read of the socket can already go into the
 * caller's buffer. A `take` view is valid until the parser yields again. What a parser throws comes out of commit() or
 * push(), after which the reader swallows and ignores all further bytes.
 */

export type Want =
  /** Exactly so many bytes, as one view. */
  | { readonly take: number }
  /** Fill this buffer. */
  | { readonly fill: Uint8Array }
  /** Pass over so many bytes. */
  | { readonly skip: number };

export type Parser<Result> = Generator<Want, Result, Uint8Array>;

// Large enough to take some hundred small replies in one read of the socket, small enough that the copied head of a
// 2 MiB payload costs nothing.
const STAGING_BYTES = 64 * 1024;
const NOTHING = new Uint8Array(0);

export class FrameReader {
  readonly #parser: Parser<void>;
  readonly #staging = Buffer.allocUnsafeSlow(STAGING_BYTES);
  /** Bytes of staging not yet used: [start, end). */
  #start = 0;
  #end = 0;
  #finished = false;
  #want: Want = { take: 0 };
  /** Where bytes of the current want go, when not into a view of staging. */
  #target: Uint8Array | undefined;
  #filled = 0;
  #toSkip = 0;
  /** The last space() was the target's own memory. */
  #direct = false;

  /** Runs the parser up to the first thing that it must wait for. */
  constructor(parser: Parser<void>) {
    this.#parser = parser;
    this.#resume(NOTHING);
    this.#run();
  }

  /** The parser has returned or thrown. */
  get finished(): boolean {
    return this.#finished;
  }

  /** Where the next bytes of the stream belong; never empty. Valid until the next commit(). */
  space(): Uint8Array {
    this.#direct = this.#target !== undefined && this.#start === this.#end;
    if (this.#direct && this.#target) return this.#target.subarray(this.#filled);
    if (this.#start > 0) {
      this.#staging.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return this.#staging.subarray(this.#end);
  }

  /** `count` bytes were put at the front of space(). */
  commit(count: number): void {
    if (this.#finished) return;
    if (this.#direct) this.#filled += count;
    else this.#end += count;
    this.#run();
  }

  /** The same for bytes that already lie somewhere. */
  push(bytes: Uint8Array): void {
    for (let position = 0; position < bytes.length && !this.#finished;) {
      const space = this.space();
      const part = bytes.subarray(position, position + space.length);
      space.set(part);
      position += part.length;
      this.commit(part.length);
    }
  }

  #run(): void {
    while (!this.#finished) {
      const available = this.#end - this.#start;
      if (this.#target) {
        const count = Math.min(available, this.#target.length - this.#filled);
        if (count > 0) this.#target.set(this.#staging.subarray(this.#start, this.#start + count), this.#filled);
        this.#start += count;
        this.#filled += count;
        if (this.#filled < this.#target.length) return;
        this.#resume('take' in this.#want ? this.#target : NOTHING);
      } else if ('take' in this.#want) {
        if (available < this.#want.take) return;
        const view = this.#staging.subarray(this.#start, this.#start + this.#want.take);
        this.#start += this.#want.take;
        this.#resume(view);
      } else {
        const count = Math.min(available, this.#toSkip);
        this.#start += count;
        this.#toSkip -= count;
        if (this.#toSkip > 0) return;
        this.#resume(NOTHING);
      }
    }
  }

  #resume(given: Uint8Array): void {
    this.#target = undefined;
    let step: IteratorResult<Want, void>;
    try {
      step = this.#parser.next(given);
    } catch (error) {
      this.#finished = true;
      this.#start = this.#end = 0;
      throw error;
    }
    if (step.done) {
      this.#finished = true;
      this.#start = this.#end = 0;
      return;
    }
    const want = step.value;
    this.#want = want;
    this.#filled = 0;
    if ('fill' in want) this.#target = want.fill;
    else if ('skip' in want) this.#toSkip = want.skip;
    else if (want.take > STAGING_BYTES) this.#target = Buffer.allocUnsafe(want.take);
  }
}
