/**
 * Control objects: what the control plane knows and the points do not say (machines, and later runbooks and catalogues). With the key they
 * are enough to build it up again. Policies and holds are no such objects: an order between them matters (`retention/ledger.ts`).
 *
 * ```
 *   data/objects/<kind>/<id>/00000001.<tag>   …02   …03        the newest version that can be read counts; one without payload: deleted
 *        └ create-only: of two that write version 3 one does, and the other decides anew, knowing it
 * ```
 * Versions stay, so a damaged one falls back to the one before, and is reported (`object-check.ts`). Payloads are sealed.
 *
 * Not guaranteed: that somebody who takes away the newest versions is noticed, except where Object Lock keeps them.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { listRecords } from '../collect/listing.ts';
import type { Core } from '../core.ts';
import { decodeControlVersion, encodeControlVersion } from '../format/control-object.ts';
import { damaged, sha256 } from '../format/frame.ts';
import { MAX_CONTROL_OBJECT_BYTES } from '../format/limits.ts';
import { controlObject, controlObjectPrefix, hex, OBJECTS } from '../format/names.ts';
import { open, seal } from '../seal/aead.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { objectSeal } from '../seal/object-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Others that write at the same moment; each attempt reads what they wrote. */
const MAX_ATTEMPTS = 16;
const SAFE = /^[a-z0-9][a-z0-9-]{0,62}$/;

export interface ObjectKey {
  /** `machine` and so on. */
  readonly kind: string;
  readonly id: string;
}

/** A version as it was read. */
export interface ControlObject extends ObjectKey {
  readonly version: number;
  readonly previous: { readonly version: number; readonly hash: string } | undefined;
  /** Unix ms by the clock of who wrote it. */
  readonly writtenMs: number;
  readonly schema: string;
  /** Undefined: the object is deleted. */
  readonly payload: Uint8Array | undefined;
  /** SHA-256 of its object, hexadecimal. */
  readonly hash: string;
}

export interface ObjectState extends ObjectKey {
  /** The newest version that can be read, deleted or not. */
  readonly current: ControlObject | undefined;
  /** Newer ones that cannot, newest first. */
  readonly lost: readonly { readonly version: number; readonly why: string }[];
  /** The highest version there is, whatever is in it. */
  readonly highest: number;
}

/** Versions by kind and id, ascending; and what lies among them and is not ours. */
export async function listVersions(
  core: Core,
  kind?: string,
  options: StoreOptions = {},
): Promise<{ versions: { key: ObjectKey; numbers: number[] }[]; foreign: readonly string[] }> {
  const prefix = kind === undefined ? OBJECTS : controlObjectPrefix(kind);
  const { ours, foreign } = await listRecords(core, prefix, options);
  const found = new Map<string, { key: ObjectKey; numbers: number[] }>();
  for (const plain of ours.keys()) {
    // By `controlObject`: `plainName` takes no other.
    const [of = '', id = '', number = ''] = plain.slice(OBJECTS.length).split('/');
    const known = found.get(`${of}/${id}`) ?? { key: { kind: of, id }, numbers: [] };
    found.set(`${of}/${id}`, known);
    known.numbers.push(Number(number));
  }
  for (const { numbers } of found.values()) numbers.sort((a, b) => a - b);
  return { versions: [...found.values()], foreign };
}

/** Throws `repository.object-missing`, `.object-damaged`, `.object-unreadable`, `.newer-version`, and what the store throws. */
export async function readVersion(
  core: Core,
  { kind, id, version }: ObjectKey & { readonly version: number },
  options: StoreOptions = {},
): Promise<ControlObject> {
  const name = controlName(core, controlObject({ kind, id, version }));
  const object = await core.store.get(name, { ...options, maxBytes: MAX_CONTROL_OBJECT_BYTES });
  const read = decodeControlVersion(openRecord(core, { type: 'CTRL', name, object }), name);
  if (read.kind !== kind || read.id !== id || read.version !== version)
    throw damaged(name, `it is version ${read.version} of ${read.kind} ${read.id}`);
  const { writtenMs, schema, sealed, previous } = read;
  const { keyring } = core;
  const payload =
    sealed && open(objectSeal(keyring.objectKey({ kind, id }), { ...read, tenantId: keyring.tenantId }), sealed);
  if (sealed && !payload) throw damaged(name, 'its seal does not open');
  const before = previous && { version: previous.version, hash: hex(previous.hash) };
  return { kind, id, version, previous: before, writtenMs, schema, payload, hash: hex(sha256(object)) };
}

/** What counts of an object, by the versions that are listed. */
async function stateOf(
  core: Core,
  { key, numbers }: { readonly key: ObjectKey; readonly numbers: readonly number[] },
  options: StoreOptions,
): Promise<ObjectState> {
  const lost: { version: number; why: string }[] = [];
  const highest = numbers.at(-1) ?? 0;
  for (const version of numbers.toReversed()) {
    try {
      return { ...key, highest, lost, current: await readVersion(core, { ...key, version }, options) };
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      lost.push({ version, why: error.message });
    }
  }
  return { ...key, highest, lost, current: undefined };
}

/** Every object of a kind, or all; deleted ones, and those of which no version can be read, as well. Errors: those of the store. */
export async function listObjects(core: Core, kind?: string, options: StoreOptions = {}): Promise<ObjectState[]> {
  const { versions } = await listVersions(core, kind, options);
  const states: ObjectState[] = [];
  for (const of of versions) states.push(await stateOf(core, of, options));
  return states;
}

/**
 * Writes the version that `make` wants, knowing what is there: it is asked again when somebody else was first. 'delete' makes a version
 * without payload; undefined: nothing is to be done. Returns what was written. Errors: `repository.object-busy`, `input.invalid` for a
 * kind or id that is no name, `repository.limit-exceeded`, those of the store, what `make` throws.
 */
export async function writeObject(
  core: Core,
  key: ObjectKey,
  make: (state: ObjectState) => { readonly schema: string; readonly payload: Uint8Array } | 'delete' | undefined,
  options: StoreOptions = {},
): Promise<ControlObject | undefined> {
  const { kind, id } = key;
  for (const name of [kind, id])
    if (!SAFE.test(name)) throw new LifeboatError('input.invalid', `'${name}' is not in the name of a control object`);
  const { keyring } = core;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { versions } = await listVersions(core, kind, options);
    const numbers = versions.find((of) => of.key.id === id)?.numbers ?? [];
    const state = await stateOf(core, { key, numbers }, options);
    const wanted = make(state);
    if (!wanted || (wanted === 'delete' && !state.current?.payload)) return undefined;
    const head = {
      kind,
      id,
      version: state.highest + 1,
      previous: state.current && { version: state.current.version, hash: Buffer.from(state.current.hash, 'hex') },
      writtenMs: core.clock.nowMs(),
      schema: wanted === 'delete' ? '' : wanted.schema,
      salt: core.random.bytes(32),
    };
    const sealing = objectSeal(keyring.objectKey(key), { ...head, tenantId: keyring.tenantId });
    const payload = wanted === 'delete' ? undefined : wanted.payload;
    const body = encodeControlVersion({ ...head, sealed: payload && seal(sealing, payload) });
    const name = controlName(core, controlObject(head));
    const object = sealRecord(core, { type: 'CTRL', name, body });
    if ((await core.store.putIfAbsent(name, [object], options)) === 'exists') continue;
    const { version, writtenMs, schema } = head;
    const previous = state.current && { version: state.current.version, hash: state.current.hash };
    return { kind, id, version, previous, writtenMs, schema, payload, hash: hex(sha256(object)) };
  }
  throw new LifeboatError('repository.object-busy', `${kind} ${id} was changed ${MAX_ATTEMPTS} times meanwhile`, {
    context: { kind, id },
  });
}
