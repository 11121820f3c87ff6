import { openHostRuntime, type HostRuntime } from '@lifeboat/runtime/host-runtime';
import { silentLog } from '@lifeboat/foundation/log';
import type { CommandContext } from '../context.ts';

/**
 * This host in this process: the repository and the hypervisor, without Temporal. `makeRepository`: for what ends in a first
 * backup; whoever only reads must hear that there is no repository.
 */
export async function withHostRuntime<T>(
  context: Pick<CommandContext, 'configuration'>,
  body: (host: HostRuntime) => Promise<T>,
  options: { readonly makeRepository?: boolean } = {},
): Promise<T> {
  const host = await openHostRuntime(context.configuration, { log: silentLog, ...options });
  try {
    return await body(host);
  } finally {
    await host.close();
  }
}
