/** Which sessions are at work, by the records they leave: who collects waits for these. */
import { hasCode } from '@lifeboat/foundation/errors';
import { parseSessionId, type SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { damaged, sha256 } from '../format/frame.ts';
import { MAX_RECORD_BYTES } from '../format/limits.ts';
import { OUTCOMES, sessionClosedObject, sessionOpenObject, SESSIONS } from '../format/names.ts';
import { decodeSessionRecord } from '../format/session-record.ts';
import { controlName, openSessionRecord } from '../seal/control-records.ts';
import type { AgentCertificate } from '../seal/certificate.ts';
import { isBadObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { listRecords } from './listing.ts';
import { readOutcome } from './outcomes.ts';

export interface OpenSession {
  readonly sessionId: SessionId;
  readonly machineId: string;
  readonly knownLists: readonly Uint8Array[];
  /** Of its `open`; undefined where that cannot be read. */
  readonly closing: Uint8Array | undefined;
}

export interface Sessions {
  readonly open: readonly OpenSession[];
  /** Closed by themselves, or ended by an outcome; and those of which no `open` is left. */
  readonly over: ReadonlySet<string>;
  /** What lies among the records and is not ours. */
  readonly foreign: readonly string[];
}

/**
 * A session is over when it said so itself, or has an outcome; both are looked into, because a commit that is on its way would be lost
 * to whoever could say so in its place.
 */
export async function readSessions(core: Core, options: StoreOptions = {}): Promise<Sessions> {
  const records = await listRecords(core, SESSIONS, options);
  const outcomes = await listRecords(core, OUTCOMES, options);
  const open: OpenSession[] = [];
  const over = new Set<string>();
  const ids = new Set([...records.ours.keys()].map((plain) => plain.slice(SESSIONS.length).split('/')[0] ?? ''));
  for (const text of ids) {
    const sessionId = parseSessionId(text);
    const isClosed = records.ours.has(sessionClosedObject(sessionId));
    const record = records.ours.has(sessionOpenObject(sessionId))
      ? await readOpen(core, sessionId, options)
      : undefined;
    const isOver =
      !record ||
      (isClosed && (await closedItself(core, record, options))) ||
      (outcomes.ours.has(OUTCOMES + text) && (await readOutcome(core, sessionId, options)) !== undefined);
    if (isOver) over.add(text);
    else open.push(record);
  }
  return { open, over, foreign: [...records.foreign, ...outcomes.foreign] };
}

/** Undefined: the record went, with its session. One that cannot be read names no list and no machine: it is waited for. */
async function readOpen(core: Core, sessionId: SessionId, options: StoreOptions): Promise<OpenSession | undefined> {
  const name = controlName(core, sessionOpenObject(sessionId));
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const { machineId, knownLists, closing } = openSession(core, { name, object });
    const ids = Array.from({ length: knownLists.length / 16 }, (_, i) => knownLists.subarray(i * 16, i * 16 + 16));
    return { sessionId, machineId, knownLists: ids, closing };
  } catch (error) {
    if (hasCode(error, 'repository.object-missing')) return undefined;
    if (!isBadObject(error) && !hasCode(error, 'repository.newer-version')) throw error;
    return { sessionId, machineId: '', knownLists: [], closing: undefined };
  }
}

/** Whether the record of the end holds what only the session knows. What says otherwise counts as nothing: the session is waited for. */
async function closedItself(core: Core, session: OpenSession, options: StoreOptions): Promise<boolean> {
  return (await readClosed(core, session, options)) !== undefined;
}

/** What a session says of its own end: the point it committed, or '' for none. Undefined: nothing that could be believed. */
export async function readClosed(
  core: Core,
  session: Pick<OpenSession, 'sessionId' | 'closing'>,
  options: StoreOptions = {},
): Promise<string | undefined> {
  const name = controlName(core, sessionClosedObject(session.sessionId));
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const { closing, pointId, author } = openSession(core, { name, object });
    // Whose session it is stands in its `open`; where that cannot be read, an agent may be anybody's.
    if (session.closing === undefined) return author === 'tenant' ? pointId : undefined;
    return sha256(closing).equals(session.closing) ? pointId : undefined;
  } catch (error) {
    if (hasCode(error, 'repository.object-missing')) return undefined;
    if (!isBadObject(error) && !hasCode(error, 'repository.newer-version')) throw error;
    core.log.error('the record of a session that ended is not its own, or damaged; the session counts as open', {
      object: name,
      why: error.message,
    });
    return undefined;
  }
}

/** Throws `repository.object-damaged` also for what an agent says of a machine that is not its own. */
function openSession(
  core: Core,
  { name, object }: { name: string; object: Uint8Array },
): ReturnType<typeof decodeSessionRecord> & { readonly author: 'tenant' | AgentCertificate } {
  const { body, author } = openSessionRecord(core, { name, object });
  const record = decodeSessionRecord(body, name);
  if (author !== 'tenant' && !author.machines.some((machineId) => machineId === record.machineId))
    throw damaged(name, `agent ${author.name} may not speak for machine ${record.machineId}`);
  return { ...record, author };
}
