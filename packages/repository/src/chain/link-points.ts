/**
 * Writes the chain of a machine.
 *
 * ```
 *   backup ─► commit (the point is valid from here on) ─► linkPoints: list links and points ─► link n + 1, create-only
 * ```
 * A point is valid without a link; a chain only tells what is missing. So nothing here ever stands in the way of a commit: killed in
 * between, the next backup's link takes the point in as well. Of two that link at once one gets the number, and the other reads what it wrote.
 * What agents commit, who sign no links, every collection takes in before it looks at anything else (`linkEveryPoint`).
 *
 * Not guaranteed: that somebody who takes away the newest points together with the newest links is noticed, except by who remembers
 * the end of the chain (`tail-memory.ts`), and where Object Lock keeps both.
 */
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';

import { PointValidity } from '../collect/point-validity.ts';
import type { Core } from '../core.ts';
import { encodeChainLink, type ChainLink } from '../format/chain-link.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_LINK_POINTS } from '../format/limits.ts';
import { chainLinkObject, hex, pointOfObject, POINTS, pointsPrefix } from '../format/names.ts';
import { earliestValid } from '../read/point-reader.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { listLinks, readChain, readLink, type Chain } from './links.ts';
import type { Tail, TailMemory } from './tail-memory.ts';

/** Others that link at the same moment; each attempt reads what they wrote. */
const MAX_ATTEMPTS = 16;

export interface LinkReport {
  /** Points that were in no link before, oldest first: the one that was just made, and any whose own link was lost by a kill. */
  readonly linked: readonly PointId[];
}

/**
 * Takes the valid points of a machine that are in no link into its chain, oldest first. May be repeated, and run twice at once; what it
 * does not come to, the next one does. A chain that is damaged goes on behind the damage, which stays visible.
 * Errors: `repository.chain-busy`, those of the store.
 */
export async function linkPoints(
  core: Core,
  { machineId, memory }: { readonly machineId: MachineId; readonly memory?: TailMemory | undefined },
  options: StoreOptions = {},
): Promise<LinkReport> {
  const linked: PointId[] = [];
  for (let attempt = 0; attempt < MAX_ATTEMPTS;) {
    const { numbers } = await listLinks(core, machineId, options);
    const chain = await readChain(core, { machineId, numbers: numbers.get(machineId) ?? [] }, options);
    const waiting = await unlinkedPoints(core, chain, options);
    if (waiting.length === 0) return { linked };
    const { link, own } = nextLink(chain, waiting, core.clock.nowMs());
    const name = controlName(core, chainLinkObject(machineId, link.number));
    const object = sealRecord(core, { type: 'LINK', name, body: encodeChainLink(link) });
    if ((await core.store.putIfAbsent(name, [object], options)) === 'exists') {
      attempt++;
      continue;
    }
    linked.push(...waiting.slice(0, own).map(({ pointId }) => pointId));
    await remember(core, { chain, memory, tail: { number: link.number, hash: hex(sha256(object)) } }, options);
    if (own === waiting.length) return { linked };
  }
  throw new LifeboatError(
    'repository.chain-busy',
    `the chain of machine ${machineId} grew ${MAX_ATTEMPTS} times meanwhile`,
    {
      context: { machineId },
    },
  );
}

export interface LinkedPoint {
  readonly machineId: MachineId;
  readonly pointId: PointId;
}

/**
 * Does that for every machine, and returns what was in no link before. May be repeated, and run twice at once: a machine whose chain
 * others write all the while is left to them. Errors: those of the store.
 */
export async function linkEveryPoint(
  core: Core,
  { memory }: { readonly memory?: TailMemory | undefined } = {},
  options: StoreOptions = {},
): Promise<LinkedPoint[]> {
  const { numbers } = await listLinks(core, undefined, options);
  const listed = new Map<MachineId, PointId[]>();
  for await (const { name } of core.store.list(POINTS, options)) {
    const key = pointOfObject(name);
    if (!key) continue;
    const ofMachine = listed.get(key.machineId) ?? [];
    listed.set(key.machineId, ofMachine);
    ofMachine.push(key.pointId);
  }
  const linked: LinkedPoint[] = [];
  for (const [machineId, pointIds] of listed) {
    // Nearly all chains name all of their points; only the others are worth more requests.
    const { points } = await readChain(core, { machineId, numbers: numbers.get(machineId) ?? [] }, options);
    if (pointIds.every((pointId) => points.has(pointId))) continue;
    try {
      const report = await linkPoints(core, { machineId, memory }, options);
      linked.push(...report.linked.map((pointId) => ({ machineId, pointId })));
    } catch (error) {
      if (!hasCode(error, 'repository.chain-busy')) throw error;
      core.log.warn('others write the chain of a machine; its new points are left to them', {
        machineId,
        why: error.message,
      });
    }
  }
  return linked;
}

interface UnlinkedPoint {
  readonly pointId: PointId;
  readonly hash: Uint8Array;
}

/** Valid points of the machine that the chain does not name, oldest first. One that is damaged cannot be taken in: `check` names it. */
async function unlinkedPoints(core: Core, chain: Chain, options: StoreOptions): Promise<UnlinkedPoint[]> {
  const { machineId } = chain;
  const ids: PointId[] = [];
  for await (const name of listNames(core.store, pointsPrefix(machineId), options)) {
    const key = pointOfObject(name);
    if (key && !chain.points.has(key.pointId)) ids.push(key.pointId);
  }
  if (ids.length === 0) return [];
  const validity = await PointValidity.load(core, machineId, options);
  const found: UnlinkedPoint[] = [];
  for (const pointId of ids.toSorted()) {
    if (await validity.isBuried({ machineId, pointId }, options)) continue;
    try {
      const point = await earliestValid(core, { machineId, pointId }, options);
      const counts = !(await validity.isVoid(point, options)) && !(await validity.refusal(point, options));
      if (counts) found.push({ pointId, hash: Buffer.from(point.hash, 'hex') });
    } catch (error) {
      if (!isUselessObject(error) && !hasCode(error, 'repository.point-damaged')) throw error;
      core.log.warn('a point cannot be taken into the chain of its machine', {
        machineId,
        pointId,
        why: error.message,
      });
    }
  }
  return found;
}

/** Goes on with the newest block while it has room and nothing behind it was lost; else begins one. */
function nextLink(
  chain: Chain,
  waiting: readonly UnlinkedPoint[],
  linkedMs: number,
): { link: ChainLink; /** Of the waiting points. */ own: number } {
  const { machineId, highest, newest } = chain;
  const number = highest + 1;
  const goesOn = newest?.number === highest && newest.points.length < MAX_LINK_POINTS;
  const before = goesOn ? newest.points : [];
  const points = [...before, ...waiting.slice(0, MAX_LINK_POINTS - before.length)];
  const link = {
    machineId,
    number,
    previous: newest && { number: newest.number, hash: Buffer.from(newest.hash, 'hex') },
    first: goesOn ? newest.first : number,
    points,
    linkedMs,
  };
  return { link, own: points.length - before.length };
}

/** The link is written: that this host cannot note it down costs nobody anything but a second opinion. */
async function remember(
  core: Core,
  what: { readonly chain: Chain; readonly memory: TailMemory | undefined; readonly tail: Tail },
  options: StoreOptions,
): Promise<void> {
  const { chain, memory, tail } = what;
  const { machineId, newest } = chain;
  try {
    await memory?.remember(machineId, tail, async (known) => {
      if (newest?.number === known.number) return newest.hash === known.hash;
      return (await readLink(core, { machineId, number: known.number }, options)).hash === known.hash;
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    core.log.warn('the end of a chain was not noted down on this host', { machineId, why: messageOf(error) });
  }
}
