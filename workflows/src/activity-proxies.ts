import { proxyActivities } from '@temporalio/workflow';
import type { CentralActivities, HostActivities } from '@lifeboat/contracts/workflow/activities';
import { agentTaskQueue, CENTRAL_TASK_QUEUE } from '@lifeboat/contracts/workflow/names';
import { once, patient, quick, unhurried } from './retry-classes.ts';

type LongVerb =
  | 'captureMachine'
  | 'checkPoint'
  | 'checkFilesystems'
  | 'bootTest'
  | 'restoreDisks'
  | 'applyRedeploy'
  | 'preflight'
  | 'compareFiles';
type MiddlingVerb = 'planRedeploy' | 'abandonOperation';
type ShortVerb = 'defineMachine' | 'linkPoints';
type Care = 'reap' | 'listPoints';

/** The verbs of one host, each in its retry class. */
export function hostVerbs(hostId: string): HostActivities {
  const taskQueue = agentTaskQueue(hostId);
  const long = proxyActivities<Pick<HostActivities, LongVerb>>({ taskQueue, ...patient });
  const middling = proxyActivities<Pick<HostActivities, MiddlingVerb>>({ taskQueue, ...unhurried });
  const short = proxyActivities<Pick<HostActivities, ShortVerb>>({ taskQueue, ...quick });
  const care = proxyActivities<Pick<HostActivities, Care>>({ taskQueue, ...once });
  return {
    captureMachine: long.captureMachine,
    checkPoint: long.checkPoint,
    checkFilesystems: long.checkFilesystems,
    bootTest: long.bootTest,
    restoreDisks: long.restoreDisks,
    applyRedeploy: long.applyRedeploy,
    compareFiles: long.compareFiles,
    preflight: long.preflight,
    planRedeploy: middling.planRedeploy,
    defineMachine: short.defineMachine,
    abandonOperation: middling.abandonOperation,
    reap: care.reap,
    listPoints: care.listPoints,
    linkPoints: short.linkPoints,
  };
}

/** Calls to the server itself: the shortest of the quick ones, and too short to heartbeat. */
export const central: CentralActivities = proxyActivities<CentralActivities>({
  taskQueue: CENTRAL_TASK_QUEUE,
  scheduleToStartTimeout: quick.scheduleToStartTimeout,
  startToCloseTimeout: '30 seconds',
  retry: quick.retry,
});
