/**
 * An entry of the retention ledger: `frame('RETN', protobuf: body || signature)` under `data/retention/<number>.<tag>`.
 *
 * Policies, holds, and the steps of destructive acts (request, approval, withdrawal, done) are entries of one numbered series. Each is
 * created once under the next number, so of two changes at once one is first and the other is made anew, knowing it. What an
 * entry means follows from those before it: `retention/ledger-state.ts`.
 */
import { MAX_ZONE_BYTES } from '../retention/calendar.ts';
import { MAX_RULE_COUNT, type RetentionPolicy } from '../retention/policy.ts';
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_DELAY_MS } from './limits.ts';
import { bytes, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

export const MAX_REASON_BYTES = 255;

/** What makes destructive acts wait. */
export interface Guard {
  /** A request needs the approval of another key slot. */
  readonly fourEyes: boolean;
  /** From the approval on, or from the request where none is needed. */
  readonly delayMs: number;
}

/** Ids are text as it was signed: whoever uses one parses it. */
export type Act =
  /** Without a machine: for all that have none of their own. Without a policy: the default again, or none. */
  | { readonly kind: 'policy'; readonly machineId?: string; readonly policy?: RetentionPolicy }
  /** Without a point: every point of the machine, also later ones. */
  | { readonly kind: 'hold'; readonly machineId: string; readonly pointId?: string }
  | { readonly kind: 'guard'; readonly guard: Guard }
  /** `hold` is the number of the entry that set it. */
  | { readonly kind: 'lift'; readonly hold: number }
  | { readonly kind: 'prune'; readonly machineId: string; readonly pointId: string }
  | { readonly kind: 'delete-tenant' }
  /** Goes on without an entry that is lost or cannot be read, whatever it said. */
  | { readonly kind: 'write-off'; readonly entry: number }
  /** The same without a link of a machine's chain, whatever points it named. */
  | { readonly kind: 'write-off-link'; readonly machineId: string; readonly link: number };

export type Step =
  /** Done by this entry itself. */
  | { readonly kind: 'act'; readonly act: Act }
  | { readonly kind: 'request'; readonly act: Act }
  /** `request` is the number of the entry that asked. */
  | { readonly kind: 'approval' | 'withdrawal' | 'done'; readonly request: number };

export interface LedgerEntry {
  readonly tenantId: Uint8Array;
  readonly number: number;
  /** Unix ms by the clock of who signed. */
  readonly signedMs: number;
  /** The way in by which the repository was opened: 8 bytes, and its label at the time. */
  readonly slotId: Uint8Array;
  readonly slotLabel: string;
  /** For people. Like the rest it lies open in the store. */
  readonly reason: string;
  readonly step: Step;
  readonly signer: Uint8Array;
}

const number = (tag: number): ReturnType<typeof uint> => uint(tag, 99_999_999);

const policySchema = message({
  last: uint(1, MAX_RULE_COUNT),
  hourly: uint(2, MAX_RULE_COUNT),
  daily: uint(3, MAX_RULE_COUNT),
  weekly: uint(4, MAX_RULE_COUNT),
  monthly: uint(5, MAX_RULE_COUNT),
  yearly: uint(6, MAX_RULE_COUNT),
  zone: text(7, MAX_ZONE_BYTES),
});

/** One of the fields, and no more. */
const actSchema = message({
  policy: optional(nested(1, message({ machineId: optional(text(1, 64)), policy: optional(nested(2, policySchema)) }))),
  hold: optional(nested(2, message({ machineId: text(1, 64), pointId: optional(text(2, 64)) }))),
  guard: optional(nested(3, message({ fourEyes: uint(1, 1), delayMs: uint(2, MAX_DELAY_MS) }))),
  lift: optional(nested(4, message({ hold: number(1) }))),
  prune: optional(nested(5, message({ machineId: text(1, 64), pointId: text(2, 64) }))),
  deleteTenant: optional(nested(6, message({}))),
  writeOff: optional(nested(7, message({ entry: number(1) }))),
  writeOffLink: optional(nested(8, message({ machineId: text(1, 64), link: number(2) }))),
});

const ofRequest = (tag: number) => optional(nested(tag, message({ request: number(1) })));

/** One of fields 7 to 11, and no more. */
const bodySchema = message({
  tenantId: bytes(1, { length: 16 }),
  number: number(2),
  signedMs: uint(3),
  slotId: bytes(4, { length: 8 }),
  slotLabel: text(5, 255),
  reason: text(6, MAX_REASON_BYTES),
  act: optional(nested(7, actSchema)),
  request: optional(nested(8, actSchema)),
  approval: ofRequest(9),
  withdrawal: ofRequest(10),
  done: ofRequest(11),
  signer: bytes(12, { length: 32 }),
});

const envelopeSchema = message({
  body: bytes(1, { max: 4096 }),
  signature: bytes(2, { length: 64 }),
});

export function encodeLedgerBody({ step, ...head }: LedgerEntry): Uint8Array {
  const none = { act: undefined, request: undefined, approval: undefined, withdrawal: undefined, done: undefined };
  const value = 'act' in step ? toActFields(step.act) : { request: step.request };
  return bodySchema.encode({ ...head, ...none, [step.kind]: value });
}

export const encodeLedgerEntry = (envelope: MessageOf<typeof envelopeSchema>): Uint8Array =>
  encodeFrame('RETN', envelopeSchema.encode(envelope));

/** The caller checks number, tenant, signer and signature. Throws `repository.object-damaged`, `repository.newer-version`. */
export function decodeLedgerEntry(
  object: Uint8Array,
  what: string,
): { entry: LedgerEntry; body: Uint8Array; signature: Uint8Array } {
  const { body, signature } = envelopeSchema.decode(decodeFrame('RETN', object, what), what);
  const { act, request, approval, withdrawal, done, ...head } = bodySchema.decode(body, what);
  const steps: Step[] = [];
  if (act) steps.push({ kind: 'act', act: fromActFields(act, what) });
  if (request) steps.push({ kind: 'request', act: fromActFields(request, what) });
  if (approval) steps.push({ kind: 'approval', ...approval });
  if (withdrawal) steps.push({ kind: 'withdrawal', ...withdrawal });
  if (done) steps.push({ kind: 'done', ...done });
  return { entry: { ...head, step: only(steps, what) }, body, signature };
}

type ActFields = MessageOf<typeof actSchema>;

function toActFields(act: Act): ActFields {
  const none = {
    policy: undefined,
    hold: undefined,
    guard: undefined,
    lift: undefined,
    prune: undefined,
    deleteTenant: undefined,
    writeOff: undefined,
    writeOffLink: undefined,
  };
  switch (act.kind) {
    case 'policy':
      return { ...none, policy: { machineId: act.machineId, policy: act.policy } };
    case 'hold':
      return { ...none, hold: { machineId: act.machineId, pointId: act.pointId } };
    case 'guard':
      return { ...none, guard: { fourEyes: act.guard.fourEyes ? 1 : 0, delayMs: act.guard.delayMs } };
    case 'lift':
      return { ...none, lift: { hold: act.hold } };
    case 'prune':
      return { ...none, prune: { machineId: act.machineId, pointId: act.pointId } };
    case 'delete-tenant':
      return { ...none, deleteTenant: {} };
    case 'write-off':
      return { ...none, writeOff: { entry: act.entry } };
    default:
      return { ...none, writeOffLink: { machineId: act.machineId, link: act.link } };
  }
}

function fromActFields(fields: ActFields, what: string): Act {
  const { policy, hold, guard, lift, prune, deleteTenant, writeOff, writeOffLink } = fields;
  const acts: Act[] = [];
  if (policy) acts.push({ kind: 'policy', ...given('machineId', policy.machineId), ...given('policy', policy.policy) });
  if (hold) acts.push({ kind: 'hold', machineId: hold.machineId, ...given('pointId', hold.pointId) });
  if (guard) acts.push({ kind: 'guard', guard: { fourEyes: guard.fourEyes === 1, delayMs: guard.delayMs } });
  if (lift) acts.push({ kind: 'lift', ...lift });
  if (prune) acts.push({ kind: 'prune', ...prune });
  if (deleteTenant) acts.push({ kind: 'delete-tenant' });
  if (writeOff) acts.push({ kind: 'write-off', ...writeOff });
  if (writeOffLink) acts.push({ kind: 'write-off-link', ...writeOffLink });
  return only(acts, what);
}

function given<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V };
}

function only<T>(found: readonly T[], what: string): T {
  const [one, ...more] = found;
  if (one === undefined || more.length > 0)
    throw damaged(what, `it holds ${found.length} steps or acts instead of one`);
  return one;
}
