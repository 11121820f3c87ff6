/**
 * What this host knows of the ends of chains, outside of the store: a store that was rolled back, or lost its newest links together with
 * the newest points, looks whole by itself.
 *
 * The memory only moves forward along a chain that holds what was remembered; when the store went back, it stays, until a person removes
 * the file. It is no secret, and losing it loses nothing but this.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';

import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';

export interface Tail {
  readonly number: number;
  /** SHA-256 of the link's object, hexadecimal. */
  readonly hash: string;
}

export interface TailMemory {
  recall(machineId: MachineId): Promise<Tail | undefined>;
  /** Moves on to `tail` where the chain it ends `holds` what was known. */
  remember(machineId: MachineId, tail: Tail, holds: (known: Tail) => Promise<boolean>): Promise<void>;
  /** For a person who wants it forgotten. */
  placeOf(machineId: MachineId): string;
}

const MAX_BYTES = 4096;

export class TailFiles implements TailMemory {
  readonly #directory: string;

  /** `directory` is of one tenant of one repository. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  placeOf(machineId: MachineId): string {
    return join(this.#directory, machineId);
  }

  /** Undefined when there is none. Throws `repository.memory-unusable` for a file that is not what this wrote. */
  async recall(machineId: MachineId): Promise<Tail | undefined> {
    const path = this.placeOf(machineId);
    let content: string;
    try {
      content = await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw unusable(path, messageOf(error), error);
    }
    const [, number, hash] = /^(\d{1,8}) ([0-9a-f]{64})\n$/.exec(content.slice(0, MAX_BYTES)) ?? [];
    if (number === undefined || hash === undefined) throw unusable(path, 'it does not hold a number and a hash');
    return { number: Number(number), hash };
  }

  async remember(machineId: MachineId, tail: Tail, holds: (known: Tail) => Promise<boolean>): Promise<void> {
    const known = await this.recall(machineId);
    // A process that was slower than another one: what the other remembered is further on.
    if (known && (known.number >= tail.number || !(await holds(known)))) return;
    const path = this.placeOf(machineId);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const fresh = `${path}.${process.pid}.new`;
    const file = await open(fresh, 'w', 0o600);
    try {
      await file.writeFile(`${tail.number} ${tail.hash}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, path);
  }
}

function unusable(path: string, why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('repository.memory-unusable', `${path}: ${why}`, { context: { path }, cause });
}
