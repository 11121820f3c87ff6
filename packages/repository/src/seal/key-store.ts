/**
 * Key sets in a store: `keys/<tenant>/<generation>-a` and `-b`, equal bytes.
 *
 * A change is decided by the create-only write of `-a` of the next generation. Older generations are removed afterwards, where
 * the store allows; where it does not, whoever held a removed secret still opens what that older set holds.
 */
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';

import { damaged } from '../format/frame.ts';
import { decodeKeySet, type KeyBundle, type KeySet } from '../format/key-set.ts';
import { MAX_KEY_SET_BYTES, MAX_PASSPHRASE_TRIES, MAX_TENANTS } from '../format/limits.ts';
import { hex, keySetObject, keySetOfObject, keySetsPrefix, KEYS, type KeySetCopy } from '../format/names.ts';
import { isBadObject } from '../store/bad-object.ts';
import { listNames, type ObjectStore, type StoreOptions } from '../store/object-store.ts';
import { isSignedBy, openKeySet } from './key-set.ts';
import { openSlot, type SlotBinding } from './key-slot.ts';
import { kindOfSecret, type SecretBytes } from './secret.ts';

const COPIES = ['a', 'b'] as const satisfies readonly KeySetCopy[];

/** A set that can be removed at any moment by a newer one; a listing is repeated so often before that counts as missing. */
const LISTING_ATTEMPTS = 3;

export interface TenantKeys {
  /** 32 hexadecimal digits. */
  readonly tenant: string;
  /** Of sets that are there, newest first. */
  readonly generations: readonly number[];
}

/** Every tenant that has a key set, or the one of an id, by its id. Objects that are none are logged and left alone. */
export async function listTenants(
  store: ObjectStore,
  options: StoreOptions & { readonly log?: Log; readonly tenant?: string } = {},
): Promise<TenantKeys[]> {
  const prefix = options.tenant === undefined ? KEYS : keySetsPrefix(options.tenant);
  const found = new Map<string, Set<number>>();
  for await (const name of listNames(store, prefix, options)) {
    const set = keySetOfObject(name);
    if (!set) {
      options.log?.warn('an object among the keys is no key set; it is ignored', { object: name });
      continue;
    }
    const generations = found.get(set.tenant) ?? new Set();
    found.set(set.tenant, generations.add(set.generation));
    if (found.size > MAX_TENANTS) {
      throw new LifeboatError('repository.limit-exceeded', `${store.description} has more than ${MAX_TENANTS} tenants`);
    }
  }
  return [...found]
    .map(([tenant, generations]) => ({ tenant, generations: [...generations].toSorted((a, b) => b - a) }))
    .toSorted((a, b) => (a.tenant < b.tenant ? -1 : 1));
}

/** Of the sets a tenant has; 0: none is listed, as may happen for a moment while an older one gives way. */
export async function newestGeneration(
  store: ObjectStore,
  tenant: string,
  options: StoreOptions = {},
): Promise<number> {
  let newest = 0;
  for await (const name of listNames(store, keySetsPrefix(tenant), options))
    newest = Math.max(newest, keySetOfObject(name)?.generation ?? 0);
  return newest;
}

/** Sets of one generation that can be read, with what cannot. Equal copies count once. */
async function readCopies(
  store: ObjectStore,
  at: { tenant: string; generation: number },
  options: StoreOptions,
): Promise<{ sets: { set: KeySet; object: Uint8Array; what: string }[]; damage: LifeboatError[] }> {
  const sets: { set: KeySet; object: Uint8Array; what: string }[] = [];
  const damage: LifeboatError[] = [];
  for (const copy of COPIES) {
    const what = keySetObject(at.tenant, at.generation, copy);
    try {
      const object = await store.get(what, { ...options, maxBytes: MAX_KEY_SET_BYTES });
      if (sets.some((known) => Buffer.compare(known.object, object) === 0)) continue;
      const set = decodeKeySet(object, what);
      if (hex(set.tenantId) !== at.tenant || set.generation !== at.generation) {
        throw damaged(what, `it is generation ${set.generation} of tenant ${hex(set.tenantId)}`);
      }
      sets.push({ set, object, what });
    } catch (error) {
      if (!isBadObject(error) && !hasCode(error, 'repository.object-missing')) throw error;
      damage.push(error);
    }
  }
  return { sets, damage };
}

/** The newest set of a tenant that is readable; nothing is proven about it yet. For showing what there is without a key. */
export async function readNewestSet(store: ObjectStore, keys: TenantKeys, options: StoreOptions = {}): Promise<KeySet> {
  let first: LifeboatError | undefined;
  for (const generation of keys.generations) {
    const { sets, damage } = await readCopies(store, { tenant: keys.tenant, generation }, options);
    if (sets[0]) return sets[0].set;
    first ??= damage[0];
  }
  throw first ?? new LifeboatError('repository.object-missing', `tenant ${keys.tenant} has no key set`);
}

/**
 * The newest set of a tenant that can be read and that `signer` signed: what its open fields say is then so. Others are passed over, as
 * anybody may put them. Throws `repository.object-damaged` or `.object-missing` where there is none.
 */
export async function readSignedSet(
  store: ObjectStore,
  by: { readonly tenant: string; readonly signer: Uint8Array; readonly superblockHash: Uint8Array },
  options: StoreOptions = {},
): Promise<KeySet> {
  let first: LifeboatError | undefined;
  const [keys] = await listTenants(store, { ...options, tenant: by.tenant });
  for (const generation of keys?.generations ?? []) {
    const { sets, damage } = await readCopies(store, { tenant: by.tenant, generation }, options);
    const signed = sets.find(({ set }) => isSignedBy(set, by));
    if (signed) return signed.set;
    first ??= damage[0] ?? damaged(sets[0]?.what ?? KEYS, 'it is not signed by the tenant');
  }
  throw first ?? new LifeboatError('repository.object-missing', `tenant ${by.tenant} has no key set`);
}

/** Whether a copy of this generation can be read that `signer` signed. Errors: those of the store. */
export async function isSetBy(
  store: ObjectStore,
  of: { readonly generation: number; readonly by: Parameters<typeof readSignedSet>[1] },
  options: StoreOptions = {},
): Promise<boolean> {
  const { generation, by } = of;
  const { sets } = await readCopies(store, { tenant: by.tenant, generation }, options);
  return sets.some(({ set }) => isSignedBy(set, by));
}

/** The way in that was used: for people, and to tell two people apart. */
export interface OpenedSlot {
  /** 16 hexadecimal digits. */
  readonly slotId: string;
  readonly label: string;
}

export interface Unlocked {
  readonly bundle: KeyBundle;
  readonly set: KeySet;
  readonly slot: OpenedSlot;
}

const TENANT_ID = /^[0-9a-f]{32}$/;

/** What is asked for, and may be its own answer: whoever may put objects can put more key sets than anybody looks at. */
interface Wanted {
  /** Name or id. */
  readonly tenant?: string | undefined;
  /** Id of the repository's first tenant, which is tried where there are too many to try all. */
  readonly first?: string;
  readonly log?: Log;
}

async function tenantsToTry(store: ObjectStore, wanted: Wanted, options: StoreOptions): Promise<TenantKeys[]> {
  const { tenant, first, log } = wanted;
  const logged = { ...options, ...(log ? { log } : {}) };
  if (tenant !== undefined && TENANT_ID.test(tenant)) {
    const own = await listTenants(store, { ...logged, tenant });
    if (own.length > 0) return own;
  }
  try {
    return await listTenants(store, logged);
  } catch (error) {
    if (tenant !== undefined || first === undefined || !hasCode(error, 'repository.limit-exceeded')) throw error;
    log?.error('there are more key sets than are looked at; only the first tenant is tried', { tenant: first });
    return listTenants(store, { ...logged, tenant: first });
  }
}

/**
 * Tries every slot of every tenant, or of the one that is named by id or name; a damaged copy must not keep out who has a key.
 * Throws `repository.wrong-passphrase`, `.wrong-key-file`, `.wrong-paper`, `.kms-refused`, `.kms-unreachable`, `.tenant-missing`,
 * `.object-damaged`, `.object-missing`, `.newer-version`.
 */
export async function unlock(
  store: ObjectStore,
  input: Wanted & { readonly secret: SecretBytes; readonly superblockHash: Uint8Array },
  options: StoreOptions = {},
): Promise<Unlocked> {
  let damage: LifeboatError | undefined;
  let tried = 0;
  for (let attempt = 0; attempt < LISTING_ATTEMPTS; attempt++) {
    const tenants = await tenantsToTry(store, input, options);
    if (tenants.length === 0) {
      const message = `${store.description} has a superblock, but no keys in ${KEYS}`;
      throw new LifeboatError('repository.object-missing', message, { context: { object: KEYS } });
    }
    const opener = new SetOpener(store, { ...input, options });
    let named = false;
    for (const keys of tenants) {
      if (input.tenant !== undefined && !(await isNamed(store, keys, input.tenant, options))) continue;
      named = true;
      const opened = await opener.tryTenant(keys);
      if (opened) return opened;
    }
    if (!named && input.tenant !== undefined) {
      throw new LifeboatError('repository.tenant-missing', `${store.description} has no tenant ${input.tenant}`);
    }
    damage = opener.damage;
    tried = opener.tried;
    // Sets that vanish while they are read were replaced by newer ones: look again.
    if (!hasCode(damage, 'repository.object-missing')) break;
  }
  if (damage) throw damage;
  const kind = kindOfSecret(input.secret);
  const where = `${store.description}${input.tenant === undefined ? '' : ` (tenant ${input.tenant})`}`;
  const code = {
    passphrase: 'repository.wrong-passphrase',
    'key file': 'repository.wrong-key-file',
    paper: 'repository.wrong-paper',
    'key service': 'repository.kms-refused',
  } as const;
  throw new LifeboatError(code[kind], `none of the ${tried} ways into ${where} opens with this ${kind}`);
}

async function isNamed(store: ObjectStore, keys: TenantKeys, name: string, options: StoreOptions): Promise<boolean> {
  if (keys.tenant === name) return true;
  try {
    return (await readNewestSet(store, keys, options)).tenantName === name;
  } catch (error) {
    // Another tenant's damage must not keep this one out; a damaged one is still found by its id.
    if (!isBadObject(error) && !hasCode(error, 'repository.object-missing')) throw error;
    return false;
  }
}

/**
 * Sets older than `generation` that are still there, newest first; nothing is proven about them. What another program removes meanwhile is
 * not among them, nor what is no set: it opens nothing.
 */
export async function readOlderSets(
  store: ObjectStore,
  keys: TenantKeys,
  generation: number,
  options: StoreOptions = {},
): Promise<KeySet[]> {
  const older: KeySet[] = [];
  for (const candidate of keys.generations) {
    if (candidate >= generation) continue;
    try {
      older.push(await readNewestSet(store, { ...keys, generations: [candidate] }, options));
    } catch (error) {
      if (!isBadObject(error) && !hasCode(error, 'repository.object-missing')) throw error;
    }
  }
  return older;
}

class SetOpener {
  damage: LifeboatError | undefined;
  tried = 0;
  readonly #store: ObjectStore;
  readonly #input: { secret: SecretBytes; superblockHash: Uint8Array; log?: Log; options: StoreOptions };

  constructor(
    store: ObjectStore,
    input: { secret: SecretBytes; superblockHash: Uint8Array; log?: Log; options: StoreOptions },
  ) {
    this.#store = store;
    this.#input = input;
  }

  /** Newest generation first; an older one only where the newest cannot be used at all. */
  async tryTenant({ tenant, generations }: TenantKeys): Promise<Unlocked | undefined> {
    const unreadable: LifeboatError[] = [];
    for (const generation of generations) {
      const { sets, damage } = await readCopies(this.#store, { tenant, generation }, this.#input.options);
      unreadable.push(...damage);
      let readable = false;
      for (const { set, what } of sets) {
        const outcome = await this.#trySet(set, what);
        if (typeof outcome === 'object') return { set, ...outcome };
        readable ||= outcome === 'wrong-secret';
      }
      // With one whole copy the answer is "wrong secret", whatever happened to the other.
      if (readable) return undefined;
    }
    for (const error of unreadable) this.#note(error);
    return undefined;
  }

  async #trySet(set: KeySet, what: string): Promise<Omit<Unlocked, 'set'> | 'wrong-secret' | 'damaged'> {
    const { secret, superblockHash, options } = this.#input;
    const binding: SlotBinding = { superblockHash, tenantId: set.tenantId };
    let result: 'wrong-secret' | 'damaged' = 'wrong-secret';
    for (const slot of set.slots) {
      if ('passphrase' in secret && slot.scrypt && this.tried >= MAX_PASSPHRASE_TRIES) {
        throw new LifeboatError(
          'repository.limit-exceeded',
          `${MAX_PASSPHRASE_TRIES} passphrases were tried without success; name the tenant`,
        );
      }
      this.tried++;
      try {
        const opened = await openSlot(slot, { secret, binding, ...options });
        if (opened === 'wrong-secret') continue;
        if (opened === 'damaged') {
          throw damaged(what, `the ${kindOfSecret(secret)} is right, but slot ${hex(slot.slotId)} does not open`);
        }
        const bundle = openKeySet(set, { ...opened, binding, what });
        return { bundle, slot: { slotId: hex(slot.slotId), label: slot.label } };
      } catch (error) {
        if (!hasCode(error, 'repository.object-damaged', 'repository.kms-refused')) throw error;
        this.#note(error);
        result = hasCode(error, 'repository.object-damaged') ? 'damaged' : result;
      }
    }
    return result;
  }

  #note(error: LifeboatError): void {
    this.damage ??= error;
    this.#input.log?.warn('a key set or slot cannot be used', { why: messageOf(error) });
  }
}

/**
 * Writes a set under its generation. 'exists': somebody else made that generation first, and nothing was changed.
 * Both copies are read back before this resolves.
 */
export async function writeKeySet(
  store: ObjectStore,
  input: { tenant: string; generation: number; object: Uint8Array },
  options: StoreOptions = {},
): Promise<'created' | 'exists'> {
  const { tenant, generation, object } = input;
  for (const copy of COPIES) {
    const name = keySetObject(tenant, generation, copy);
    const put = await store.putIfAbsent(name, [object], options);
    let there;
    try {
      there = await store.get(name, { ...options, maxBytes: MAX_KEY_SET_BYTES });
    } catch (error) {
      // Somebody built on this set and removed it since; what they made holds what this one added.
      const replaced = hasCode(error, 'repository.object-missing');
      if (!replaced || (await newestGeneration(store, tenant, options)) <= generation) throw error;
      return put === 'exists' && copy === 'a' ? 'exists' : 'created';
    }
    if (Buffer.compare(there, object) !== 0) {
      if (copy === 'a') return 'exists';
      throw damaged(name, 'it is not the copy that was written');
    }
  }
  return 'created';
}

/** Removes sets of a tenant older than `generation`. Returns the names of those the store did not let go. */
export async function removeOlderSets(
  store: ObjectStore,
  input: { tenant: string; generation: number },
  options: StoreOptions = {},
): Promise<string[]> {
  const kept: string[] = [];
  const [keys] = await listTenants(store, { ...options, tenant: input.tenant });
  for (const generation of keys?.generations ?? []) {
    if (generation >= input.generation) continue;
    for (const copy of COPIES) {
      const name = keySetObject(input.tenant, generation, copy);
      try {
        await store.delete(name, options);
      } catch (error) {
        if (!hasCode(error, 'repository.store-denied', 'repository.object-locked')) throw error;
        kept.push(name);
      }
    }
  }
  return kept;
}
