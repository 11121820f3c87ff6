/**
 * The agent of a kill test as a process: the product's own, on the product's own wiring, but
 *   - its heartbeats carry no details at all, so that nothing can depend on them,
 *   - an operation can be held at a byte the test names (holds.ts),
 *   - it takes more at once than two cores would, so that one kill can hit several operations.
 *
 * LIFEBOAT_TEST_AGENT_ADDRESS: the way to Temporal, where it leads through a proxy of the test.
 */
import { Context } from '@temporalio/activity';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { runAgent } from '@lifeboat/agent/agent-process';
import type { Engine, OperationInput, Verb } from '@lifeboat/engine/verbs';
import { jsonLog } from '@lifeboat/foundation/log';
import type { ProgressSink } from '@lifeboat/foundation/progress';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { openHostRuntime } from '@lifeboat/runtime/host-runtime';
import { type Hold, holdFor, stopOtherEnd } from './holds.ts';

const SLOTS = 4;

const log = jsonLog((line) => process.stderr.write(line));
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort(new Error('the agent was stopped')));
Runtime.install({
  logger: new DefaultLogger('WARN', ({ level, message }) => log.warn(message, { sdkLevel: level })),
  shutdownSignals: [],
});
const configuration = loadConfiguration();
const address = process.env['LIFEBOAT_TEST_AGENT_ADDRESS'] ?? configuration.temporal.address ?? '';
const host = await openHostRuntime(configuration);
try {
  await runAgent({
    ...host,
    engine: observed(host.engine),
    capacity: { ...host.capacity, slots: SLOTS, domains: SLOTS },
    address,
    namespace: configuration.temporal.namespace,
    signal: stop.signal,
    identity: `agent ${process.pid}`,
  });
} finally {
  await host.close();
}

function observed(engine: Engine): Engine {
  return {
    ...engine,
    captureMachine: observedVerb('captureMachine', engine.captureMachine),
    restoreDisks: observedVerb('restoreDisks', engine.restoreDisks),
    bootTest: observedVerb('bootTest', engine.bootTest),
  };
}

function observedVerb<I extends OperationInput & { readonly machine: string }, S>(
  verb: Hold['verb'],
  run: Verb<I, S>,
): Verb<I, S> {
  return async (input, context) => {
    eraseHeartbeatDetails();
    const { opId, machine } = input;
    context.signal.addEventListener('abort', () => log.info('verb told to stop', { verb, opId }), { once: true });
    let hold = holdFor(configuration.stateRoot, verb, machine);
    let works = false;
    const progress: ProgressSink = (report) => {
      context.progress(report);
      if (!works) log.info('verb works', { verb, opId });
      works = true;
      if (!hold || report.phase !== hold.phase || report.doneBytes < hold.atBytes) return;
      stopOtherEnd(configuration.stateRoot, hold, { opId, doneBytes: report.doneBytes });
      hold = undefined;
    };
    return await run(input, { ...context, progress });
  };
}

/** The server then has nothing it could hand to the next attempt. */
function eraseHeartbeatDetails(): void {
  const context = Context.current();
  const beat = context.heartbeat;
  Object.assign(context, { heartbeat: () => beat() });
}
