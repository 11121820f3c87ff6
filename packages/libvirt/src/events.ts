/** Events of domains, as the daemon sends them to a registered callback. */
import { EVENT_PROCEDURE } from './procedures.ts';
import { readDomain, readParameters, type DomainRef, type Parameters } from './references.ts';
import type { XdrReader } from './xdr.ts';

export type LifecycleKind =
  | 'defined'
  | 'undefined'
  | 'started'
  | 'suspended'
  | 'resumed'
  | 'stopped'
  | 'shutdown'
  | 'pm-suspended'
  | 'crashed'
  | 'other';

interface EventBodies {
  /** `detail` is libvirt's number for the reason, which depends on the kind. */
  lifecycle: { kind: LifecycleKind; detail: number };
  /** The guest was reset, by itself or from outside; the machine goes on. */
  reboot: object;
  /** A disk of the guest failed a request. `action` is what QEMU did about it. */
  ioError: { sourcePath: string; deviceAlias: string; action: 'none' | 'pause' | 'report' | 'other'; reason: string };
  /** A copy, pull, commit or push backup of one disk changed its state. `disk` is the target, such as `vda`. */
  blockJob: { disk: string; type: number; status: 'completed' | 'failed' | 'canceled' | 'ready' | 'other' };
  agentLifecycle: { connected: boolean; reason: number };
  /** A job of the whole domain ended. A pull backup ends by abort: `success` with the text "Operation canceled". */
  jobCompleted: { parameters: Parameters };
}

export type EventName = keyof EventBodies;
export type DomainEvent<N extends EventName> = { readonly domain: DomainRef } & Readonly<EventBodies[N]>;

/** The number to register with. */
export const EVENT_ID: Readonly<Record<EventName, number>> = {
  lifecycle: 0,
  reboot: 1,
  ioError: 6,
  blockJob: 16,
  agentLifecycle: 18,
  jobCompleted: 21,
};

const LIFECYCLE: readonly LifecycleKind[] = [
  'defined',
  'undefined',
  'started',
  'suspended',
  'resumed',
  'stopped',
  'shutdown',
  'pm-suspended',
  'crashed',
];
const BLOCK_JOB_STATUS = ['completed', 'failed', 'canceled', 'ready'] as const;
const IO_ERROR_ACTION = ['none', 'pause', 'report'] as const;

const READERS: { [N in EventName]: (reader: XdrReader) => EventBodies[N] } = {
  lifecycle: (reader) => ({ kind: named(LIFECYCLE, reader.i32()), detail: reader.i32() }),
  reboot: () => ({}),
  ioError: (reader) => ({
    sourcePath: reader.string(),
    deviceAlias: reader.string(),
    action: named(IO_ERROR_ACTION, reader.i32()),
    reason: reader.string(),
  }),
  blockJob: (reader) => ({
    disk: reader.string(),
    type: reader.i32(),
    status: named(BLOCK_JOB_STATUS, reader.i32()),
  }),
  // 1 is connected, 2 disconnected.
  agentLifecycle: (reader) => ({ connected: reader.i32() === 1, reason: reader.i32() }),
  jobCompleted: (reader) => ({ parameters: readParameters(reader) }),
};

/** An event with the callback it is for. */
export interface ReceivedEvent {
  readonly name: EventName;
  readonly callbackId: number;
  readonly event: DomainEvent<EventName>;
}

/** Undefined for a procedure nobody here registers for. */
export function readEvent(procedure: number, reader: XdrReader): ReceivedEvent | undefined {
  const name = (Object.keys(EVENT_PROCEDURE) as EventName[]).find((key) => EVENT_PROCEDURE[key] === procedure);
  if (name === undefined) return undefined;
  const callbackId = reader.i32();
  const domain = readDomain(reader);
  const event = { domain, ...READERS[name](reader) };
  reader.end();
  return { name, callbackId, event };
}

/** Newer daemons may know more values; an unknown one is no reason to give up the connection. */
function named<T>(names: readonly T[], index: number): T | 'other' {
  return names[index] ?? 'other';
}
