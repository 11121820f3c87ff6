import { Client } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { createCentralActivities } from '@lifeboat/activities/central-activities';
import { CENTRAL_TASK_QUEUE } from '@lifeboat/contracts/workflow/names';
import { systemClock } from '@lifeboat/foundation/clock';
import type { Log } from '@lifeboat/foundation/log';
import { reachTemporal } from '@lifeboat/runtime/temporal-reach';
import { workflowDirectory } from './workflow-directory.ts';

const REACH_LIMIT_MS = 30_000;
/** From the abort to the cancellation of central activities, which are short; then to giving them up. */
const GRACE_MS = 2_000;
const FORCE_MS = 20_000;

export interface WorkerOptions {
  /** `host:port` of the Temporal server. */
  readonly address: string;
  readonly namespace: string;
  readonly bundle: { readonly code: string };
  readonly log: Log;
  readonly signal: AbortSignal;
  /** How the server names this process. Default: pid and host name. */
  readonly identity?: string;
}

/**
 * The central worker: workflows, and the activities that talk to the server itself. Runs until `signal` aborts, then lets
 * what is at hand end and returns. A server that goes away is waited for; killed at any point, another worker goes on.
 * Errors: `temporal.unreachable` at the start.
 */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const { address, namespace, bundle, log, signal, identity } = options;
  const identified = identity ? { identity } : {};
  const connection = await reachTemporal(() => NativeConnection.connect({ address }), {
    address,
    limitMs: REACH_LIMIT_MS,
    clock: systemClock,
    signal,
  });
  try {
    const workflows = workflowDirectory(new Client({ connection, namespace, ...identified }));
    const worker = await Worker.create({
      connection,
      namespace,
      taskQueue: CENTRAL_TASK_QUEUE,
      workflowBundle: bundle,
      activities: createCentralActivities({ workflows }),
      shutdownGraceTime: GRACE_MS,
      shutdownForceTime: FORCE_MS,
      ...identified,
    });
    log.info('worker runs', { address, namespace, taskQueue: CENTRAL_TASK_QUEUE });
    await worker.runUntil(aborted(signal));
    log.info('worker stopped', { address });
  } finally {
    await connection.close();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
