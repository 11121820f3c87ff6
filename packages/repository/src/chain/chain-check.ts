/**
 * Compares the chains of machines with themselves, with the points that are there, and with what this host remembers of their ends.
 *
 * ```
 *   1. readChains     every link                  before the points are listed: a point that is linked meanwhile is listed then
 *   2. (the caller)   the points that are listed
 *   3. judgeChains    tombstones of what is not
 * ```
 * Nothing is changed. What is found is said by name, with what to do; only `isLoss` means that something is gone or not as it was.
 */
import { hasCode } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';

import { isBuried } from '../collect/tombstones.ts';
import type { Core } from '../core.ts';
import { chainLinkObject, hex, pointObject } from '../format/names.ts';
import { inLanes } from '../lock/lanes.ts';
import type { PointSummary } from '../read/point-reader.ts';
import { readLedger } from '../retention/ledger.ts';
import { linkKey } from '../retention/ledger-state.ts';
import { controlName } from '../seal/control-records.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { GONE, listLinks, pointIdIn, readLink, whyLost, type StoredLink } from './links.ts';
import type { Tail, TailMemory } from './tail-memory.ts';

/** Links that are read at a time. */
const LANES = 8;
/** Of links that are missing one behind the other; more are told as a whole. */
const MAX_NAMED_IN_A_ROW = 64;

export type ChainFindingKind =
  | 'point-vanished'
  | 'point-replaced'
  | 'point-unlinked'
  | 'link-missing'
  | 'link-damaged'
  | 'link-broken'
  | 'rolled-back'
  | 'memory-unusable'
  | 'foreign';

export interface ChainFinding {
  readonly kind: ChainFindingKind;
  /** False for what needs nobody: what a kill left behind, or what means nothing. */
  readonly isLoss: boolean;
  readonly machineId?: MachineId;
  readonly pointId?: string;
  /** Of a link that is not as it was. */
  readonly link?: number;
  /** Its name in the store. */
  readonly object?: string;
  readonly what: string;
  readonly next: string;
}

interface CheckedChain {
  readonly machineId: MachineId;
  /** Hash by point. */
  readonly points: ReadonlyMap<string, string>;
}

export interface CheckedChains {
  readonly chains: readonly CheckedChain[];
  readonly findings: readonly ChainFinding[];
}

const FROM_A_COPY = 'Bring it back from a copy of the repository.';
const WHO_WROTE = 'Find out who can write to the store.';

/** Reads every link. Errors: those of the store. */
export async function readChains(
  core: Core,
  input: { readonly machineId?: MachineId | undefined; readonly memory?: TailMemory | undefined },
  options: StoreOptions = {},
): Promise<CheckedChains> {
  const { numbers, foreign } = await listLinks(core, input.machineId, options);
  const findings: ChainFinding[] = foreign.map((object) => ({
    kind: 'foreign',
    isLoss: false,
    object,
    what: `${object} lies among the links of chains, and nobody with the keys put it there; it means nothing`,
    next: WHO_WROTE,
  }));
  if (input.machineId && !numbers.has(input.machineId)) numbers.set(input.machineId, []);
  const chains: CheckedChain[] = [];
  for (const [machineId, listed] of numbers) {
    const check = new ChainCheck(core, machineId);
    await check.read(listed, options);
    await check.compareMemory(input.memory);
    await check.excuse(options);
    chains.push({ machineId, points: check.points });
    for (const finding of check.findings) findings.push(finding);
  }
  return { chains, findings };
}

/** `points`: listed after the chains were read; of one machine, where one was asked for. Errors: those of the store. */
export async function judgeChains(
  core: Core,
  input: { readonly checked: CheckedChains; readonly points: readonly PointSummary[] },
  options: StoreOptions = {},
): Promise<ChainFinding[]> {
  const { checked, points } = input;
  const findings = [...checked.findings];
  const listed = new Map(
    points.map((point) => [
      `${point.machineId ?? ''} ${point.pointId ?? ''}`,
      point.state === 'readable' ? point.hash : undefined,
    ]),
  );
  const linked = new Set<string>();
  for (const { machineId, points: named } of checked.chains) {
    for (const [pointId, hash] of named) {
      const key = `${machineId} ${pointId}`;
      linked.add(key);
      const where = { machineId, pointId, object: `data/points/${machineId}/${pointId}` };
      const there = listed.get(key);
      if (there !== undefined && there !== hash) {
        findings.push({
          ...where,
          kind: 'point-replaced',
          isLoss: true,
          what: `point ${pointId} of machine ${machineId} is not the one that was committed: its hash is ${there}, and its chain says ${hash}`,
          next: `${FROM_A_COPY} ${WHO_WROTE}`,
        });
      }
      if (!listed.has(key) && (await isGone(core, machineId, pointId, options))) {
        findings.push({
          ...where,
          kind: 'point-vanished',
          isLoss: true,
          what: `point ${pointId} of machine ${machineId} was committed, nobody pruned it, and it is not there`,
          next:
            `${FROM_A_COPY} Nothing is collected until then. If no copy has it: ` +
            `"lifeboat repo prune-point ${machineId} ${pointId}" lets go of it.`,
        });
      }
    }
  }
  for (const point of points) {
    if (point.state !== 'readable' || linked.has(`${point.machineId} ${point.pointId}`)) continue;
    const { machineId, pointId } = point;
    findings.push({
      kind: 'point-unlinked',
      isLoss: false,
      machineId,
      pointId,
      what: `point ${pointId} of machine ${machineId} is in no link of its chain: an agent committed it, or a backup that was stopped before it could write one`,
      next: 'Nothing: the point is whole, and the next "lifeboat repo prune" takes it in.',
    });
  }
  return findings;
}

/** Neither a tombstone says so, nor a session that was ended without it: then its object is still there. */
async function isGone(core: Core, machineId: MachineId, text: string, options: StoreOptions): Promise<boolean> {
  const pointId = pointIdIn(text);
  if (!pointId || (await isBuried(core, { machineId, pointId }, options))) return false;
  return (await core.store.head(pointObject(machineId, pointId), options)) === undefined;
}

/** The links of one machine, each against the one before it. */
class ChainCheck {
  readonly findings: ChainFinding[] = [];
  readonly points = new Map<string, string>();
  readonly #core: Core;
  readonly #machineId: MachineId;
  readonly #links = new Map<number, StoredLink>();
  #highest = 0;

  constructor(core: Core, machineId: MachineId) {
    this.#core = core;
    this.#machineId = machineId;
  }

  async read(numbers: readonly number[], options: StoreOptions): Promise<void> {
    const machineId = this.#machineId;
    await inLanes(LANES, each(numbers), async (number) => {
      try {
        this.#links.set(number, await readLink(this.#core, { machineId, number }, options));
      } catch (error) {
        const why = whyLost(error);
        if (why === undefined) throw error;
        const missing = hasCode(error, 'repository.object-missing');
        this.#report(missing ? 'link-missing' : 'link-damaged', number, why);
      }
    });
    this.#highest = numbers.at(-1) ?? 0;
    let expected = 1;
    for (const number of numbers) {
      if (number - expected > MAX_NAMED_IN_A_ROW) this.#reportGap(expected, number - 1);
      else for (; expected < number; expected++) this.#report('link-missing', expected, GONE);
      expected = number + 1;
    }
    for (const number of numbers) this.#compare(number);
  }

  /** Of links that somebody goes on without it is still said that they are lost, and that it is known. */
  async excuse(options: StoreOptions): Promise<void> {
    if (!this.findings.some(({ link }) => link !== undefined)) return;
    const { writtenOffLinks } = (await readLedger(this.#core, options)).state;
    for (const [i, finding] of this.findings.entries()) {
      const { link } = finding;
      if (link === undefined || !writtenOffLinks.has(linkKey(this.#machineId, link))) continue;
      this.findings[i] = { ...finding, isLoss: false, next: 'Nothing: it was written off.' };
    }
  }

  /** Whether the chain, as it is, holds what was its end when this host last looked. */
  async compareMemory(memory: TailMemory | undefined): Promise<void> {
    const machineId = this.#machineId;
    let known: Tail | undefined;
    try {
      known = await memory?.recall(machineId);
    } catch (error) {
      if (!hasCode(error, 'repository.memory-unusable')) throw error;
      this.findings.push({
        kind: 'memory-unusable',
        isLoss: false,
        machineId,
        what: `what this host remembers of the chain of machine ${machineId} cannot be read: ${error.message}`,
        next: 'Remove that file: the next backup writes it anew.',
      });
    }
    if (!known || !memory) return;
    const link = this.#links.get(known.number);
    if (link ? link.hash === known.hash : known.number <= this.#highest) return;
    const how =
      known.number > this.#highest
        ? `it ends with link ${this.#highest}`
        : `link ${known.number} is another one than it was`;
    this.findings.push({
      kind: 'rolled-back',
      isLoss: true,
      machineId,
      object: this.#name(known.number),
      what: `this host knows the chain of machine ${machineId} up to link ${known.number}, and in the store ${how}: the store went back to an earlier state, or the newest links were taken away`,
      next:
        'Look for points that are missing, and for the state of the store that was there before. ' +
        `If it was set back on purpose, remove ${memory.placeOf(machineId)}.`,
    });
  }

  #compare(number: number): void {
    const link = this.#links.get(number);
    if (!link) return;
    const before = this.#links.get(number - 1);
    const { previous, first, points } = link;
    if (before && previous?.number !== number - 1)
      this.#report(
        'link-broken',
        number,
        `it follows link ${previous?.number ?? 0}, although link ${number - 1} is there`,
      );
    else if (before && previous && hex(previous.hash) !== before.hash)
      this.#report('link-broken', number, `it was made for another link ${number - 1} than the one that is there`);
    const repeated = first < number && before ? before.points : [];
    const agrees = repeated.every(
      ({ pointId, hash }, i) => points[i]?.pointId === pointId && Buffer.compare(points[i].hash, hash) === 0,
    );
    if (first < number && before && (first !== before.first || !agrees))
      this.#report('link-broken', number, `it says something else of the points of link ${number - 1}`);
    for (const { pointId, hash } of points) {
      const known = this.points.get(pointId);
      if (known === undefined) this.points.set(pointId, hex(hash));
      else if (known !== hex(hash)) this.#report('link-broken', number, `it names point ${pointId} by another hash`);
    }
  }

  #report(kind: ChainFindingKind, number: number, why: string): void {
    const machineId = this.#machineId;
    this.findings.push({
      kind,
      isLoss: true,
      machineId,
      link: number,
      object: this.#name(number),
      what: `the chain of machine ${machineId} is not whole at link ${number}: ${why}`,
      next:
        `${FROM_A_COPY} No point is lost by this; which ones should be there may not be known. ` +
        `If no copy has it: "lifeboat repo policy write-off ${number} --machine ${machineId}".`,
    });
  }

  /** Too many to have been one by one taken away, as a rule: then a number was made up. */
  #reportGap(from: number, to: number): void {
    const machineId = this.#machineId;
    this.findings.push({
      kind: 'link-missing',
      isLoss: true,
      machineId,
      object: this.#name(from),
      what: `links ${from} to ${to} of the chain of machine ${machineId} are not there any more`,
      next:
        `${FROM_A_COPY} If the machine never had so many backups, somebody who holds an agent's file made up a number: ` +
        `delete ${this.#name(to + 1)}, and revoke that agent.`,
    });
  }

  #name(number: number): string {
    return controlName(this.#core, chainLinkObject(this.#machineId, number));
  }
}

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items;
}
