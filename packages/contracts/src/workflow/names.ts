/**
 * Who is found where. Task queues and workflow ids are the addresses of the system: everything that sends work or a
 * message derives them here, so that two processes never disagree.
 */

/** Workflows and central activities. */
export const CENTRAL_TASK_QUEUE = 'lifeboat';

/** The verbs of one host; only that host's agent polls it. */
export function agentTaskQueue(hostId: string): string {
  return `agent/${hostId}`;
}

export function machineWorkflowId(machineId: string): string {
  return `machine/${machineId}`;
}

export function hostWorkflowId(hostId: string): string {
  return `host/${hostId}`;
}

export type OperationKind = 'backup' | 'verify' | 'restore' | 'redeploy';

/**
 * An operation's id is fixed by the request: submitted twice, it still runs once, and whoever submitted it knows where to
 * look before it has started.
 */
export function operationWorkflowId(kind: OperationKind, request: { machineId: string; requestId: string }): string {
  return `${kind}/${request.machineId}/${request.requestId}`;
}

/** The schedule that asks every night where the machines of a repository would start. */
export function preflightScheduleId(hostId: string): string {
  return `preflight/${hostId}`;
}

/** Workflow types: the exported function names of the workflows room. */
export const WORKFLOW_TYPES = {
  backup: 'BackupMachine',
  verify: 'VerifyPoint',
  restore: 'RestoreMachine',
  redeploy: 'RedeployMachine',
  machine: 'Machine',
  host: 'Host',
  preflight: 'Preflight',
} as const;
