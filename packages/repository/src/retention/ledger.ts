/**
 * The retention ledger in the store: `data/retention/00000001`, `…02`, and so on, each with the tag of who has the keys behind it.
 *
 * Numbers have no gaps, so an entry that is gone is noticed, unless it was the last. What has a name of ours and cannot be read counts as
 * lost: it may have been a hold. What has no such name is foreign: whoever may put objects could stop pruning for ever otherwise, or take
 * the next number. It means nothing, and a collection names it.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { decodeLedgerEntry, encodeLedgerBody, encodeLedgerEntry, type LedgerEntry } from '../format/ledger-entry.ts';
import { MAX_LEDGER_ENTRIES, MAX_RECORD_BYTES } from '../format/limits.ts';
import { LEDGER, ledgerNumberOf, ledgerObject } from '../format/names.ts';
import { inLanes } from '../lock/lanes.ts';
import { controlName, plainName } from '../seal/control-records.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import type { OpenedSlot } from '../seal/key-store.ts';
import { isBadObject } from '../store/bad-object.ts';
import { listNames, type ObjectStore, type StoreOptions } from '../store/object-store.ts';
import { LedgerFold, type LedgerState } from './ledger-state.ts';

/** Entries that are read at a time. */
const LANES = 8;
/** Others that write at the same moment; each attempt reads what they wrote. */
const MAX_ATTEMPTS = 16;

export interface Ledger {
  readonly fold: LedgerFold;
  readonly state: LedgerState;
  /** Where the next entry goes. */
  readonly next: number;
}

/** What an entry is stored under. */
export function ledgerName(core: Pick<Core, 'keyring'>, number: number): string {
  return controlName(core, ledgerObject(number));
}

/** How entries are told from what others put there. Where nobody can tell without a key, what is said of a repository is not proven. */
interface Trust {
  /** The number of the entry a name says; undefined for what is not ours. */
  readonly numberOf: (name: string) => number | undefined;
  readonly isOurs: (entry: LedgerEntry, signed: { body: Uint8Array; signature: Uint8Array }) => boolean;
}

const UNPROVEN: Trust = {
  numberOf: (name) => ledgerNumberOf(name.slice(0, Math.max(0, name.lastIndexOf('.')))),
  isOurs: () => true,
};

/** Errors: `repository.newer-version`, `repository.limit-exceeded`, those of the store. */
export function readLedger(core: Core, options: StoreOptions = {}): Promise<Ledger> {
  const { keyring, store } = core;
  return readLedgerOf(store, options, {
    numberOf: (name) => ledgerNumberOf(plainName(core, name) ?? ''),
    isOurs: ({ tenantId, signer }, { body, signature }) =>
      Buffer.compare(tenantId, keyring.tenantId) === 0 && keyring.verify(signer, signedLedgerEntry(body), signature),
  });
}

/** Without `trust` nothing is proven: for showing what there is without a key. `store` is the tenant's. */
export async function readLedgerOf(
  store: ObjectStore,
  options: StoreOptions = {},
  trust: Trust = UNPROVEN,
): Promise<Ledger> {
  const names: { number: number; name: string }[] = [];
  for await (const name of listNames(store, LEDGER, options)) {
    const number = trust.numberOf(name);
    if (number !== undefined) names.push({ number, name });
    if (names.length > MAX_LEDGER_ENTRIES) {
      const message = `${store.description} has more than ${MAX_LEDGER_ENTRIES} entries in its retention ledger`;
      throw new LifeboatError('repository.limit-exceeded', message);
    }
  }
  const found = new Map<number, LedgerEntry | LifeboatError>();
  await inLanes(LANES, each(names), async ({ number, name }) => {
    const entry = await readEntry(store, { number, name }, { ...options, isOurs: trust.isOurs });
    // Of two under one number, which only who has no key can see, the one that can be read.
    if (!found.has(number) || !(entry instanceof LifeboatError)) found.set(number, entry);
  });
  const sorted = [...found].toSorted(([a], [b]) => a - b);
  const fold = new LedgerFold();
  const newest = sorted.findLast(([, entry]) => !(entry instanceof LifeboatError))?.[0] ?? 0;
  let expected = 1;
  for (const [number, entry] of sorted) {
    // Behind the newest that can be read nothing is missing, however high the number of what cannot.
    for (; expected < number && expected < newest; expected++) fold.lose(expected, 'it is not there any more');
    if (entry instanceof LifeboatError) fold.lose(number, entry.message);
    else fold.add(entry);
    expected = number + 1;
  }
  let next = newest + 1;
  while (found.has(next)) next++;
  return { fold, state: fold.state(), next };
}

async function readEntry(
  store: ObjectStore,
  { number, name }: { readonly number: number; readonly name: string },
  options: StoreOptions & Pick<Trust, 'isOurs'>,
): Promise<LedgerEntry | LifeboatError> {
  try {
    const object = await store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const { entry, ...signed } = decodeLedgerEntry(object, name);
    if (entry.number !== number) throw damaged(name, `it is entry ${entry.number}`);
    if (!options.isOurs(entry, signed)) throw damaged(name, 'its signature is not ours');
    return entry;
  } catch (error) {
    if (!isBadObject(error) && !hasCode(error, 'repository.object-missing')) throw error;
    return error;
  }
}

/**
 * Writes the entry that `make` wants, knowing all that are there: it is asked again when somebody else was first, and returns undefined
 * when there is nothing to do any more. Errors: `repository.retention-refused` where the rules do not allow it, `repository.retention-busy`,
 * those of the store, what `make` throws.
 */
export async function appendToLedger(
  core: Core,
  by: OpenedSlot,
  make: (ledger: Ledger) => Promise<Pick<LedgerEntry, 'step' | 'reason'> | undefined>,
  options: StoreOptions = {},
): Promise<LedgerEntry | undefined> {
  const { keyring, store, clock } = core;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const ledger = await readLedger(core, options);
    const wanted = await make(ledger);
    if (!wanted) return undefined;
    const entry: LedgerEntry = {
      ...wanted,
      tenantId: keyring.tenantId,
      number: ledger.next,
      signedMs: clock.nowMs(),
      slotId: Buffer.from(by.slotId, 'hex'),
      slotLabel: by.label,
      signer: keyring.signer,
    };
    const why = ledger.fold.refusal(entry);
    if (why !== undefined) throw new LifeboatError('repository.retention-refused', why);
    const body = encodeLedgerBody(entry);
    const object = encodeLedgerEntry({ body, signature: keyring.sign(signedLedgerEntry(body)) });
    if ((await store.putIfAbsent(ledgerName(core, entry.number), [object], options)) === 'created') return entry;
  }
  throw new LifeboatError('repository.retention-busy', `the retention ledger changed ${MAX_ATTEMPTS} times meanwhile`);
}

function signedLedgerEntry(body: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat retention', body);
}

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items;
}
