/**
 * Agents of a tenant: who may back up machines without being able to read what was backed up.
 *
 * ```
 *   enrol ─► certificate in the store ─► credential for the agent's host (the only copy)
 *   revoke ─► revocation, names the points that are there ─► list again ─► revocation, names those as well that came meanwhile
 * ```
 * An agent looks for revocations after its PUT. If it sees none, its point was there before the second listing, and counts; if it sees one
 * that does not name its point, it reports no success.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';

import { listAll, sortRecords } from '../collect/listing.ts';
import type { Core } from '../core.ts';
import { encodeAgentCredential } from '../format/agent-credential.ts';
import { CAPABILITIES, encodeCertificate, encodeCertificateBody } from '../format/certificate.ts';
import { MAX_ACCEPTED_POINTS, MAX_AGENT_MACHINES, MAX_CERTIFICATE_BYTES } from '../format/limits.ts';
import {
  agentObjectOf,
  AGENTS,
  certificateObject,
  hex,
  pointOfObject,
  POINTS,
  pointsPrefix,
  revocationObject,
} from '../format/names.ts';
import { encodeAcceptedPoints, encodeRevocation, encodeRevocationBody } from '../format/revocation.ts';
import { earliestValid } from '../read/point-reader.ts';
import { openCertificate, signedCertificate, type AgentCertificate } from '../seal/certificate.ts';
import { controlName } from '../seal/control-records.ts';
import { publicPart } from '../seal/curve-keys.ts';
import type { OpenedSlot } from '../seal/key-store.ts';
import type { TenantKeyring } from '../seal/keyring.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { Revocations, signedRevocation } from './revocations.ts';

const AGENT_ID = /^[0-9a-f]{32}$/;

export interface AgentInfo extends Omit<AgentCertificate, 'publicKey' | 'mayBackUp'> {
  readonly state: 'active' | 'not yet valid' | 'expired' | 'revoked';
  /** Of a revoked one, where the revocation can be read. */
  readonly revocation?: { readonly revokedMs: number; readonly by: string; readonly reason: string };
  /** Points of a revoked one that count. */
  readonly acceptedPoints?: number;
}

export class Agents {
  readonly #core: Core;
  readonly #keyring: TenantKeyring;
  readonly #superblockHash: Uint8Array;
  readonly #by: OpenedSlot;

  constructor(input: { core: Core; keyring: TenantKeyring; superblockHash: Uint8Array; by: OpenedSlot }) {
    this.#core = input.core;
    this.#keyring = input.keyring;
    this.#superblockHash = input.superblockHash;
    this.#by = input.by;
  }

  /**
   * Makes an agent for these machines; `validMs` from now. Returns the content of its file: nobody else has its keys. An attempt that is
   * killed leaves an agent whose keys nobody has. Errors: `input.invalid`, `repository.agent-exists` while an agent of that name is active.
   */
  async enrol(
    input: { readonly name: string; readonly machines: readonly MachineId[]; readonly validMs: number },
    options: StoreOptions = {},
  ): Promise<{ readonly agent: AgentInfo; readonly credential: Uint8Array }> {
    const { name, validMs } = input;
    const machines = [...new Set(input.machines)].toSorted();
    if (machines.length === 0 || machines.length > MAX_AGENT_MACHINES)
      throw new LifeboatError(
        'input.invalid',
        `an agent is for 1 to ${MAX_AGENT_MACHINES} machines, not ${machines.length}`,
      );
    if ((await this.list(options)).some((agent) => agent.name === name && agent.state === 'active'))
      throw new LifeboatError('repository.agent-exists', `there is an active agent ${name}`);
    const { random, clock, store } = this.#core;
    const { tenantId, chunkIdKey, signer } = this.#keyring;
    const agentId = random.bytes(16);
    const signingSeed = random.bytes(32);
    const nowMs = clock.nowMs();
    const body = encodeCertificateBody({
      tenantId,
      agentId,
      name,
      publicKey: publicPart('ed25519', signingSeed),
      machines: machines.map((machineId) => ({ machineId })),
      capabilities: CAPABILITIES.backUp,
      notBeforeMs: nowMs,
      notAfterMs: nowMs + validMs,
      issuedBy: this.#by.label,
    });
    const certificate = encodeCertificate({ body, signature: this.#keyring.sign(signedCertificate(body)) });
    const object = controlName(this.#core, certificateObject(hex(agentId)));
    if ((await store.putIfAbsent(object, [certificate], options)) === 'exists')
      throw new LifeboatError('internal.bug', `a new agent got the id ${hex(agentId)} of another`);
    const credential = encodeAgentCredential({
      superblockHash: this.#superblockHash,
      tenantId,
      signer,
      chunkIdKey,
      ...this.#keyring.forAgent(machines),
      signingSeed,
      certificate,
    });
    return { agent: this.#describe(openCertificate(this.#keyring, certificate, object), undefined), credential };
  }

  /** Every agent there ever was, by name. One whose certificate cannot be read is logged and left out. */
  async list(options: StoreOptions = {}): Promise<AgentInfo[]> {
    const revocations = await Revocations.load(this.#core, undefined, options);
    const agents: AgentInfo[] = [];
    for (const [plain, name] of sortRecords(this.#core, await listAll(this.#core, AGENTS, options)).ours) {
      const of = agentObjectOf(plain);
      if (of?.kind !== 'certificate') continue;
      const certificate = await this.#certificate(name, options);
      if (certificate?.agentId === of.agentId) agents.push(this.#describe(certificate, revocations));
    }
    return agents.toSorted((a, b) => (a.name === b.name ? a.notBeforeMs - b.notBeforeMs : a.name < b.name ? -1 : 1));
  }

  /**
   * From now on the agent commits nothing that counts; what is there goes on counting. `agent`: a name, or an id. May be repeated: an agent
   * that is revoked stays as it is. Errors: `repository.agent-missing` also for a name that several have, `repository.limit-exceeded`.
   */
  async revoke(
    input: { readonly agent: string; readonly reason: string },
    options: StoreOptions = {},
  ): Promise<AgentInfo> {
    const agent = await this.#find(input.agent, options);
    // Where no revocation can be read any more, or who revoked it was stopped before the second listing, it is said again.
    const isRevoked = agent.state === 'revoked' && agent.revocation !== undefined;
    if (isRevoked && (await Revocations.load(this.#core, agent.agentId, options)).isFinished(agent.agentId))
      return agent;
    const before = await this.#points(agent, options);
    await this.#putRevocation(agent, { reason: input.reason, points: before }, options);
    if (!this.#core.rules.listAfterRevocation) return this.#find(agent.agentId, options);
    // A commit that saw no revocation is there by now.
    const points = new Set([...before, ...(await this.#points(agent, options))]);
    await this.#putRevocation(agent, { reason: input.reason, points }, options);
    return this.#find(agent.agentId, options);
  }

  async #find(wanted: string, options: StoreOptions): Promise<AgentInfo> {
    const named = (await this.list(options)).filter(({ agentId, name }) => agentId === wanted || name === wanted);
    if (named.length === 0 && AGENT_ID.test(wanted)) return this.#withoutCertificate(wanted, options);
    const trusted = named.filter(({ state }) => state !== 'revoked');
    const [agent, ...more] = trusted.length > 0 ? trusted : named.slice(-1);
    if (agent && more.length === 0) return agent;
    const why = agent ? `is the name of ${trusted.length} agents; say which by its id` : 'is no agent of this tenant';
    throw new LifeboatError('repository.agent-missing', `${wanted} ${why}`);
  }

  /** Its points hold the certificate: who took it out of the store must not keep the agent from being revoked. */
  async #withoutCertificate(agentId: string, options: StoreOptions): Promise<AgentInfo> {
    const revocations = await Revocations.load(this.#core, agentId, options);
    const unknown = { agentId, name: agentId, publicKey: new Uint8Array(32), machines: [], mayBackUp: false };
    return this.#describe({ ...unknown, notBeforeMs: 0, notAfterMs: 0, issuedBy: '' }, revocations);
  }

  async #putRevocation(
    { agentId }: AgentInfo,
    what: { reason: string; points: ReadonlySet<string> },
    options: StoreOptions,
  ): Promise<void> {
    const { random, clock, store } = this.#core;
    const body = encodeRevocationBody({
      tenantId: this.#keyring.tenantId,
      agentId: Buffer.from(agentId, 'hex'),
      revokedMs: clock.nowMs(),
      by: this.#by.label,
      reason: what.reason,
      points: encodeAcceptedPoints(what.points),
    });
    const object = encodeRevocation({ body, signature: this.#keyring.sign(signedRevocation(body)) });
    const name = controlName(this.#core, revocationObject(agentId, hex(random.bytes(8))));
    await store.putIfAbsent(name, [object], options);
  }

  /** Hashes of the points the agent signed. What cannot be read does not count anyway. */
  async #points(agent: AgentInfo, options: StoreOptions): Promise<Set<string>> {
    const hashes = new Set<string>();
    for (const prefix of agent.machines.length === 0 ? [POINTS] : agent.machines.map(pointsPrefix)) {
      for (const name of await listAll(this.#core, prefix, options)) {
        const key = pointOfObject(name);
        if (!key) continue;
        try {
          const point = await earliestValid(this.#core, key, options);
          if (point.agent?.agentId === agent.agentId) hashes.add(point.hash);
        } catch (error) {
          if (!isUselessObject(error) && !hasCode(error, 'repository.point-damaged')) throw error;
        }
        if (hashes.size > MAX_ACCEPTED_POINTS)
          throw new LifeboatError(
            'repository.limit-exceeded',
            `agent ${agent.name} has more than ${MAX_ACCEPTED_POINTS} points: prune some before it is revoked`,
          );
      }
    }
    return hashes;
  }

  async #certificate(name: string, options: StoreOptions): Promise<AgentCertificate | undefined> {
    try {
      const object = await this.#core.store.get(name, { ...options, maxBytes: MAX_CERTIFICATE_BYTES });
      return openCertificate(this.#keyring, object, name);
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      this.#core.log.error('the certificate of an agent cannot be read', { object: name, why: error.message });
      return undefined;
    }
  }

  #describe(certificate: AgentCertificate, revocations: Revocations | undefined): AgentInfo {
    const { agentId, name, machines, notBeforeMs, notAfterMs, issuedBy } = certificate;
    const agent = { agentId, name, machines, notBeforeMs, notAfterMs, issuedBy };
    const nowMs = this.#core.clock.nowMs();
    if (revocations?.isRevoked(agentId)) {
      const revoked = revocations.revocation(agentId);
      const { revokedMs = 0, by = '', reason = '' } = revoked ?? {};
      const acceptedPoints = revocations.accepted(agentId).size;
      return {
        ...agent,
        state: 'revoked',
        ...(revoked ? { revocation: { revokedMs, by, reason } } : {}),
        acceptedPoints,
      };
    }
    if (nowMs < notBeforeMs) return { ...agent, state: 'not yet valid' };
    return { ...agent, state: nowMs > notAfterMs ? 'expired' : 'active' };
  }
}
