/** The ways into one tenant: adding, removing, rotating. Every change is a new key set (`seal/key-store.ts`). */
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import type { Random } from '@lifeboat/foundation/random';

import { decodeKeySet, type KeyBundle, type KeySet } from '../format/key-set.ts';
import { MAX_KEY_SLOTS } from '../format/limits.ts';
import { hex, keySetObject } from '../format/names.ts';
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';
import { publicPart } from './curve-keys.ts';
import { sealKeySet } from './key-set.ts';
import { makeSlot, type SlotBase } from './key-slot.ts';
import {
  isSetBy,
  listTenants,
  readNewestSet,
  readOlderSets,
  removeOlderSets,
  unlock,
  writeKeySet,
  type Unlocked,
} from './key-store.ts';
import { newestEpoch } from './keyring.ts';
import { assertPaperOf, paperLines } from './paper.ts';
import { kindOfSlot, secretBytes, type Cost, type Secret, type SecretBytes, type SecretKind } from './secret.ts';

/** Others that change keys at the same moment; each attempt reads what they made. */
const MAX_ATTEMPTS = 8;

export interface SlotInfo {
  /** 16 hexadecimal digits. */
  readonly slotId: string;
  readonly label: string;
  readonly kind: SecretKind;
  readonly createdMs: number;
  /** Of a key service: which, and its name for the key. */
  readonly provider?: string;
  readonly keyRef?: string;
}

export interface KeysInfo {
  readonly tenantId: string;
  readonly tenantName: string;
  readonly generation: number;
  readonly changedMs: number;
  /** Rises by one with each rotation. */
  readonly epoch: number;
  readonly slots: readonly SlotInfo[];
  /** Generations that should be gone: the store did not let go of them. Secrets that were removed still open these. */
  readonly leftGenerations: readonly number[];
  /** Whether destroying keys of a key service would make the tenant unreadable for good; else why not. */
  readonly shred: { readonly possible: boolean; readonly obstacles: readonly string[] };
}

export interface KeyChange {
  readonly info: KeysInfo;
  /** Objects of older generations that the store did not let go. */
  readonly kept: readonly string[];
}

/** What stands on a printed page. Whoever reads it can read the tenant. */
export interface KeyPage {
  readonly repositoryId: string;
  readonly tenantId: string;
  readonly tenantName: string;
  /** The newest when it was printed; it opens those that follow, too. */
  readonly epoch: number;
  readonly slotId: string;
  readonly label: string;
  readonly createdMs: number;
  /** The secret as it is typed. */
  readonly lines: readonly string[];
}

/** What can be said about the keys of all tenants without any key. Nothing of it is proven by a signature. */
export async function describeTenants(store: ObjectStore, options: StoreOptions = {}): Promise<KeysInfo[]> {
  const tenants: KeysInfo[] = [];
  for (const keys of await listTenants(store, options)) {
    const set = await readNewestSet(store, keys, options);
    tenants.push(describe(set, await readOlderSets(store, keys, set.generation, options)));
  }
  return tenants;
}

/** Generation 1 of a new tenant. */
export async function writeFirstKeySet(input: {
  store: ObjectStore;
  secret: SecretBytes;
  bundle: KeyBundle;
  superblockHash: Uint8Array;
  random: Random;
  createdMs: number;
  label?: string;
  tenantName?: string;
  scryptCost?: Cost;
}): Promise<Unlocked> {
  const { store, bundle, superblockHash, random, createdMs } = input;
  const slot = await makeSlot({
    secret: input.secret,
    label: input.label ?? 'first',
    signer: publicPart('ed25519', bundle.signingSeed),
    binding: { superblockHash, tenantId: bundle.tenantId },
    createdMs,
    random,
    cost: input.scryptCost,
  });
  const object = sealKeySet(
    { bundle, tenantName: input.tenantName ?? 'default', generation: 1, createdMs, slots: [slot] },
    { superblockHash, random },
  );
  const tenant = hex(bundle.tenantId);
  if ((await writeKeySet(store, { tenant, generation: 1, object })) === 'exists') {
    throw new LifeboatError('internal.bug', `a new tenant got the id ${tenant} of another`);
  }
  return {
    bundle,
    set: decodeKeySet(object, keySetObject(tenant, 1, 'a')),
    slot: { slotId: hex(slot.slotId), label: slot.label },
  };
}

export class RepositoryKeys {
  readonly #store: ObjectStore;
  readonly #repositoryId: Uint8Array;
  readonly #superblockHash: Uint8Array;
  readonly #tenantId: Uint8Array;
  readonly #secret: SecretBytes;
  readonly #deps: { readonly clock: Clock; readonly random: Random; readonly log: Log };

  /** `store` as it is for all tenants; `secret` one that opens this tenant. */
  constructor(input: {
    store: ObjectStore;
    repositoryId: Uint8Array;
    superblockHash: Uint8Array;
    tenantId: Uint8Array;
    secret: SecretBytes;
    clock: Clock;
    random: Random;
    log: Log;
  }) {
    this.#store = input.store;
    this.#repositoryId = input.repositoryId;
    this.#superblockHash = input.superblockHash;
    this.#tenantId = input.tenantId;
    this.#secret = input.secret;
    this.#deps = input;
  }

  /** The keys as they are now, proven by the tenant's signature. */
  async info(options: StoreOptions = {}): Promise<KeysInfo> {
    const { set } = await this.unlock(options);
    return this.#describe(set, options);
  }

  /** Adds a way in; a key file that does not exist is made. Errors: `repository.limit-exceeded`, those of `unlock` and the store. */
  async add(
    input: { secret: Secret; label: string; scryptCost?: Cost },
    options: StoreOptions = {},
  ): Promise<KeyChange> {
    const secret = await secretBytes(input.secret, this.#deps.random);
    assertPaperOf(secret, this.#repositoryId);
    return (await this.#add({ ...input, secret }, options)).change;
  }

  /**
   * Adds a way in that is meant for paper: what is returned is the only copy. A page is a slot like any other, and says which; to
   * remove the slot makes the page worthless.
   */
  async print(input: { label: string }, options: StoreOptions = {}): Promise<KeyPage> {
    const paper = { repository: this.#repositoryId, key: this.#deps.random.bytes(32) };
    const { change, slot } = await this.#add({ ...input, secret: { paper } }, options);
    const { tenantId, tenantName, epoch } = change.info;
    return {
      repositoryId: hex(this.#repositoryId),
      tenantId,
      tenantName,
      epoch,
      slotId: hex(slot.slotId),
      label: slot.label,
      createdMs: slot.createdMs,
      lines: paperLines(paper.repository, paper.key),
    };
  }

  async #add(
    input: { secret: SecretBytes; label: string; scryptCost?: Cost },
    options: StoreOptions,
  ): Promise<{ change: KeyChange; slot: SlotBase }> {
    const { random, clock } = this.#deps;
    const { secret } = input;
    let slot: SlotBase | undefined;
    const change = await this.#change(options, async ({ bundle, set }) => {
      if (set.slots.length >= MAX_KEY_SLOTS) {
        throw new LifeboatError('repository.limit-exceeded', `there are ${MAX_KEY_SLOTS} ways in; no more are allowed`);
      }
      slot ??= await makeSlot({
        secret,
        label: input.label,
        signer: publicPart('ed25519', bundle.signingSeed),
        binding: { superblockHash: this.#superblockHash, tenantId: this.#tenantId },
        createdMs: clock.nowMs(),
        random,
        cost: input.scryptCost,
        ...options,
      });
      const { slotId } = slot;
      // An attempt whose outcome could not be told may have added it.
      const there = set.slots.some((candidate) => hex(candidate.slotId) === hex(slotId));
      return { bundle, slots: there ? set.slots : [...set.slots, slot] };
    });
    if (!slot) throw new LifeboatError('internal.bug', 'a way in was added without a slot');
    return { change, slot };
  }

  /**
   * Removes a way in. Who had it may have kept the keys it opened: only `rotate` shuts them out of what is written from then on.
   * Errors: `repository.key-slot-missing`, `repository.last-key-slot`.
   */
  remove(slotId: string, options: StoreOptions = {}): Promise<KeyChange> {
    return this.#change(options, async ({ bundle, set }) => {
      const slots = set.slots.filter((slot) => hex(slot.slotId) !== slotId);
      if (slots.length === set.slots.length) {
        throw new LifeboatError('repository.key-slot-missing', `tenant ${set.tenantName} has no key slot ${slotId}`);
      }
      if (slots.length === 0) {
        throw new LifeboatError('repository.last-key-slot', `slot ${slotId} is the last way into ${set.tenantName}`);
      }
      return { bundle, slots };
    });
  }

  /**
   * Begins a new epoch: sessions that begin from now on, in whatever process, seal their keys to a new key pair. Every slot opens it, and all epochs
   * before, so every point stays readable.
   */
  rotate(options: StoreOptions = {}): Promise<KeyChange> {
    return this.#change(options, async ({ bundle, set }) => {
      const epoch = newestEpoch(bundle).epoch + 1;
      const epochs = [...bundle.epochs, { epoch, sessionPrivateKey: this.#deps.random.bytes(32) }];
      return { bundle: { ...bundle, epochs }, slots: set.slots };
    });
  }

  /** Opened anew each time: keys that others changed meanwhile must not be lost. */
  unlock(options: StoreOptions): Promise<Unlocked> {
    const { log } = this.#deps;
    const input = { secret: this.#secret, superblockHash: this.#superblockHash, tenant: hex(this.#tenantId), log };
    return unlock(this.#store, input, options);
  }

  async #change(
    options: StoreOptions,
    next: (now: Unlocked) => Promise<{ bundle: KeyBundle; slots: readonly SlotBase[] }>,
  ): Promise<KeyChange> {
    const { clock, random } = this.#deps;
    const superblockHash = this.#superblockHash;
    const tenant = hex(this.#tenantId);
    let taken = 0;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const now = await this.unlock(options);
      const { tenantName } = now.set;
      const generation = Math.max(now.set.generation, taken) + 1;
      const changed = await next(now);
      const object = sealKeySet(
        { ...changed, tenantName, generation, createdMs: clock.nowMs() },
        { superblockHash, random },
      );
      if ((await writeKeySet(this.#store, { tenant, generation, object }, options)) === 'exists') {
        // Passed by where it is no set of the tenant's, or whoever puts one object would end all changes of its keys.
        const by = { tenant, signer: publicPart('ed25519', now.bundle.signingSeed), superblockHash };
        if (!(await isSetBy(this.#store, { generation, by }, options))) taken = generation;
        continue;
      }
      const kept = await removeOlderSets(this.#store, { tenant, generation }, options);
      const set = decodeKeySet(object, keySetObject(tenant, generation, 'a'));
      return { info: await this.#describe(set, options), kept };
    }
    throw new LifeboatError(
      'repository.keys-busy',
      `the keys of tenant ${tenant} changed ${MAX_ATTEMPTS} times meanwhile`,
    );
  }

  async #describe(set: KeySet, options: StoreOptions): Promise<KeysInfo> {
    const tenant = hex(this.#tenantId);
    const [keys] = await listTenants(this.#store, { ...options, tenant });
    return describe(set, keys ? await readOlderSets(this.#store, keys, set.generation, options) : []);
  }
}

function describe(set: KeySet, older: readonly KeySet[]): KeysInfo {
  const slots = set.slots.map((slot) => ({
    slotId: hex(slot.slotId),
    label: slot.label,
    kind: kindOfSlot(slot),
    createdMs: slot.createdMs,
    ...(slot.kms ? { provider: slot.kms.provider, keyRef: slot.kms.keyRef } : {}),
  }));
  const obstacles = [
    ...slots
      .filter(({ kind }) => kind !== 'key service')
      .map(({ kind, label }) =>
        kind === 'paper' ? `a key on paper opens it (${label})` : `a ${kind} opens it (${label})`,
      ),
    ...older
      .filter(({ slots: left }) => left.some((slot) => !slot.kms))
      .map(
        ({ generation }) =>
          `generation ${generation} of its keys, which something else than a key service opens, is still in the store`,
      ),
  ];
  return {
    tenantId: hex(set.tenantId),
    tenantName: set.tenantName,
    generation: set.generation,
    changedMs: set.createdMs,
    epoch: set.epoch,
    slots,
    leftGenerations: older.map(({ generation }) => generation),
    shred: { possible: obstacles.length === 0, obstacles },
  };
}
