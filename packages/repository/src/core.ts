import type { Clock } from '@lifeboat/foundation/clock';
import type { Log } from '@lifeboat/foundation/log';
import type { Random } from '@lifeboat/foundation/random';

import type { SafetyRules } from './collect/rules.ts';
import type { Superblock } from './format/superblock.ts';
import type { BlobReader } from './read/blob-reader.ts';
import type { PageReader } from './read/page-reader.ts';
import type { Relocations } from './read/relocations.ts';
import type { Keyring } from './seal/keyring.ts';
import type { Compression } from './seal/codec.ts';
import type { ObjectStore, StoreOptions } from './store/object-store.ts';

/** An open repository, as its rooms see it. */
export interface Core {
  readonly store: ObjectStore;
  readonly superblock: Superblock;
  readonly keyring: Keyring;
  /** Takes over epochs that another process began. */
  readonly refreshKeys: (options?: StoreOptions) => Promise<void>;
  readonly blobs: BlobReader;
  readonly pages: PageReader;
  readonly relocations: Relocations;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** zstd at a level, for pages and points; chunks are compressed by the sealer. */
  readonly zstd: (level: number) => Compression;
  /** All of them hold; only a simulation takes one away. */
  readonly rules: SafetyRules;
}
