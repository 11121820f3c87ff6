/** Wires the supervisor of exports: configuration to the state root it looks after. */
import { systemClock } from '@lifeboat/foundation/clock';
import type { Log } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { openStateRoot } from '@lifeboat/host/state';
import { runSupervisor } from '@lifeboat/host/supervisor';
import type { Configuration } from './configuration.ts';

/**
 * Runs what is declared in the state root until `signal`, which ends the supervisor alone: exports go on. Needs no
 * repository and no hypervisor. Errors: `host.state-unusable`, `host.supervisor-running`.
 */
export async function superviseExports(
  configuration: Pick<Configuration, 'stateRoot'>,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<void> {
  const { path } = await openStateRoot(configuration.stateRoot, systemRandom);
  log.info('supervisor starts', { stateRoot: path });
  await runSupervisor({ stateRoot: path, log, clock: systemClock, signal });
  log.info('supervisor stopped', { stateRoot: path });
}
