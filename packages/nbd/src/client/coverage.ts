import { protocolError } from '../wire.ts';

// A reply to a read may come in any order. An honest server sends few separate pieces (holes of 512 bytes in 2 MiB
// would be 4096, in order, which join up into one); a hostile one could make this list the work of minutes.
const MAX_FRAGMENTS = 4096;

/** Which bytes of one read have been delivered: each must be, once. */
export class Coverage {
  readonly #startBytes: number;
  readonly #endBytes: number;
  /** Disjoint [start, end) in order; neighbours that touch are joined. */
  readonly #fragments: { start: number; end: number }[] = [];

  constructor(run: { offsetBytes: number; lengthBytes: number }) {
    this.#startBytes = run.offsetBytes;
    this.#endBytes = run.offsetBytes + run.lengthBytes;
  }

  /** Errors: `nbd.protocol-error` for an empty chunk, one outside the request, or one that delivers a byte again. */
  add(chunk: { offsetBytes: number; lengthBytes: number }): void {
    const start = chunk.offsetBytes;
    const end = start + chunk.lengthBytes;
    const what = `reply chunk of ${chunk.lengthBytes} bytes at ${start}`;
    if (chunk.lengthBytes <= 0) throw protocolError(`${what}: empty`);
    if (start < this.#startBytes || end > this.#endBytes) {
      throw protocolError(`${what}: outside the request [${this.#startBytes}, ${this.#endBytes})`);
    }
    const at = this.#indexAfter(start);
    const before = this.#fragments[at - 1];
    const after = this.#fragments[at];
    if ((before && before.end > start) || (after && after.start < end)) throw protocolError(`${what}: delivered twice`);
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter && before && after) {
      before.end = after.end;
      this.#fragments.splice(at, 1);
    } else if (joinsBefore && before) before.end = end;
    else if (joinsAfter && after) after.start = start;
    else {
      if (this.#fragments.length >= MAX_FRAGMENTS)
        throw protocolError(`${what}: more than ${MAX_FRAGMENTS} separate chunks`);
      this.#fragments.splice(at, 0, { start, end });
    }
  }

  get complete(): boolean {
    const [first] = this.#fragments;
    if (this.#startBytes === this.#endBytes) return true;
    return first !== undefined && first.start === this.#startBytes && first.end === this.#endBytes;
  }

  /** Index of the first fragment that begins behind `position`. */
  #indexAfter(position: number): number {
    let low = 0;
    let high = this.#fragments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#fragments[middle]?.start ?? Infinity) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
