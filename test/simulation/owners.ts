/** Who opens the repository with which keys: the tenant, whose epochs move on, and an agent for each machine. */
import type { MachineId } from '@lifeboat/foundation/ids';
import { Agents } from '@lifeboat/repository/agents/agents';
import type { SafetyRules } from '@lifeboat/repository/collect/rules';
import type { Core } from '@lifeboat/repository/core';
import { decodeAgentCredential, type AgentCredential } from '@lifeboat/repository/format/agent-credential';

import { epochOf, openSimulated, putKeySet } from './simulated-core.ts';
import { SimulatedAgentKeyring, SimulatedKeyring } from './simulated-keys.ts';
import { Process, type World } from './world.ts';

const VALID_MS = 3650 * 86_400_000;

export class Owners {
  readonly #world: World;
  readonly #rules: SafetyRules;
  readonly #epochs: 'one' | 'learnt' | 'as opened';
  readonly #credentials = new Map<MachineId, AgentCredential>();
  readonly #unfinished = new Set<MachineId>();
  /** Who had the repository open before any key was rotated. */
  readonly oldest: Core | undefined;

  /** `epochs`: whether keys are rotated, and whether a process that is at work learns of it. */
  constructor(input: { world: World; rules: SafetyRules; epochs: 'one' | 'learnt' | 'as opened' }) {
    this.#world = input.world;
    this.#rules = input.rules;
    this.#epochs = input.epochs;
    this.oldest = input.epochs === 'one' ? undefined : this.open(new Process('oldest', 0));
  }

  /** With the tenant's keys, or with those of the machine's agent. */
  open(process: Process, agentOf?: MachineId): Core {
    const credential = agentOf && this.#credentials.get(agentOf);
    const epoch = this.#epochs === 'one' ? 1 : epochOf(this.#world);
    const keyring = credential ? new SimulatedAgentKeyring(credential, epoch) : new SimulatedKeyring(epoch);
    return openSimulated(this.#world, process, { rules: this.#rules, keyring, learns: this.#epochs === 'learnt' });
  }

  async enrol(machines: readonly MachineId[]): Promise<void> {
    const agents = this.#agents(new Process('operator', 0, { isOnlooker: true }));
    for (const machineId of machines) {
      const { credential } = await agents.enrol({ name: machineId, machines: [machineId], validMs: VALID_MS });
      this.#credentials.set(machineId, decodeAgentCredential(credential, machineId));
    }
  }

  /** May fail, as anything a store is asked for; then `revokeAll` makes up for it. */
  async revoke(process: Process, machineId: MachineId): Promise<void> {
    this.#unfinished.add(machineId);
    await this.#agents(process).revoke({ agent: machineId, reason: 'chance' });
    this.#unfinished.delete(machineId);
  }

  /** Says once more what was begun and came to no end: a revocation is done when its command succeeds. */
  async revokeAll(): Promise<void> {
    for (const machineId of this.#unfinished) await this.revoke(new Process('operator', 0), machineId);
  }

  async rotate(process: Process): Promise<void> {
    await putKeySet(this.open(process).store, epochOf(this.#world) + 1);
  }

  #agents(process: Process): Agents {
    const keyring = new SimulatedKeyring();
    const core = openSimulated(this.#world, process, { rules: this.#rules, keyring, learns: false });
    const by = { slotId: '0'.repeat(16), label: 'simulation' };
    return new Agents({ core, keyring, superblockHash: Buffer.alloc(32), by });
  }
}
