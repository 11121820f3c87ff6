/**
 * The evidence of a machine in the store: `data/evidence/<machine>/00000001.<tag>`, `…02`, and so on, each naming the hash of the one
 * before it.
 *
 * ```
 *   append: list ─► newest that can be read ─► put the next number, create-only ─► taken? list again
 * ```
 * - A chain per machine, not per tenant: what happens to one machine happens one after the other anyway, so appending rarely meets
 *   anybody; and who asks about a machine reads its own records only.
 * - What carries no tag of ours is somebody else's: it is counted, and means nothing. What carries one and cannot be read is damage; the
 *   chain goes on behind it, under the next free number, and the damage stays visible.
 *
 * Not guaranteed: that the newest records are missed when they are taken away together. Object Lock keeps them from going.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';

import { listRecords, sortRecords } from '../collect/listing.ts';
import type { Core } from '../core.ts';
import {
  decodeEvidence,
  decodeEvidenceEnvelope,
  encodeEvidence,
  encodeEvidenceEnvelope,
  type Evidence,
} from '../format/evidence.ts';
import { damaged, sha256 } from '../format/frame.ts';
import { MAX_EVIDENCE_BYTES, MAX_EVIDENCE_RECORDS } from '../format/limits.ts';
import { EVIDENCE, evidenceObject, evidencePrefix, hex } from '../format/names.ts';
import { inLanes } from '../lock/lanes.ts';
import { open, seal } from '../seal/aead.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { evidenceSeal } from '../seal/evidence-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';

/** Others that append at the same moment; each attempt reads what they wrote. */
const MAX_ATTEMPTS = 16;
/** Records that are read at a time. */
const LANES = 16;

export interface StoredEvidence extends Evidence {
  readonly number: number;
  /** SHA-256 of its object, hexadecimal. */
  readonly hash: string;
  readonly previous?: { readonly number: number; readonly hash: string };
}

/** A place where the chain is not what was written. */
export interface ChainProblem {
  readonly number: number;
  readonly why: string;
}

export interface EvidenceChain {
  readonly machineId: MachineId;
  /** What can be read, oldest first. */
  readonly records: readonly StoredEvidence[];
  /** Ascending; none: every record is there, and as it was written. */
  readonly problems: readonly ChainProblem[];
  /** Objects among the records that are not ours. */
  readonly foreignObjects: number;
}

/**
 * Writes what was proven, or found not to hold, behind what is known of the machine. Returns its number. Repeated after a lost answer it
 * may write the same again, which says nothing else. Errors: `repository.evidence-busy`, those of the store.
 */
export async function appendEvidence(
  core: Core,
  machineId: MachineId,
  evidence: Evidence,
  options: StoreOptions = {},
): Promise<number> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { numbers } = await listNumbers(core, machineId, options);
    const newest = await newestReadable(core, machineId, numbers, options);
    const taken = new Set(numbers);
    // Behind the newest of ours, and not behind the highest: who can make names must not be able to use all of them up with one.
    let number = (newest?.number ?? 0) + 1;
    while (taken.has(number)) number++;
    const { name, object } = sealEvidence(core, { machineId, number, newest, evidence });
    if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return number;
  }
  throw new LifeboatError(
    'repository.evidence-busy',
    `the evidence of machine ${machineId} grew ${MAX_ATTEMPTS} times meanwhile`,
    { context: { machineId } },
  );
}

/**
 * Reads all of it and follows the chain. Damage is reported, not thrown; a listing that fails throws, as does a store that gives no
 * answer. Throws `repository.limit-exceeded` beyond 100,000 records.
 */
export async function readEvidence(
  core: Core,
  machineId: MachineId,
  options: StoreOptions = {},
): Promise<EvidenceChain> {
  const { numbers, foreign } = await listNumbers(core, machineId, options);
  if (numbers.length > MAX_EVIDENCE_RECORDS) {
    const message = `machine ${machineId} has ${numbers.length} records of evidence; at most ${MAX_EVIDENCE_RECORDS} are read`;
    throw new LifeboatError('repository.limit-exceeded', message);
  }
  const found = new Map<number, StoredEvidence | LifeboatError>();
  await inLanes(LANES, each(numbers), async (number) => {
    found.set(number, await readOrWhyNot(core, { machineId, number }, options));
  });
  const records = numbers.flatMap((number) => {
    const record = found.get(number);
    return record && !(record instanceof LifeboatError) ? [record] : [];
  });
  return { machineId, records, problems: problemsOf(records, found), foreignObjects: foreign.length };
}

/** Machines that have evidence, whether they have points or not. */
export async function machinesWithEvidence(core: Core, options: StoreOptions = {}): Promise<MachineId[]> {
  const { ours } = await listRecords(core, EVIDENCE, options);
  return [...new Set([...ours.keys()].map((plain) => plain.slice(EVIDENCE.length).split('/')[0] ?? ''))].map(
    parseMachineId,
  );
}

function problemsOf(
  records: readonly StoredEvidence[],
  found: ReadonlyMap<number, StoredEvidence | LifeboatError>,
): ChainProblem[] {
  const problems: ChainProblem[] = [];
  for (const [number, record] of found)
    if (record instanceof LifeboatError) problems.push({ number, why: record.message });
  let before: StoredEvidence | undefined;
  for (const record of records) {
    const { number, previous } = record;
    // Behind the newest nothing can be missed, however high a number somebody chose for what is not ours.
    for (let missing = (before?.number ?? 0) + 1; missing < number; missing++)
      if (!found.has(missing)) problems.push({ number: missing, why: 'it is not there any more' });
    if (previous?.number === before?.number && previous?.hash !== before?.hash)
      problems.push({ number: previous?.number ?? 0, why: `it is not the record that ${number} follows` });
    if ((previous?.number ?? 0) < (before?.number ?? 0))
      problems.push({ number: before?.number ?? 0, why: `it was not there when ${number} was written` });
    before = record;
  }
  return problems.toSorted((a, b) => a.number - b.number);
}

/** Ascending. */
async function listNumbers(
  core: Core,
  machineId: MachineId,
  options: StoreOptions,
): Promise<{ numbers: number[]; foreign: readonly string[] }> {
  const names: string[] = [];
  for await (const name of listNames(core.store, evidencePrefix(machineId), options)) names.push(name);
  const { ours, foreign } = sortRecords(core, names);
  const prefix = evidencePrefix(machineId);
  const numbers = [...ours.keys()].map((plain) => Number(plain.slice(prefix.length)));
  return { numbers: numbers.filter(Number.isSafeInteger).toSorted((a, b) => a - b), foreign };
}

async function newestReadable(
  core: Core,
  machineId: MachineId,
  numbers: readonly number[],
  options: StoreOptions,
): Promise<StoredEvidence | undefined> {
  for (const number of numbers.toReversed()) {
    const record = await readOrWhyNot(core, { machineId, number }, options);
    if (!(record instanceof LifeboatError)) return record;
  }
  return undefined;
}

/** The error says why the record counts as lost; a store that gives no answer says nothing of it, and throws. */
async function readOrWhyNot(
  core: Core,
  at: { readonly machineId: MachineId; readonly number: number },
  options: StoreOptions,
): Promise<StoredEvidence | LifeboatError> {
  const name = controlName(core, evidenceObject(at.machineId, at.number));
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_EVIDENCE_BYTES });
    return openEvidence(core, at, { name, object });
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    return error;
  }
}

function sealEvidence(
  core: Core,
  input: { machineId: MachineId; number: number; newest: StoredEvidence | undefined; evidence: Evidence },
): { name: string; object: Uint8Array } {
  const { machineId, number, newest, evidence } = input;
  const { tenantId } = core.keyring;
  const salt = core.random.bytes(32);
  const key = core.keyring.machineKey(machineId);
  const sealed = seal(evidenceSeal(key, { tenantId, machineId, number, salt }), encodeEvidence(evidence));
  const previous = newest && { number: newest.number, hash: Buffer.from(newest.hash, 'hex') };
  const body = encodeEvidenceEnvelope({ machineId, number, previous, salt, sealed });
  const name = controlName(core, evidenceObject(machineId, number));
  return { name, object: sealRecord(core, { type: 'EVID', name, body }) };
}

/** Throws `repository.object-damaged` or `repository.newer-version`. */
export function openEvidence(
  core: Core,
  { machineId, number }: { readonly machineId: MachineId; readonly number: number },
  { name, object }: { readonly name: string; readonly object: Uint8Array },
): StoredEvidence {
  const envelope = decodeEvidenceEnvelope(openRecord(core, { type: 'EVID', name, object }), name);
  if (envelope.machineId !== machineId || envelope.number !== number)
    throw damaged(name, `it is record ${envelope.number} of machine ${envelope.machineId}`);
  const { salt, sealed, previous } = envelope;
  const { tenantId } = core.keyring;
  const plain = open(evidenceSeal(core.keyring.machineKey(machineId), { tenantId, machineId, number, salt }), sealed);
  if (!plain) throw damaged(name, 'its seal does not open');
  return {
    ...decodeEvidence(plain, name),
    number,
    hash: hex(sha256(object)),
    ...(previous ? { previous: { number: previous.number, hash: hex(previous.hash) } } : {}),
  };
}

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items;
}
