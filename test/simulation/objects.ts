/** What a simulated store holds: objects in the order of their names, and where they cannot be read. */
import { LifeboatError } from '@lifeboat/foundation/errors';

interface Range {
  readonly from: number;
  readonly to: number;
}

export class Objects {
  readonly #objects = new Map<string, Uint8Array>();
  /** The same names, sorted: a listing costs what it gives. */
  readonly #sorted: string[] = [];
  readonly #badSectors = new Map<string, Range>();

  get(name: string): Uint8Array | undefined {
    return this.#objects.get(name);
  }

  has(name: string): boolean {
    return this.#objects.has(name);
  }

  set(name: string, object: Uint8Array): void {
    if (!this.#objects.has(name)) this.#sorted.splice(this.#at(name), 0, name);
    this.#objects.set(name, object);
  }

  delete(name: string): void {
    this.#badSectors.delete(name);
    if (this.#objects.delete(name)) this.#sorted.splice(this.#at(name), 1);
  }

  /** Those that begin with the prefix and come behind `after`, in order. Nothing may change while they are gone through. */
  *names(prefix = '', after = ''): Generator<string> {
    let at = this.#at(prefix);
    if (after >= prefix) {
      at = this.#at(after);
      if (this.#sorted[at] === after) at++;
    }
    for (; ; at++) {
      const name = this.#sorted[at];
      if (!name?.startsWith(prefix)) return;
      yield name;
    }
  }

  /** From now on the bytes from `from` to `to` of the object cannot be read, until it is deleted. */
  spoil(name: string, range: Range): void {
    this.#badSectors.set(name, range);
  }

  isReadable(name: string, from: number, to: number): boolean {
    const bad = this.#badSectors.get(name);
    return !bad || to <= bad.from || bad.to <= from;
  }

  /** Throws what a disk with bad sectors has a store throw. */
  assertReadable(name: string, from: number, to: number): void {
    if (this.isReadable(name, from, to)) return;
    throw new LifeboatError('repository.object-unreadable', `${name} lies on bad sectors`, {
      context: { object: name },
    });
  }

  /** Where the name is, or belongs. */
  #at(name: string): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] ?? '') < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
