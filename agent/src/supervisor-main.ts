/**
 * The supervisor of this host as a process: `node agent/src/supervisor-main.ts`. Not part of the agent, because guests run
 * from what it serves and agents come and go. SIGTERM and SIGINT end it, and leave running what it runs.
 */
import process from 'node:process';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { jsonLog } from '@lifeboat/foundation/log';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { superviseExports } from '@lifeboat/runtime/export-supervisor';

const USAGE = `Usage: lifeboat-supervisor

Runs the exports that are declared in the live state of this host, which guests run from. One per host. Ending it ends none
of them, and the next one takes them over: under systemd it needs KillMode=process.

Environment:
  LIFEBOAT_STATE   the live state (default: /var/lib/lifeboat)
  LIFEBOAT_CONFIG  configuration file that may name it instead
`;

const args = process.argv.slice(2);
if (args.length > 0) {
  const asked = args[0] === '--help';
  (asked ? process.stdout : process.stderr).write(USAGE);
  process.exitCode = asked ? 0 : 2;
} else {
  const log = jsonLog((line) => process.stderr.write(line));
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => stop.abort());
  try {
    await superviseExports(loadConfiguration(), { log, signal: stop.signal });
  } catch (error) {
    log.error(messageOf(error), {
      code: error instanceof LifeboatError ? error.code : undefined,
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exitCode = 1;
  }
}
