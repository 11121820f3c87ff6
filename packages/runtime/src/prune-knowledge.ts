/**
 * What keeps a point beside its policy: operations that run on this host, what the machine's entity knows (which points were started
 * lately; what runs now), what the repository has evidence of, and records that only a newer release understands.
 */
import { readdir } from 'node:fs/promises';
import { hasCode, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { parseOpId, type MachineId } from '@lifeboat/foundation/ids';
import { captureRecordOf } from '@lifeboat/engine/points';
import { takeLock } from '@lifeboat/host/file-lock';
import { lockPath, operationDirectory, opsDirectory, readIntent } from '@lifeboat/host/operation-directory';
import { proofsOf } from '@lifeboat/repository/evidence/proof';
import type { ProofLevel } from '@lifeboat/repository/format/evidence';
import type { PointSummary } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import type { Protection } from '@lifeboat/repository/retention/decision';
import type { PruneKnowledge } from '@lifeboat/repository/retention/prune-plan';

/** What failed here is lost, whatever started before. */
const OF_THE_DATA: ReadonlySet<ProofLevel> = new Set(['stored', 'ciphertext', 'content']);

/** What the entity of a machine says. */
export interface MachineEvidence {
  /** Points that were started and came up. */
  readonly booted: readonly string[];
  /** The operation that runs on the machine, if one does. */
  readonly running?: string;
}

/**
 * Points that started when they were last tried, and of which no check has found damage since. Evidence that cannot be read is none: then
 * another point counts as the newest that was started, or none does. Errors: those of the store.
 */
export async function startedPoints(
  repository: Repository,
  machineIds: readonly MachineId[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<Map<string, Set<string>>> {
  const started = new Map<string, Set<string>>();
  for (const machineId of machineIds) {
    const { records } = await repository.evidence(machineId, options);
    const points = [...proofsOf(records)].filter(
      ([, { proven, failed }]) => proven.includes('booted') && !failed.some(({ level }) => OF_THE_DATA.has(level)),
    );
    started.set(machineId, new Set(points.map(([pointId]) => pointId)));
  }
  return started;
}

interface OperationInWork {
  readonly name: string;
  /** Name or id; undefined where nobody can tell: then it may be any. */
  readonly machine: string | undefined;
}

/**
 * `evidence` by machine id, of what runs and was started lately; `started` by machine id, of what the repository has evidence that it
 * started. Errors: those of reading the state directory.
 */
export async function pruneKnowledge(
  stateRoot: string,
  evidence: ReadonlyMap<string, MachineEvidence>,
  started: ReadonlyMap<string, ReadonlySet<string>> = new Map(),
): Promise<Required<PruneKnowledge>> {
  const inWork = await operationsInWork(stateRoot);
  return {
    booted: ({ machineId, pointId }) =>
      machineId !== undefined &&
      pointId !== undefined &&
      ((evidence.get(machineId)?.booted.includes(pointId) ?? false) || (started.get(machineId)?.has(pointId) ?? false)),
    protect: (point) => {
      const record = recordOf(point);
      const running = point.machineId === undefined ? undefined : evidence.get(point.machineId)?.running;
      const by = [
        ...inWork
          .filter(
            ({ machine }) => machine === undefined || machine === point.machineId || machine === record.machineName,
          )
          .map(({ name }) => name),
        ...(running === undefined ? [] : [running]),
      ];
      return [...record.protections, ...by.map((name) => ({ kind: 'in-use' as const, by: name }))];
    },
  };
}

/** A point that this release cannot read to its end is not this release's to let go of. */
function recordOf(point: PointSummary): { readonly machineName?: string; readonly protections: readonly Protection[] } {
  if (point.state === 'damaged') return { protections: [] };
  try {
    return { machineName: captureRecordOf(point).machineName, protections: [] };
  } catch (error) {
    if (hasCode(error, 'engine.newer-point')) return { protections: [{ kind: 'newer-release' }] };
    if (hasCode(error, 'repository.point-damaged')) return { protections: [{ kind: 'damaged' }] };
    throw error;
  }
}

/** Operations whose lock is held, which is what "alive" means. */
async function operationsInWork(stateRoot: string): Promise<OperationInWork[]> {
  const found: OperationInWork[] = [];
  for (const name of await namesIn(opsDirectory(stateRoot))) {
    try {
      const opId = parseOpId(name);
      const directory = operationDirectory(stateRoot, opId);
      const lock = await takeLock(lockPath(directory), { waitMs: 0 });
      if (lock) {
        await lock.release();
        continue;
      }
      const intent = (await readIntent(directory, opId))?.intent as { verb?: unknown; machine?: unknown } | undefined;
      const verb = typeof intent?.verb === 'string' ? intent.verb : 'operation';
      const machine = typeof intent?.machine === 'string' ? intent.machine : undefined;
      found.push({ name: `${verb} ${name}`, machine });
    } catch (error) {
      // It ended while we looked, or is no operation of ours.
      if (systemCode(error) === 'ENOENT' || hasCode(error, 'input.invalid')) continue;
      if (!hasCode(error, 'host.record-damaged')) throw error;
      found.push({ name: `operation ${name} (${messageOf(error)})`, machine: undefined });
    }
  }
  return found;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return [];
  }
}
