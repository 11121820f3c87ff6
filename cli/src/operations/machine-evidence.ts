/** What the entities of machines know, for who decides what may go. Asks a Temporal that is there; starts none. */
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { MACHINE, type MachineStatus } from '@lifeboat/contracts/workflow/machine';
import { machineWorkflowId } from '@lifeboat/contracts/workflow/names';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Configuration } from '@lifeboat/runtime/configuration';
import type { MachineEvidence } from '@lifeboat/runtime/prune-knowledge';
import { temporalInUse } from '@lifeboat/runtime/stack';
import { connectTemporal } from './temporal-connection.ts';

const QUERY_LIMIT_MS = 10_000;

/**
 * By machine id; undefined where there is no Temporal to ask. One that is there and does not answer is an error: what it knows may be
 * what keeps a point. Errors: `temporal.unreachable`.
 */
export async function machineEvidence(
  configuration: Configuration,
  machineIds: readonly string[],
): Promise<ReadonlyMap<string, MachineEvidence> | undefined> {
  const place = await temporalInUse(configuration);
  if (!place) return undefined;
  const client = await connectTemporal(place);
  try {
    const evidence = new Map<string, MachineEvidence>();
    for (const machineId of machineIds) {
      const status = await statusOf(client, machineId);
      if (!status) continue;
      evidence.set(machineId, {
        booted: status.points
          .filter(({ proof, damaged }) => proof.includes('booted') && !damaged)
          .map(({ pointId }) => pointId),
        ...(status.running ? { running: `${status.running.kind} ${status.running.requestId}` } : {}),
      });
    }
    return evidence;
  } finally {
    await client.connection.close();
  }
}

/** Undefined: nothing was ever done to the machine through this Temporal. */
async function statusOf(client: Client, machineId: string): Promise<MachineStatus | undefined> {
  const entity = client.workflow.getHandle(machineWorkflowId(machineId));
  try {
    return await client.connection.withDeadline(Date.now() + QUERY_LIMIT_MS, () =>
      entity.query<MachineStatus>(MACHINE.status),
    );
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw new LifeboatError(
      'temporal.unreachable',
      `the entity of machine ${machineId} did not say which points were started: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
