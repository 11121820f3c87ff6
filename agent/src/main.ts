/** The agent of this host as a process: `node agent/src/main.ts`. SIGTERM and SIGINT cancel the verbs at hand. */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { jsonLog } from '@lifeboat/foundation/log';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { openHostRuntime } from '@lifeboat/runtime/host-runtime';
import { runAgent } from './agent-process.ts';

const log = jsonLog((line) => process.stderr.write(line));
const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => stop.abort(new LifeboatError('operation.cancelled', `the agent was stopped by ${name}`)));
}

try {
  // Signals are ours; the SDK's own warnings go into our log.
  Runtime.install({
    logger: new DefaultLogger('WARN', ({ level, message }) => log.warn(message, { sdkLevel: level })),
    shutdownSignals: [],
  });
  const configuration = loadConfiguration();
  const { address, namespace } = configuration.temporal;
  if (!address) {
    throw new LifeboatError(
      'temporal.unreachable',
      'the agent was given no server: LIFEBOAT_TEMPORAL_ADDRESS is not set',
    );
  }
  const host = await openHostRuntime(configuration, { log, makeRepository: true });
  try {
    await runAgent({ ...host, address, namespace, signal: stop.signal });
  } finally {
    await host.close();
  }
} catch (error) {
  if (error !== stop.signal.reason) {
    log.error(error instanceof Error ? error.message : String(error), {
      code: error instanceof LifeboatError ? error.code : undefined,
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exitCode = 1;
  }
}
