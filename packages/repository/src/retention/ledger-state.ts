/**
 * What the retention ledger says, entry by entry. A pure function: who writes an entry asks it first, who reads one asks it again.
 *
 * ```
 *   act ─────────────────────────────────────────────► holds at once: what lets go of nothing, or where nothing guards
 *   request ─► approval (another slot) ─► the delay ─► done ─► holds
 *        └───────────► withdrawal
 * ```
 * An entry the rules do not allow where it stands changes nothing; so an act cannot be pushed past the guard by writing it. Times are those
 * the entries were signed with. Who makes something happen also asks the store's clock: `acts.ts`.
 *
 * Not covered: who holds the tenant's keys can sign an entry in the name of any slot, with any time. Four eyes are against mistakes, habit
 * and a console that somebody else got at, not against a program that was written to get round them; Object Lock is for that.
 */
import type { Act, Guard, LedgerEntry } from '../format/ledger-entry.ts';
import { hex } from '../format/names.ts';
import { shortens, type RetentionPolicy } from './policy.ts';

/** A request that nobody approves, or that nobody carries out once it may be, is void after this: nobody expects it any more. */
export const REQUEST_LIFETIME_MS = 30 * 86_400_000;

export interface Signed {
  /** 16 hexadecimal digits. */
  readonly slotId: string;
  readonly label: string;
  readonly signedMs: number;
  /** Of the entry in the ledger. */
  readonly entry: number;
}

export interface Hold extends Signed {
  readonly machineId: string;
  /** Undefined: every point of the machine. */
  readonly pointId: string | undefined;
  readonly reason: string;
}

export interface PolicyVersion extends Signed {
  readonly policy: RetentionPolicy;
}

export interface Request extends Signed {
  readonly act: Act;
  readonly reason: string;
  readonly approval?: Signed;
  readonly withdrawal?: Signed;
  readonly done?: Signed;
}

/** 'waiting' is for the approval, 'delayed' for the delay to pass; 'due' ones are carried out by whoever comes next. */
export type RequestState = 'waiting' | 'delayed' | 'due' | 'done' | 'withdrawn' | 'expired';

export interface LedgerState {
  readonly guard: Guard;
  readonly defaultPolicy: PolicyVersion | undefined;
  readonly policies: ReadonlyMap<string, PolicyVersion>;
  /** By the number of the entry that set it. */
  readonly holds: ReadonlyMap<number, Hold>;
  readonly requests: ReadonlyMap<number, Request>;
  /** Entries that are not there any more, or cannot be read, and that nobody wrote off. */
  readonly lost: readonly { readonly entry: number; readonly why: string }[];
  /** Links of chains that are lost, and that somebody goes on without: `linkKey`. */
  readonly writtenOffLinks: ReadonlySet<string>;
  /** Entries that change nothing, because the rules do not allow them where they stand. */
  readonly void: readonly { readonly entry: number; readonly why: string }[];
}

/** As it is where nobody said anything: one person, one key. */
const NO_GUARD: Guard = { fourEyes: false, delayMs: 0 };

export function isGuarded({ fourEyes, delayMs }: Guard): boolean {
  return fourEyes || delayMs > 0;
}

/** From when on a request may be carried out, by the times that were signed; undefined: it waits for an approval. */
export function readyMs(guard: Guard, { signedMs, approval }: Request): number | undefined {
  if (guard.fourEyes && !approval) return undefined;
  return Math.max(signedMs, approval?.signedMs ?? 0) + guard.delayMs;
}

export function requestState(guard: Guard, request: Request, nowMs: number): RequestState {
  if (request.done) return 'done';
  if (request.withdrawal) return 'withdrawn';
  const fromMs = readyMs(guard, request);
  if (nowMs > (fromMs ?? request.signedMs) + REQUEST_LIFETIME_MS) return 'expired';
  if (fromMs === undefined) return 'waiting';
  return nowMs < fromMs ? 'delayed' : 'due';
}

export function holdOn(state: LedgerState, point: { machineId: string; pointId: string }): Hold | undefined {
  for (const hold of state.holds.values()) {
    if (hold.machineId !== point.machineId) continue;
    if (hold.pointId === undefined || hold.pointId === point.pointId) return hold;
  }
  return undefined;
}

export const linkKey = (machineId: string, link: number): string => `${machineId}/${link}`;

export function policyFor(state: LedgerState, machineId: string): PolicyVersion | undefined {
  return state.policies.get(machineId) ?? state.defaultPolicy;
}

/** Why a change of state is no loss to anybody, or else that it is one and must be asked for. */
export function isDestructive(state: LedgerState, act: Act): boolean {
  switch (act.kind) {
    case 'hold':
      return false;
    case 'policy':
      return act.machineId === undefined
        ? shortens(state.defaultPolicy?.policy, act.policy)
        : shortens(policyFor(state, act.machineId)?.policy, act.policy ?? state.defaultPolicy?.policy);
    case 'guard':
      return (state.guard.fourEyes && !act.guard.fourEyes) || act.guard.delayMs < state.guard.delayMs;
    default:
      return true;
  }
}

/** Builds the state up, in the order of the numbers. */
export class LedgerFold {
  #guard: Guard = NO_GUARD;
  #defaultPolicy: PolicyVersion | undefined;
  readonly #policies = new Map<string, PolicyVersion>();
  readonly #holds = new Map<number, Hold>();
  readonly #requests = new Map<number, Request>();
  readonly #lost = new Map<number, string>();
  readonly #writtenOffLinks = new Set<string>();
  readonly #void: { entry: number; why: string }[] = [];

  state(): LedgerState {
    return {
      guard: this.#guard,
      defaultPolicy: this.#defaultPolicy,
      policies: this.#policies,
      holds: this.#holds,
      requests: this.#requests,
      lost: [...this.#lost].map(([entry, why]) => ({ entry, why })),
      writtenOffLinks: this.#writtenOffLinks,
      void: this.#void,
    };
  }

  lose(entry: number, why: string): void {
    this.#lost.set(entry, why);
  }

  add(entry: LedgerEntry): void {
    const why = this.refusal(entry);
    if (why === undefined) this.#apply(entry);
    else this.#void.push({ entry: entry.number, why });
  }

  /** Why the rules do not allow `entry` as the next one; undefined: they do. */
  refusal({ step, slotId, signedMs }: Pick<LedgerEntry, 'step' | 'slotId' | 'signedMs'>): string | undefined {
    if (step.kind === 'act' || step.kind === 'request') {
      const { act } = step;
      if (act.kind === 'lift' && !this.#holds.has(act.hold)) return `there is no hold ${act.hold}`;
      if (act.kind === 'write-off' && !this.#lost.has(act.entry)) return `entry ${act.entry} is not lost`;
      if (step.kind === 'request') return undefined;
      // These happen outside the ledger: where nothing guards they need no entry, and an entry alone does not do them.
      if (act.kind === 'prune' || act.kind === 'delete-tenant') return `${act.kind} is no act of the ledger`;
      if (isGuarded(this.#guard) && isDestructive(this.state(), act)) return 'it needs a request';
      return undefined;
    }
    const request = this.#requests.get(step.request);
    if (!request) return `there is no request ${step.request}`;
    const state = requestState(this.#guard, request, signedMs);
    if (state === 'done' || state === 'withdrawn' || state === 'expired') return `request ${step.request} is ${state}`;
    if (step.kind === 'withdrawal') return undefined;
    if (step.kind === 'done') {
      if (state === 'due') return undefined;
      return `request ${step.request} is ${state === 'waiting' ? 'not approved' : 'not due yet'}`;
    }
    if (request.approval) return `request ${step.request} is approved already`;
    if (request.slotId === hex(slotId)) return 'who asks does not approve: it takes another key slot';
    return undefined;
  }

  #apply({ step, ...entry }: LedgerEntry): void {
    const signed: Signed = {
      slotId: hex(entry.slotId),
      label: entry.slotLabel,
      signedMs: entry.signedMs,
      entry: entry.number,
    };
    if (step.kind === 'act') {
      this.#do(step.act, signed, entry.reason);
      return;
    }
    if (step.kind === 'request') {
      this.#requests.set(entry.number, { ...signed, act: step.act, reason: entry.reason });
      return;
    }
    const request = this.#requests.get(step.request);
    if (!request) return;
    this.#requests.set(step.request, { ...request, [step.kind]: signed });
    if (step.kind === 'done') this.#do(request.act, signed, request.reason);
  }

  #do(act: Act, signed: Signed, reason: string): void {
    switch (act.kind) {
      case 'policy': {
        const version = act.policy && { ...signed, policy: act.policy };
        if (act.machineId === undefined) this.#defaultPolicy = version;
        else if (version) this.#policies.set(act.machineId, version);
        else this.#policies.delete(act.machineId);
        return;
      }
      case 'hold':
        this.#holds.set(signed.entry, { ...signed, machineId: act.machineId, pointId: act.pointId, reason });
        return;
      case 'guard':
        this.#guard = act.guard;
        return;
      case 'lift':
        this.#holds.delete(act.hold);
        return;
      case 'write-off':
        this.#lost.delete(act.entry);
        return;
      case 'write-off-link':
        this.#writtenOffLinks.add(linkKey(act.machineId, act.link));
        return;
      default:
      // Done to points and keys, by who wrote the entry.
    }
  }
}
