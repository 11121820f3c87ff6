/**
 * Which agents are trusted no more, and which of their points count all the same.
 *
 * A point of a revoked agent counts when a revocation names it. Where a revocation is there and cannot be read, nobody knows which those
 * are: then none of them does, until a person brings the object back. Nothing is ever deleted for it: who collects keeps what such
 * points need, until somebody prunes them.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { listAll, sortRecords } from '../collect/listing.ts';
import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { MAX_AGENT_OBJECTS, MAX_REVOCATION_BYTES } from '../format/limits.ts';
import { agentObjectOf, agentPrefix, AGENTS, hex } from '../format/names.ts';
import { acceptedPoints, decodeRevocation, type RevocationBody } from '../format/revocation.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** What the signature of a revocation covers. */
export const signedRevocation = (body: Uint8Array): Buffer => lengthPrefixed('lifeboat agent revocation', body);

export interface AgentPoint {
  readonly machineId: string;
  readonly pointId: string;
  /** SHA-256 of its object, hexadecimal. */
  readonly hash: string;
  /** Absent for a point the tenant signed itself. */
  readonly agent?: { readonly agentId: string; readonly name: string };
}

interface Revoked {
  /** Undefined: none of its revocations can be read. */
  readonly first: RevocationBody | undefined;
  readonly accepted: ReadonlySet<string>;
  /** How many of its revocations can be read. */
  readonly readable: number;
}

export class Revocations {
  readonly #agents: ReadonlyMap<string, Revoked>;

  private constructor(agents: ReadonlyMap<string, Revoked>) {
    this.#agents = agents;
  }

  /** Of one agent, or of all. A listing that fails throws. */
  static async load(core: Core, agentId?: string, options: StoreOptions = {}): Promise<Revocations> {
    const names = await listAll(core, agentId === undefined ? AGENTS : agentPrefix(agentId), options);
    if (names.length > MAX_AGENT_OBJECTS) {
      throw new LifeboatError(
        'repository.limit-exceeded',
        `${core.store.description} has ${names.length} objects among its agents; at most ${MAX_AGENT_OBJECTS} are read`,
      );
    }
    const agents = new Map<string, Revoked>();
    for (const [plain, name] of sortRecords(core, names).ours) {
      const of = agentObjectOf(plain);
      if (of?.kind !== 'revocation') continue;
      const known = agents.get(of.agentId);
      const revocation = await readRevocation(core, { name, agentId: of.agentId }, options);
      agents.set(of.agentId, {
        first: earlier(known?.first, revocation?.body),
        accepted: new Set([...(known?.accepted ?? []), ...(revocation?.accepted ?? [])]),
        readable: (known?.readable ?? 0) + (revocation ? 1 : 0),
      });
    }
    return new Revocations(agents);
  }

  isRevoked(agentId: string): boolean {
    return this.#agents.has(agentId);
  }

  /** Undefined: it is not revoked, or nobody can read by whom and when it was. */
  revocation(agentId: string): RevocationBody | undefined {
    return this.#agents.get(agentId)?.first;
  }

  /** Whether points were listed once more when the first revocation was there: else who revoked it was stopped before that. */
  isFinished(agentId: string): boolean {
    return (this.#agents.get(agentId)?.readable ?? 0) > 1;
  }

  accepted(agentId: string): ReadonlySet<string> {
    return this.#agents.get(agentId)?.accepted ?? new Set();
  }

  /** Why the point does not count; undefined: it does. */
  refusal(point: AgentPoint): LifeboatError | undefined {
    const { agent, machineId, pointId, hash } = point;
    const revoked = agent && this.#agents.get(agent.agentId);
    if (!agent || !revoked || revoked.accepted.has(hash)) return undefined;
    const why = revoked.first
      ? `was revoked on ${new Date(revoked.first.revokedMs).toISOString()}, before the point was there`
      : 'was revoked, and which of its points count cannot be read';
    return new LifeboatError(
      'repository.agent-revoked',
      `point ${pointId} of machine ${machineId} is signed by agent ${agent.name} (${agent.agentId}), which ${why}`,
      { context: { machineId, pointId, agentId: agent.agentId } },
    );
  }
}

/** Throws `repository.agent-revoked` for a point that does not count. */
export async function assertNotRevoked(core: Core, point: AgentPoint, options: StoreOptions = {}): Promise<void> {
  if (!point.agent) return;
  const refusal = (await Revocations.load(core, point.agent.agentId, options)).refusal(point);
  if (refusal) throw refusal;
}

async function readRevocation(
  core: Core,
  { name, agentId }: { name: string; agentId: string },
  options: StoreOptions,
): Promise<{ body: RevocationBody; accepted: string[] } | undefined> {
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_REVOCATION_BYTES });
    const { revocation, body, signature } = decodeRevocation(object, name);
    const { keyring } = core;
    if (hex(revocation.agentId) !== agentId) throw damaged(name, 'it revokes another agent');
    if (Buffer.compare(revocation.tenantId, keyring.tenantId) !== 0)
      throw damaged(name, 'it belongs to another tenant');
    if (!keyring.verify(keyring.signer, signedRevocation(body), signature))
      throw damaged(name, 'its signature is not ours');
    return { body: revocation, accepted: acceptedPoints(revocation, name) };
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.error('a revocation cannot be read', { object: name, why: error.message });
    return undefined;
  }
}

function earlier(a: RevocationBody | undefined, b: RevocationBody | undefined): RevocationBody | undefined {
  if (!a || !b) return a ?? b;
  return b.revokedMs < a.revokedMs ? b : a;
}
