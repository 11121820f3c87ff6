/** What `lifeboat repo agents` does: short acts on the configured repository. */
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId, type PointId } from '@lifeboat/foundation/ids';
import type { AgentInfo } from '@lifeboat/repository/agents/agents';
import { hex } from '@lifeboat/repository/format/names';
import { agentPolicy, type BucketPolicy } from '@lifeboat/repository/lock/agent-policy';
import type { Repository } from '@lifeboat/repository/repository';
import type { Configuration } from './configuration.ts';
import { withRepository } from './repository-admin.ts';
import type { RepositoryPlace } from './repository-place.ts';
import { namesOfMachines } from './retention-admin.ts';

type At = { readonly signal: AbortSignal };
const DAY_MS = 86_400_000;

/**
 * Enrols an agent and writes its file, which must not exist yet, mode 0600. `machines`: ids, or names of machines that have recovery points.
 * An attempt that fails takes the agent back; one that is killed leaves an agent whose keys nobody has. Errors: `input.invalid`,
 * `repository.agent-exists`, those of the repository.
 */
export async function enrolAgent(
  configuration: Configuration,
  input: {
    readonly name: string;
    readonly machines: readonly string[];
    readonly validDays: number;
    readonly output: string;
  },
  at: At,
): Promise<AgentInfo> {
  const { name, validDays, output } = input;
  // Reserved first: an agent whose file cannot be written is of no use.
  const file = await createFile(output);
  try {
    return await withRepository(configuration, async (repository) => {
      const machines = await machinesOf(repository, input.machines, at);
      const { agent, credential } = await repository.agents.enrol({ name, machines, validMs: validDays * DAY_MS }, at);
      try {
        await file.writeFile(credential);
        await file.sync();
      } catch (error) {
        await repository.agents.revoke({ agent: agent.agentId, reason: 'its file could not be written' });
        throw error;
      }
      return agent;
    });
  } catch (error) {
    await rm(output, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

export function listAgents(configuration: Configuration, at: At): Promise<AgentInfo[]> {
  return withRepository(configuration, (repository) => repository.agents.list(at));
}

/** Errors: `repository.agent-missing`, those of the repository. May be repeated. */
export function revokeAgent(
  configuration: Configuration,
  input: { readonly agent: string; readonly reason: string },
  at: At,
): Promise<AgentInfo> {
  return withRepository(configuration, (repository) => repository.agents.revoke(input, at));
}

export interface PolicyOfBucket {
  readonly bucket: string;
  readonly policy: BucketPolicy;
}

/**
 * What the credentials of a host with an agent's file may do in the buckets of the configured repository, as policies of these. `principal`:
 * as the service names its users. Errors: `input.invalid` for a directory, those of the repository.
 */
export function agentPoliciesOf(
  configuration: Configuration,
  { principal }: { readonly principal: string },
): Promise<PolicyOfBucket[]> {
  return withRepository(configuration, async ({ tenantId: id, core }) => {
    const tenant = { id, isFirst: id === hex(core.superblock.tenantId) };
    return policiesOf(configuration.repository.place, { principal, tenant });
  });
}

/** One for each bucket, that of the data first. Errors: `input.invalid` for a directory. */
export function policiesOf(
  place: RepositoryPlace,
  whose: Required<Pick<Parameters<typeof agentPolicy>[0], 'principal' | 'tenant'>>,
): PolicyOfBucket[] {
  if (place.kind === 'directory')
    throw new LifeboatError(
      'input.invalid',
      `${place.path} is a directory, and has no policy: its rights are those of its files`,
    );
  const { data, control, lockDays } = place;
  return [data, ...(control ? [control] : [])].map((at) => ({
    bucket: at.bucket,
    policy: agentPolicy({ place: at, ...whose, keys: 'agent', locksInPut: at === data && lockDays !== undefined }),
  }));
}

/**
 * Writes the keys of a point into a file that must not exist yet, mode 0600: with LIFEBOAT_POINT_KEYS_FILE a host reads this point and nothing
 * else. Errors: `input.invalid`, those of `Repository.grant`.
 */
export async function grantPoint(
  configuration: Configuration,
  input: { readonly machine: string; readonly point: PointId; readonly output: string },
  at: At,
): Promise<{ readonly machineId: MachineId; readonly pointId: PointId; readonly file: string }> {
  const { machine, point: pointId, output } = input;
  const file = await createFile(output);
  try {
    return await withRepository(configuration, async (repository) => {
      const [machineId] = await machinesOf(repository, [machine], at);
      if (!machineId) throw new LifeboatError('internal.bug', 'a machine was asked for and none came');
      await file.writeFile(await repository.grant([{ machineId, pointId }], at));
      await file.sync();
      return { machineId, pointId, file: output };
    });
  } catch (error) {
    await rm(output, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

async function machinesOf(repository: Repository, wanted: readonly string[], at: At): Promise<MachineId[]> {
  const names = Object.entries(await namesOfMachines(repository, at));
  return wanted.map((text) => {
    const called = names.filter(([id, name]) => name === text && id !== text).map(([id]) => id);
    const isId = names.some(([id]) => id === text);
    const [only, ...more] = isId ? [text] : called;
    if (more.length > 0)
      throw new LifeboatError('input.invalid', `several machines are called '${text}': ${called.join(', ')}`);
    return parseMachineId(only ?? text);
  });
}

async function createFile(path: string): ReturnType<typeof open> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (cause) {
    throw new LifeboatError('input.invalid', `the file for the keys cannot be made: ${messageOf(cause)}`, { cause });
  }
}
