/**
 * The chain of a machine as it lies in the store: `data/chains/<machine>/00000001.<tag>`, `…02`, and so on. Who writes it: `link-points.ts`;
 * who compares it with what there is: `chain-check.ts`, and collections.
 */
import { hasCode } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId, type MachineId, type PointId } from '@lifeboat/foundation/ids';

import { listRecords } from '../collect/listing.ts';
import type { Core } from '../core.ts';
import { decodeChainLink, type ChainLink } from '../format/chain-link.ts';
import { damaged, sha256 } from '../format/frame.ts';
import { MAX_RECORD_BYTES } from '../format/limits.ts';
import { CHAINS, chainLinkObject, chainPrefix, hex } from '../format/names.ts';
import { controlName, openRecord } from '../seal/control-records.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** A link as it is in the store. */
export interface StoredLink extends ChainLink {
  /** SHA-256 of its object, hexadecimal. */
  readonly hash: string;
}

/** Links that are not there, or cannot be read, with what they alone named. */
export interface LostLinks {
  readonly from: number;
  readonly to: number;
  readonly why: string;
}

/** What the last links of a chain's blocks say together. */
export interface Chain {
  readonly machineId: MachineId;
  /** The highest number that lies there, whatever is in it; 0: there is no chain. */
  readonly highest: number;
  /** The newest link that can be read. */
  readonly newest: StoredLink | undefined;
  /** Hash by point. */
  readonly points: ReadonlyMap<string, string>;
  /** Of these nobody knows which points they named. */
  readonly lost: readonly LostLinks[];
}

/** Numbers of links by machine, ascending; and what lies among them and is not ours. */
export async function listLinks(
  core: Core,
  machineId?: MachineId,
  options: StoreOptions = {},
): Promise<{ numbers: Map<MachineId, number[]>; foreign: readonly string[] }> {
  const { ours, foreign } = await listRecords(core, machineId ? chainPrefix(machineId) : CHAINS, options);
  const numbers = new Map<MachineId, number[]>();
  for (const plain of ours.keys()) {
    // By `chainLinkObject`: `plainName` takes no other.
    const [machine = '', number = ''] = plain.slice(CHAINS.length).split('/');
    const id = parseMachineId(machine);
    const known = numbers.get(id) ?? [];
    numbers.set(id, known);
    known.push(Number(number));
  }
  for (const known of numbers.values()) known.sort((a, b) => a - b);
  return { numbers, foreign };
}

/** Throws `repository.object-missing`, `repository.object-damaged`, `repository.newer-version`, and what the store throws. */
export async function readLink(
  core: Core,
  { machineId, number }: { readonly machineId: MachineId; readonly number: number },
  options: StoreOptions = {},
): Promise<StoredLink> {
  const name = controlName(core, chainLinkObject(machineId, number));
  const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
  const link = decodeChainLink(openRecord(core, { type: 'LINK', name, object }), name);
  if (link.machineId !== machineId || link.number !== number)
    throw damaged(name, `it is link ${link.number} of machine ${link.machineId}`);
  return { ...link, hash: hex(sha256(object)) };
}

export const GONE = 'it is not there any more';

/** Why a link cannot be used; undefined where the store gave no answer, which says nothing of the link. */
export function whyLost(error: unknown): string | undefined {
  if (hasCode(error, 'repository.object-missing')) return GONE;
  return isUselessObject(error) ? error.message : undefined;
}

/** What the chain of its machine says a point's object hashes to, whether it is there or not. */
export async function linkedHash(
  core: Core,
  { machineId, pointId }: { readonly machineId: MachineId; readonly pointId: PointId },
  options: StoreOptions = {},
): Promise<Uint8Array | undefined> {
  const { numbers } = await listLinks(core, machineId, options);
  const { points } = await readChain(core, { machineId, numbers: numbers.get(machineId) ?? [] }, options);
  const hash = points.get(pointId);
  return hash === undefined ? undefined : Buffer.from(hash, 'hex');
}

/** Reads the last link of each block, newest first. `numbers` are those that are listed. */
export async function readChain(
  core: Core,
  { machineId, numbers }: { readonly machineId: MachineId; readonly numbers: readonly number[] },
  options: StoreOptions = {},
): Promise<Chain> {
  const highest = numbers.at(-1) ?? 0;
  const points = new Map<string, string>();
  const lost: LostLinks[] = [];
  let newest: StoredLink | undefined;
  const lose = (from: number, to: number, why: string): void => {
    const last = lost.at(-1);
    if (last && last.why === why && last.from === to + 1) lost[lost.length - 1] = { ...last, from };
    else lost.push({ from, to, why });
  };
  for (let number = highest, i = numbers.length - 1; number > 0;) {
    while ((numbers[i] ?? 0) > number) i--;
    const listed = numbers[i] ?? 0;
    if (listed < number) {
      // At once, however many: who holds an agent's keys can give the highest number there is.
      lose(listed + 1, number, GONE);
      number = listed;
      continue;
    }
    try {
      const link = await readLink(core, { machineId, number }, options);
      newest ??= link;
      // What an older link says of a point goes before what a newer one says.
      for (const { pointId, hash } of link.points) points.set(pointId, hex(hash));
      number = link.first - 1;
    } catch (error) {
      const why = whyLost(error);
      if (why === undefined) throw error;
      lose(number, number, why);
      number--;
    }
  }
  return { machineId, highest, newest, points, lost };
}

/** What a link names, as an id. Undefined for what no writer of ours gives. */
export function pointIdIn(text: string): PointId | undefined {
  try {
    return parsePointId(text);
  } catch (error) {
    if (!hasCode(error, 'input.invalid')) throw error;
    return undefined;
  }
}
