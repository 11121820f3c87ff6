/** The central worker as a process: `node worker/src/main.ts`. SIGTERM and SIGINT let what is at hand end. */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { jsonLog } from '@lifeboat/foundation/log';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { runWorker } from './worker-process.ts';
import { workflowBundle } from './workflow-bundle.ts';

const log = jsonLog((line) => process.stderr.write(line));
const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => stop.abort(new LifeboatError('operation.cancelled', `the worker was stopped by ${name}`)));
}

try {
  // Signals are ours; the SDK's own warnings go into our log.
  Runtime.install({
    logger: new DefaultLogger('WARN', ({ level, message }) => log.warn(message, { sdkLevel: level })),
    shutdownSignals: [],
  });
  const { temporal, cacheRoot } = loadConfiguration();
  if (!temporal.address) {
    throw new LifeboatError(
      'temporal.unreachable',
      'the worker was given no server: LIFEBOAT_TEMPORAL_ADDRESS is not set',
    );
  }
  const bundle = await workflowBundle({ cacheDirectory: cacheRoot });
  await runWorker({
    address: temporal.address,
    namespace: temporal.namespace,
    bundle,
    log,
    signal: stop.signal,
  });
} catch (error) {
  if (error !== stop.signal.reason) {
    log.error(error instanceof Error ? error.message : String(error), {
      code: error instanceof LifeboatError ? error.code : undefined,
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exitCode = 1;
  }
}
