/** Agents in tests: a repository with one, opened from its file. */
import { chmodSync } from 'node:fs';

import type { Clock } from '@lifeboat/foundation/clock';
import type { MachineId } from '@lifeboat/foundation/ids';

import { decodeAgentCredential, type AgentCredential } from '../format/agent-credential.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { openRepository, type Repository, type RepositoryDeps } from '../repository.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { inlineSealer } from '../write/inline-sealer.ts';
import { MACHINE, TINY_LIMITS, type Scratch } from './tiny.ts';

/** Moved by the test; a sleep passes at once. */
export class SetClock implements Clock {
  #nowMs: number;

  constructor(nowMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number): Promise<void> {
    this.#nowMs += ms;
    return Promise.resolve();
  }

  pass(ms: number): void {
    this.#nowMs += ms;
  }
}

export const VALID_MS = 90 * 86_400_000;

export interface EnrolledAgent {
  readonly path: string;
  readonly agentId: string;
  readonly credential: AgentCredential;
}

export async function enrolled(
  tenant: Repository,
  scratch: Scratch,
  { name = 'host', machines = [MACHINE] }: { name?: string; machines?: readonly MachineId[] } = {},
): Promise<EnrolledAgent> {
  const { agent, credential } = await tenant.agents.enrol({ name, machines, validMs: VALID_MS });
  const path = scratch.file(credential);
  chmodSync(path, 0o600);
  return { path, agentId: agent.agentId, credential: decodeAgentCredential(credential, path) };
}

export function openAgentTiny(store: ObjectStore, agentFile: string, deps: RepositoryDeps = {}): Promise<Repository> {
  const tiny = { sealer: inlineSealer({ laneCount: 2 }), opener: inlineOpener(), writerLimits: TINY_LIMITS };
  return openRepository({ store, secret: { agentFile }, deps: { ...tiny, ...deps } });
}
