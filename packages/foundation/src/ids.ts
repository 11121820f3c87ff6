import { LifeboatError } from './errors.ts';
import type { Random } from './random.ts';

declare const brand: unique symbol;
export type Branded<T, B extends string> = T & { readonly [brand]: B };

/** A machine: the domain's UUID for a virtual machine. Appears in workflow ids (`machine/<id>`) and object names. */
export type MachineId = Branded<string, 'MachineId'>;
/** A host that runs an agent. */
export type HostId = Branded<string, 'HostId'>;
/** One operation of the engine, chosen by the workflow: names its directory, domains and sockets. */
export type OpId = Branded<string, 'OpId'>;
/** A recovery point. Sorts by time of creation: `p20261124T001122Z-9f86d081`. */
export type PointId = Branded<string, 'PointId'>;
/** A writer session of the repository. */
export type SessionId = Branded<string, 'SessionId'>;

// Ids become file names, object names, domain names and workflow ids, so they hold only what is safe in all of these.
const SAFE = /^[a-z0-9][a-z0-9-]{0,62}$/;
const POINT = /^p\d{8}T\d{6}Z-[0-9a-f]{8}$/;

function parse<B extends string>(kind: B, pattern: RegExp, text: string): Branded<string, B> {
  if (!pattern.test(text)) {
    throw new LifeboatError('input.invalid', `'${text}' is not a ${kind}: expected ${String(pattern)}`, {
      context: { kind, value: text },
    });
  }
  return text as Branded<string, B>;
}

export const parseMachineId = (text: string): MachineId => parse('MachineId', SAFE, text);
export const parseHostId = (text: string): HostId => parse('HostId', SAFE, text);
export const parseOpId = (text: string): OpId => parse('OpId', SAFE, text);
export const parsePointId = (text: string): PointId => parse('PointId', POINT, text);
export const parseSessionId = (text: string): SessionId => parse('SessionId', SAFE, text);

/** A fresh point id for an instant (Unix ms). */
export function newPointId(nowMs: number, random: Random): PointId {
  const stamp = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '');
  return parsePointId(`p${stamp}-${Buffer.from(random.bytes(4)).toString('hex')}`);
}

/** The instant a point id carries, Unix ms, whole seconds. */
export function pointInstantMs(id: PointId): number {
  const m = /^p(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(id);
  if (!m) throw new LifeboatError('internal.bug', `point id ${id} carries no instant`);
  const [, y, mo, d, h, mi, s] = m.map(Number) as [number, number, number, number, number, number, number];
  return Date.UTC(y, mo - 1, d, h, mi, s);
}
