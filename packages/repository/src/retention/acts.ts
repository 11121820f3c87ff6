/**
 * Does what changes retention, or asks for it. Where nothing guards the repository an act is done at once; where four eyes or a delay are
 * wanted, what lets go of points begins with a request, and is carried out when it is due.
 *
 * The delay is reckoned twice: by the times that were signed, which anybody can check for ever, and by the times at which the store got
 * the request and its approval. So a clock that was days behind when somebody asked shortens nothing, and one that was days ahead only
 * makes the wait longer. Not covered: the clock of who carries it out being days ahead, over a directory. (An S3 service refuses clocks
 * that are more than minutes off.)
 */
import { isDeepStrictEqual } from 'node:util';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';

import { buryPoint, isBuried, type PointKey } from '../collect/tombstones.ts';
import { linkedHash, listLinks, readLink, whyLost } from '../chain/links.ts';
import type { Core } from '../core.ts';
import { MAX_REASON_BYTES, type Act } from '../format/ledger-entry.ts';
import { MAX_DELAY_MS } from '../format/limits.ts';
import { pointObject } from '../format/names.ts';
import type { OpenedSlot } from '../seal/key-store.ts';
import type { RepositoryKeys } from '../seal/repository-keys.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { appendToLedger, ledgerName, readLedger, type Ledger } from './ledger.ts';
import {
  holdOn,
  isDestructive,
  isGuarded,
  readyMs,
  REQUEST_LIFETIME_MS,
  requestState,
  type LedgerState,
  type Request,
} from './ledger-state.ts';

export interface ActDeps {
  readonly core: Core;
  /** The way in that was used. */
  readonly by: OpenedSlot;
  readonly keys: Pick<RepositoryKeys, 'info'>;
}

/** `entry`: the number of the request, or of the entry that did it; undefined where none was needed. */
export interface ActOutcome {
  readonly outcome: 'done' | 'requested';
  readonly entry: number | undefined;
}

/**
 * Does `act`, or asks for it; asking for the same again finds the request that is there. `delete-tenant` only says whether it may be done
 * now: the keys are destroyed by who asked. Errors: `repository.point-held`, `repository.point-missing`, `repository.retention-refused`,
 * `repository.retention-unreadable`, `repository.retention-busy`, `input.invalid`, those of the store.
 */
export async function perform(
  deps: ActDeps,
  what: { readonly act: Act; readonly reason: string },
  options: StoreOptions = {},
): Promise<ActOutcome> {
  const { core, by } = deps;
  const { act, reason } = what;
  await checkAct(deps, what, options);
  let there: Request | undefined;
  let direct = false;
  const written = await appendToLedger(
    core,
    by,
    async (ledger) => {
      const { state } = ledger;
      const destructive = isDestructive(state, act);
      if (destructive && act.kind !== 'write-off') assertWhole(state);
      if (act.kind === 'prune') assertNotHeld(state, act);
      if (act.kind === 'delete-tenant') {
        assertNothingHeld(state);
        there = decided(state, core.clock.nowMs());
        // Who was to destroy the keys was killed, or the key service did not answer.
        if (there) return undefined;
      }
      direct = !(isGuarded(state.guard) && destructive);
      there = direct ? undefined : pending(state, act, core.clock.nowMs());
      if (!direct) {
        if (!there) return { step: { kind: 'request', act }, reason };
        const isDue = act.kind === 'delete-tenant' && (await isDueByStore(core, { ledger, request: there }, options));
        return isDue ? { step: { kind: 'done', request: there.entry }, reason } : undefined;
      }
      // What happens outside the ledger leaves its trace there: a tombstone, or keys that are gone.
      return act.kind === 'prune' || act.kind === 'delete-tenant' ? undefined : { step: { kind: 'act', act }, reason };
    },
    options,
  );
  if (direct && act.kind === 'prune') await bury(core, act, { by: nameOf(by), reason }, options);
  const isDone = direct || written?.step.kind === 'done' || there?.done !== undefined;
  return { outcome: isDone ? 'done' : 'requested', entry: written?.number ?? there?.entry };
}

/**
 * Approves a request in the name of the slot that opened the repository, which must be another than the one that asked, and must have been
 * there when it did. Errors: as `perform`.
 */
export async function approve(
  deps: ActDeps,
  what: { readonly request: number; readonly reason: string },
  options: StoreOptions = {},
): Promise<void> {
  const { slots } = await deps.keys.info(options);
  const slot = slots.find(({ slotId }) => slotId === deps.by.slotId);
  await appendToLedger(
    deps.core,
    deps.by,
    async ({ state }) => {
      const { slotId } = deps.by;
      const asked = state.requests.get(what.request);
      if (asked && (!slot || slot.createdMs >= asked.signedMs)) {
        const why = slot ? `was added after request ${what.request}, so it cannot approve it` : 'is no way in any more';
        throw new LifeboatError('repository.retention-refused', `key slot ${slotId} ${why}`);
      }
      return { step: { kind: 'approval', request: what.request }, reason: what.reason };
    },
    options,
  );
}

/** Takes a request back; anybody may. Errors: as `perform`. */
export async function withdraw(
  deps: Pick<ActDeps, 'core' | 'by'>,
  what: { readonly request: number; readonly reason: string },
  options: StoreOptions = {},
): Promise<void> {
  const { request, reason } = what;
  await appendToLedger(deps.core, deps.by, async () => ({ step: { kind: 'withdrawal', request }, reason }), options);
}

/**
 * Carries out every request that is due, but for the deletion of a tenant, which its own command asks for again. May be repeated, also after
 * a kill in the middle. Returns the numbers of the requests that were carried out. Errors: as `perform`.
 */
export async function carryOutDue(deps: Pick<ActDeps, 'core' | 'by'>, options: StoreOptions = {}): Promise<number[]> {
  const { core, by } = deps;
  const carriedOut: number[] = [];
  const { state } = await readLedger(core, options);
  const recent = core.clock.nowMs() - REQUEST_LIFETIME_MS;
  for (const asked of state.requests.values()) {
    const { entry: number, act, done } = asked;
    // Decided, and the process that was to do it was killed.
    if (done && act.kind === 'prune' && done.signedMs > recent) await buryDecided(core, { number, act, done }, options);
    if (act.kind === 'delete-tenant' || requestState(state.guard, asked, core.clock.nowMs()) !== 'due') continue;
    const written = await appendToLedger(
      core,
      by,
      async (ledger) => {
        const request = ledger.state.requests.get(number);
        if (!request || request.done || !(await isDueByStore(core, { ledger, request }, options))) return undefined;
        if (act.kind !== 'write-off') assertWhole(ledger.state);
        // It stays due: when the hold is lifted in time, it is carried out.
        if (act.kind === 'prune' && holdOn(ledger.state, act)) return undefined;
        return { step: { kind: 'done', request: number }, reason: '' };
      },
      options,
    );
    if (!written) continue;
    carriedOut.push(number);
    if (act.kind === 'prune') {
      const signed = { slotId: by.slotId, label: by.label, signedMs: written.signedMs, entry: written.number };
      await buryDecided(core, { number, act, done: signed }, options);
    }
  }
  return carriedOut;
}

/** Errors: `repository.retention-unreadable`. */
export function assertWhole({ lost }: LedgerState): void {
  const [first, ...more] = lost;
  if (!first) return;
  const others = more.length > 0 ? `, and ${more.length} more` : '';
  throw new LifeboatError(
    'repository.retention-unreadable',
    `entry ${first.entry} of the retention ledger is lost: ${first.why}${others}`,
    { context: { entry: first.entry } },
  );
}

/** Errors: `repository.point-held`. */
function assertNotHeld(state: LedgerState, point: { readonly machineId: string; readonly pointId: string }): void {
  const hold = holdOn(state, point);
  if (!hold) return;
  const what = hold.pointId === undefined ? `machine ${hold.machineId}` : `point ${hold.pointId}`;
  throw new LifeboatError(
    'repository.point-held',
    `${what} is under hold ${hold.entry}${hold.reason === '' ? '' : ` (${hold.reason})`}`,
    { context: { machineId: point.machineId, pointId: point.pointId, hold: hold.entry } },
  );
}

/** Errors: `repository.point-held`. */
function assertNothingHeld({ holds }: LedgerState): void {
  const [hold] = holds.values();
  if (!hold) return;
  throw new LifeboatError('repository.point-held', `machine ${hold.machineId} is under hold ${hold.entry}`, {
    context: { machineId: hold.machineId, hold: hold.entry },
  });
}

function nameOf({ slotId, label }: OpenedSlot): string {
  return `${label} (slot ${slotId})`;
}

async function checkAct(
  { core, keys }: ActDeps,
  { act, reason }: { readonly act: Act; readonly reason: string },
  options: StoreOptions,
): Promise<void> {
  if (Buffer.byteLength(reason) > MAX_REASON_BYTES) {
    throw new LifeboatError('input.invalid', `a reason has at most ${MAX_REASON_BYTES} bytes`);
  }
  if (act.kind === 'guard') {
    const { delayMs, fourEyes } = act.guard;
    if (!Number.isInteger(delayMs) || delayMs < 0 || delayMs > MAX_DELAY_MS)
      throw new LifeboatError('input.invalid', `a delay of ${delayMs} ms; at most ${MAX_DELAY_MS} are possible`);
    if (fourEyes && (await keys.info(options)).slots.length < 2) {
      throw new LifeboatError(
        'repository.retention-refused',
        'there is one way into the repository, so nobody could approve anything: add another with "lifeboat repo keys add"',
      );
    }
  }
  if (act.kind === 'prune') await assertThere(core, keyOf(act), options);
  if (act.kind === 'write-off-link') await assertLinkLost(core, act, options);
}

/** Written off before it is lost, a link could go unnoticed. */
async function assertLinkLost(
  core: Core,
  { machineId, link }: Extract<Act, { kind: 'write-off-link' }>,
  options: StoreOptions,
): Promise<void> {
  const machine = parseMachineId(machineId);
  const { numbers } = await listLinks(core, machine, options);
  const highest = numbers.get(machine)?.at(-1) ?? 0;
  let why = `the chain of machine ${machineId} ends with link ${highest}`;
  if (link <= highest) {
    try {
      await readLink(core, { machineId: machine, number: link }, options);
      why = `link ${link} of the chain of machine ${machineId} can be read`;
    } catch (error) {
      if (whyLost(error) === undefined) throw error;
      return;
    }
  }
  throw new LifeboatError('repository.retention-refused', why, { context: { machineId, link } });
}

async function assertThere(core: Core, key: PointKey, options: StoreOptions): Promise<void> {
  const { machineId, pointId } = key;
  const isThere = (await core.store.head(pointObject(machineId, pointId), options)) !== undefined;
  // A point that vanished can be let go of, too: collections wait for it until then.
  const isKnown = isThere || (await linkedHash(core, key, options)) !== undefined;
  if (isKnown && !(await isBuried(core, key, options))) return;
  throw new LifeboatError('repository.point-missing', `machine ${machineId} has no point ${pointId}`, {
    context: { machineId, pointId },
  });
}

/** The deletion of the tenant, where it was decided not long ago. */
function decided({ requests }: LedgerState, nowMs: number): Request | undefined {
  return [...requests.values()].find(
    ({ act, done }) => act.kind === 'delete-tenant' && done && nowMs - done.signedMs < REQUEST_LIFETIME_MS,
  );
}

function pending({ guard, requests }: LedgerState, act: Act, nowMs: number): Request | undefined {
  const open = ['waiting', 'delayed', 'due'];
  return [...requests.values()].find(
    (request) => isDeepStrictEqual(request.act, act) && open.includes(requestState(guard, request, nowMs)),
  );
}

/** Due by what was signed, and by when the store got it. */
async function isDueByStore(
  core: Core,
  { ledger, request }: { ledger: Ledger; request: Request },
  options: StoreOptions,
): Promise<boolean> {
  const { guard } = ledger.state;
  const nowMs = core.clock.nowMs();
  if (requestState(guard, request, nowMs) !== 'due') return false;
  const { approval } = request;
  const [asked, approved] = [
    await storedMs(core, request.entry, options),
    await storedMs(core, approval?.entry, options),
  ];
  const stored = { ...request, signedMs: asked ?? request.signedMs };
  const fromMs = readyMs(
    guard,
    approval ? { ...stored, approval: { ...approval, signedMs: approved ?? approval.signedMs } } : stored,
  );
  return fromMs !== undefined && nowMs >= fromMs;
}

async function storedMs(core: Core, entry: number | undefined, options: StoreOptions): Promise<number | undefined> {
  return entry === undefined ? undefined : (await core.store.head(ledgerName(core, entry), options))?.storedMs;
}

async function buryDecided(
  core: Core,
  { number, act, done }: { number: number; act: Extract<Act, { kind: 'prune' }>; done: OpenedSlot },
  options: StoreOptions,
): Promise<void> {
  const { state } = await readLedger(core, options);
  if (holdOn(state, act)) return;
  const request = state.requests.get(number);
  const approval = request?.approval ? `, approved by ${nameOf(request.approval)}` : '';
  const by = `${nameOf(request ?? done)}${approval}`;
  await bury(core, act, { by, reason: `request ${number}: ${request?.reason ?? ''}` }, options);
}

async function bury(
  core: Core,
  point: { readonly machineId: string; readonly pointId: string },
  why: { readonly by: string; readonly reason: string },
  options: StoreOptions,
): Promise<void> {
  await buryPoint(core, { ...keyOf(point), by: cut(why.by), reason: cut(why.reason) }, options);
}

function keyOf({ machineId, pointId }: { readonly machineId: string; readonly pointId: string }): PointKey {
  return { machineId: parseMachineId(machineId), pointId: parsePointId(pointId) };
}

/** What a tombstone has room for. */
function cut(text: string): string {
  let bytes = 0;
  let kept = '';
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > MAX_REASON_BYTES) return kept;
    kept += character;
  }
  return kept;
}
