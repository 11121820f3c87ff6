/** A repository small enough that a property test can fill it: chunks of 64 bytes, pages of four, packs of 4 KiB. */
import { rm } from 'node:fs/promises';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { parseMachineId, parsePointId, type MachineId, type PointId } from '@lifeboat/foundation/ids';

import { initRepository, openRepository, type Repository, type RepositoryDeps } from '../repository.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { inlineSealer } from '../write/inline-sealer.ts';

export const TINY_CHUNK = 64;
export const TINY_GEOMETRY = { leafEntries: 4, branchEntries: 2, packSetEntries: 2 };
export const TINY_LIMITS = {
  stripeChunks: 3,
  packBytes: 2048,
  spareBuffers: 1,
  waitingLeaves: 3,
  packChanges: 5,
  pagePackBytes: 8192,
};
export const PASSPHRASE = 'correct horse';
export const MACHINE: MachineId = parseMachineId('machine-1');
/** scrypt as cheap as it gets: these tests are not about guessing passphrases. */
export const CHEAP_SCRYPT = { cost: 2, blockSize: 1, parallelization: 1 };

function tinyDeps(deps: RepositoryDeps = {}): RepositoryDeps {
  return { sealer: inlineSealer({ laneCount: 2 }), opener: inlineOpener(), writerLimits: TINY_LIMITS, ...deps };
}

export function initTiny(store: ObjectStore, deps: RepositoryDeps = {}): Promise<Repository> {
  return initRepository({
    store,
    secret: { passphrase: PASSPHRASE },
    chunkSizeBytes: TINY_CHUNK,
    geometry: TINY_GEOMETRY,
    scryptCost: CHEAP_SCRYPT,
    deps: tinyDeps(deps),
  });
}

export function openTiny(store: ObjectStore, deps: RepositoryDeps = {}): Promise<Repository> {
  return openRepository({ store, secret: { passphrase: PASSPHRASE }, deps: tinyDeps(deps) });
}

/** `p20260101T00000<n>Z-0000000<n>`: sorts by n. */
export function pointId(n: number): PointId {
  const two = String(n).padStart(4, '0');
  return parsePointId(`p20260101T00${two}Z-${n.toString(16).padStart(8, '0')}`);
}

/** A directory in memory where the machine has one: tests write small files by the thousand. */
export class Scratch {
  readonly path: string;
  #files = 0;

  constructor() {
    this.path = mkdtempSync('/dev/shm/lifeboat-repository-');
  }

  directory(): string {
    return mkdtempSync(join(this.path, 'd-'));
  }

  file(content: Uint8Array): string {
    const path = join(this.path, `file-${this.#files++}`);
    writeFileSync(path, content);
    return path;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}
