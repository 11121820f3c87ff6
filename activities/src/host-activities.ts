import { Context } from '@temporalio/activity';
import type { HostActivities } from '@lifeboat/contracts/workflow/activities';
import type { ReapInput, ReapSummary } from '@lifeboat/contracts/workflow/host';
import { MAX_LISTED_POINTS } from '@lifeboat/contracts/workflow/verbs';
import type { BootTestInput, RedeployInput, RestoreInput } from '@lifeboat/contracts/workflow/verbs';
import type { Engine } from '@lifeboat/engine/verbs';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parseOpId, parsePointId } from '@lifeboat/foundation/ids';
import type { PointId } from '@lifeboat/foundation/ids';
import type { Log } from '@lifeboat/foundation/log';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { failureOf } from './failure-mapping.ts';
import { HEARTBEAT_INTERVAL_MS, Heartbeats } from './heartbeats.ts';

/** What a host does for itself, beside the engine's verbs. */
export interface HostCare {
  /**
   * Removes what carries our tag and is not alive: not locked, not among `liveOps`, and not admitted at an epoch above
   * `epoch`. A call with a lower epoch than an earlier one removes nothing. Idempotent.
   */
  reap(input: ReapInput, context: VerbContext): Promise<ReapSummary>;
  /**
   * Until `signal` aborts: ends backup jobs that no attempt reads from just now, before their scratch files fill the
   * filesystem and stop the machines. Never rejects.
   */
  watchJobs(signal: AbortSignal): Promise<void>;
}

export interface HostActivityDependencies {
  readonly engine: Engine;
  readonly hostCare: HostCare;
  readonly log: Log;
  readonly heartbeatIntervalMs?: number;
}

/**
 * The verbs of a host as activities: one verb each, plus heartbeat, cancellation and error mapping. Ids are parsed here:
 * they become file names, and the engine takes only parsed ones.
 */
export function createHostActivities(dependencies: HostActivityDependencies): HostActivities {
  const { engine, hostCare } = dependencies;
  const activity = <I extends object, S>(
    verb: string,
    run: (input: I, context: VerbContext) => Promise<S>,
  ): ((input: I) => Promise<S>) => {
    return (input) => attempt(dependencies, verb, input, run);
  };

  return {
    captureMachine: activity('captureMachine', (input, context) =>
      engine.captureMachine({ ...input, opId: parseOpId(input.opId) }, context),
    ),
    checkPoint: activity('checkPoint', (input, context) =>
      engine.checkPoint({ ...input, pointId: optionalPoint(input.pointId) }, context),
    ),
    checkFilesystems: activity('checkFilesystems', (input, context) =>
      engine.checkFilesystems({ ...input, opId: parseOpId(input.opId), pointId: parsePointId(input.pointId) }, context),
    ),
    bootTest: activity('bootTest', (input, context) =>
      engine.bootTest({ ...input, opId: parseOpId(input.opId), source: parseSource(input.source) }, context),
    ),
    restoreDisks: activity('restoreDisks', (input: RestoreInput, context) =>
      engine.restoreDisks({ ...input, opId: parseOpId(input.opId), pointId: optionalPoint(input.pointId) }, context),
    ),
    planRedeploy: activity('planRedeploy', (input, context) => engine.planRedeploy(parseRedeploy(input), context)),
    applyRedeploy: activity('applyRedeploy', (input, context) => engine.applyRedeploy(parseRedeploy(input), context)),
    preflight: activity('preflight', (input, context) =>
      engine.preflight({ ...input, opId: parseOpId(input.opId) }, context),
    ),
    defineMachine: activity('defineMachine', (input, context) =>
      engine.defineMachine({ ...input, opId: parseOpId(input.opId), pointId: parsePointId(input.pointId) }, context),
    ),
    compareFiles: activity('compareFiles', (input, context) =>
      engine.compareFiles({ ...input, opId: parseOpId(input.opId), pointId: parsePointId(input.pointId) }, context),
    ),
    abandonOperation: activity('abandonOperation', (input, context) =>
      engine.abandonOperation({ ...input, opId: parseOpId(input.opId) }, context),
    ),
    listPoints: activity('listPoints', async ({ machine, limit }) => {
      const points = await engine.listPoints(machine);
      return points
        .toSorted((a, b) => b.instantMs - a.instantMs)
        .slice(0, Math.max(0, Math.min(limit, MAX_LISTED_POINTS)));
    }),
    linkPoints: activity('linkPoints', ({ machineId }, context) =>
      engine.linkPoints({ machineId: parseMachineId(machineId) }, context),
    ),
    reap: activity('reap', (input, context) => hostCare.reap(input, context)),
  };
}

async function attempt<I extends object, S>(
  { log, heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS }: HostActivityDependencies,
  verb: string,
  input: I,
  run: (input: I, context: VerbContext) => Promise<S>,
): Promise<S> {
  const context = Context.current();
  const signal = signalOf(context);
  const opId = 'opId' in input && typeof input.opId === 'string' ? input.opId : undefined;
  const fields = { verb, opId, attempt: context.info.attempt, workflowId: context.info.workflowExecution?.workflowId };
  const heartbeats = new Heartbeats({
    verb,
    ...(opId ? { opId } : {}),
    send: (heartbeat) => context.heartbeat(heartbeat),
    intervalMs: heartbeatIntervalMs,
  });
  log.info('activity started', fields);
  try {
    const summary = await run(input, { signal, progress: heartbeats.progress });
    log.info('activity done', fields);
    return summary;
  } catch (error) {
    const failure = failureOf(error, signal);
    log.warn('activity ended without a result', { ...fields, type: failure.name, error: failure.message });
    throw failure;
  } finally {
    heartbeats.stop();
  }
}

/**
 * The cancellation of this attempt. One that the server has given up (it was not heard of for the heartbeat timeout) is not
 * cancelled work: another attempt goes on with what this one holds, so it is to let go of that, not to undo it.
 */
function signalOf(context: Context): AbortSignal {
  const abort = new AbortController();
  const { cancellationSignal } = context;
  const pass = (): void => {
    const { notFound = false, timedOut = false } = context.cancellationDetails ?? {};
    abort.abort(
      notFound || timedOut
        ? new LifeboatError('host.operation-superseded', `attempt ${context.info.attempt} was given up by the server`)
        : cancellationSignal.reason,
    );
  };
  if (cancellationSignal.aborted) pass();
  else cancellationSignal.addEventListener('abort', pass, { once: true });
  return abort.signal;
}

function optionalPoint(pointId: string | undefined): PointId | undefined {
  return pointId === undefined ? undefined : parsePointId(pointId);
}

function parseSource(source: BootTestInput['source']): Parameters<Engine['bootTest']>[0]['source'] {
  const pointId = parsePointId(source.pointId);
  return source.kind === 'point' ? { kind: 'point', pointId } : { ...source, pointId };
}

function parseRedeploy(input: RedeployInput): Parameters<Engine['planRedeploy']>[0] {
  return { ...input, opId: parseOpId(input.opId), pointId: parsePointId(input.pointId) };
}
