/** The way to Temporal, and what is asked of it to know whether a stack is ready for work. */
import { Client, Connection } from '@temporalio/client';
import { agentTaskQueue, CENTRAL_TASK_QUEUE } from '@lifeboat/contracts/workflow/names';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';

const CONNECT_LIMIT_MS = 10_000;
const PROBE_LIMIT_MS = 2_000;

export interface TemporalAddress {
  readonly address: string;
  readonly namespace: string;
}

/** Errors: `temporal.unreachable`. */
export async function connectTemporal({ address, namespace }: TemporalAddress): Promise<Client> {
  try {
    const connection = await Connection.connect({ address, connectTimeout: CONNECT_LIMIT_MS });
    return new Client({ connection, namespace });
  } catch (cause) {
    throw new LifeboatError('temporal.unreachable', `Temporal at ${address} does not answer: ${messageOf(cause)}`, {
      cause,
      context: { address, namespace },
    });
  }
}

/** Whether somebody polls the workflows' queue and the host's: only then does work that is submitted begin. */
export async function isPolled(client: Client, hostId: string): Promise<boolean> {
  const counts = await Promise.all([
    pollers(client, CENTRAL_TASK_QUEUE, 'workflow'),
    pollers(client, CENTRAL_TASK_QUEUE, 'activity'),
    pollers(client, agentTaskQueue(hostId), 'activity'),
  ]);
  return counts.every((count) => count > 0);
}

async function pollers(client: Client, queue: string, tasks: 'workflow' | 'activity'): Promise<number> {
  const reply = await client.connection.withDeadline(Date.now() + PROBE_LIMIT_MS, () =>
    client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: queue },
      // temporal.api.enums.v1.TaskQueueType, which the client exports as a type only.
      // oxlint-disable-next-line typescript/no-unsafe-enum-assignment
      taskQueueType: tasks === 'workflow' ? 1 : 2,
    }),
  );
  return reply.pollers?.length ?? 0;
}
