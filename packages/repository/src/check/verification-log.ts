/**
 * Which packs were looked at, and when: `control/verified/<ms>-<random>.<tag>`, shared by all who check the repository.
 *
 * It lies in the store and not on a host's disk: checkers on several hosts then share the work, and a host that is lost takes nothing
 * along. A store that lies can hide records, which costs a second look, and cannot make one: name and content need the tenant's keys.
 * A record never claims more than was seen: its time is taken before the first of its packs was read, and only packs that were whole
 * are in it. Its time in the name, so that the newest are read first.
 */
import { hasCode } from '@lifeboat/foundation/errors';

import { MAX_CLOCK_SKEW_MS } from '../collect/mark.ts';
import { listRecords } from '../collect/listing.ts';
import { PackNames } from '../collect/pack-names.ts';
import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { MAX_VERIFICATION_BYTES, MAX_VERIFIED_PACKS } from '../format/limits.ts';
import { hashBytes, hex, VERIFIED, verifiedObject, type PackName } from '../format/names.ts';
import {
  decodeVerification,
  encodeVerification,
  VERIFIED_NAME_BYTES,
  type CheckLevel,
  type Verification,
} from '../format/verification.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { PackAges } from './pack-ages.ts';

/** Records fetched at a time: 16 MiB of them. */
const FETCHED_AT_ONCE = 16;
/** A year of a run every ten minutes. Older ones are passed over. */
const MAX_RECORDS_READ = 65_536;
/** What a kill -9 costs at most. */
const PUBLISH_EVERY_MS = 10 * 60_000;

/**
 * Takes the records into `ages`, newest first. `known`: names that were read before; they are passed over, and what is read is added.
 * Returns the names of records that say nothing any more. What is damaged, or not ours, counts as none. A listing that fails throws.
 */
export async function learnAges(
  core: Core,
  ages: PackAges,
  input: { readonly known: Set<string> },
  options: StoreOptions = {},
): Promise<{ superseded: string[] }> {
  const { ours } = await listRecords(core, VERIFIED, options);
  const names = [...ours.values()].filter((name) => !input.known.has(name)).toSorted();
  if (names.length > MAX_RECORDS_READ)
    core.log.warn('there are more records of checks than are read', { records: names.length, limit: MAX_RECORDS_READ });
  const superseded: string[] = [];
  const newest = names.slice(-MAX_RECORDS_READ).toReversed();
  for (let at = 0; at < newest.length; at += FETCHED_AT_ONCE) {
    const some = newest.slice(at, at + FETCHED_AT_ONCE);
    const records = await Promise.all(some.map((name) => readRecord(core, name, options)));
    for (const [i, record] of records.entries()) {
      const name = some[i] ?? '';
      input.known.add(name);
      if (record && ages.learn(record.packs, record.level, record.sinceMs) === 0) superseded.push(name);
    }
  }
  return { superseded };
}

async function readRecord(core: Core, name: string, options: StoreOptions): Promise<Verification | undefined> {
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_VERIFICATION_BYTES });
    const record = decodeVerification(openRecord(core, { type: 'VRFY', name, object }), name);
    const aheadMs = record.sinceMs - core.clock.nowMs();
    // It would keep its packs from being looked at until then.
    if (aheadMs > MAX_CLOCK_SKEW_MS) throw damaged(name, `it is from ${Math.round(aheadMs / 60_000)} minutes from now`);
    return record;
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('a record of a check cannot be used; its packs are looked at again', {
      object: name,
      why: error.message,
    });
    return undefined;
  }
}

/** Removes records that say nothing any more. Who may not delete leaves that to who may. */
export async function dropSuperseded(core: Core, names: readonly string[], options: StoreOptions = {}): Promise<void> {
  for (const name of names) {
    try {
      await core.store.delete(name, options);
    } catch (error) {
      if (!hasCode(error, 'repository.store-denied', 'repository.object-locked')) throw error;
      core.log.info('records of checks that are out of date stay', { records: names.length, why: error.message });
      return;
    }
  }
}

/** Writes down what one checker looked at and found whole. */
export class VerificationLog {
  readonly #core: Core;
  readonly #level: CheckLevel;
  /** Names of records this one wrote. */
  readonly written = new Set<string>();
  readonly #noted = new PackNames();
  #packs: Buffer[] = [];
  #sinceMs: number | undefined;
  #denied = false;

  constructor(core: Core, level: CheckLevel) {
    this.#core = core;
    this.#level = level;
  }

  /** To be called before a pack is read. */
  begin(): void {
    this.#sinceMs ??= this.#core.clock.nowMs();
  }

  /** Resolves when the pack is taken down, and now and then when it is published. A pack is taken down once. */
  async note(pack: PackName): Promise<void> {
    // Two names that begin alike are taken for one: then the second is looked at again by the next pass.
    if (this.#noted.has(pack)) return;
    this.#noted.add(pack);
    this.begin();
    this.#packs.push(hashBytes(pack).subarray(0, VERIFIED_NAME_BYTES));
    const ageMs = this.#core.clock.nowMs() - (this.#sinceMs ?? Infinity);
    if (this.#packs.length >= MAX_VERIFIED_PACKS || ageMs >= PUBLISH_EVERY_MS) await this.publish();
  }

  /** A run that may write nothing, by the store or by its keys, is a run all the same: that is logged, and the next one looks at the same packs. */
  async publish(options: StoreOptions = {}): Promise<void> {
    const packs = this.#packs;
    const sinceMs = this.#sinceMs;
    this.#packs = [];
    this.#sinceMs = undefined;
    if (packs.length === 0 || sinceMs === undefined || this.#denied) return;
    const core = this.#core;
    const sorted = distinct(packs.toSorted((a, b) => a.compare(b)));
    for (let at = 0; at < sorted.length; at += MAX_VERIFIED_PACKS) {
      const recordId = `${String(sinceMs).padStart(14, '0')}-${hex(core.random.bytes(8))}`;
      const name = controlName(core, verifiedObject(recordId));
      const part = Buffer.concat(sorted.slice(at, at + MAX_VERIFIED_PACKS));
      const body = encodeVerification({ sinceMs, level: this.#level, packs: part });
      try {
        await core.store.putIfAbsent(name, [sealRecord(core, { type: 'VRFY', name, body })], options);
      } catch (error) {
        if (!hasCode(error, 'repository.store-denied', 'repository.not-permitted')) throw error;
        core.log.warn('which packs were looked at cannot be written down', { why: error.message });
        this.#denied = true;
        return;
      }
      this.written.add(name);
    }
  }
}

function distinct(sorted: readonly Buffer[]): Buffer[] {
  return sorted.filter((name, i) => !sorted[i - 1]?.equals(name));
}
