/** Takes away what a run of the demo made outside its directory: its two machines, and whatever its operations left. */
import { hasCode } from '@lifeboat/foundation/errors';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import { guestName } from './guest.ts';
import { newMachineName } from './flow.ts';

/** Newer than any operation of the run: none of them is in flight any more. */
const LAST_EPOCH = Number.MAX_SAFE_INTEGER;

/**
 * Removes the machines of a run and reaps its operations; the stack of the run must have ended. Idempotent. Returns what
 * was removed. Errors: the hypervisor's.
 */
export async function removeMachines(host: HostRuntime, runName: string): Promise<string[]> {
  const { hypervisor, hostCare } = host;
  const removed: string[] = [];
  for (const name of [guestName(runName), newMachineName(runName)]) {
    try {
      const { id } = await hypervisor.findMachine(name);
      await hypervisor.destroy(id);
      await hypervisor.undefineMachine(id);
      removed.push(name);
    } catch (error) {
      // It was never defined, or is gone already.
      if (!hasCode(error, 'hypervisor.no-such-machine')) throw error;
    }
  }
  const { removedOps } = await hostCare.reap(
    { liveOps: [], epoch: LAST_EPOCH },
    { signal: new AbortController().signal, progress: () => {} },
  );
  return [...removed, ...removedOps];
}

/** Domains and networks on this hypervisor that still carry the run's mark. */
export async function leftBehind(host: HostRuntime, runName: string): Promise<string[]> {
  const { hypervisor, hostId } = host;
  const names = new Set([guestName(runName), newMachineName(runName)]);
  const tagged = await hypervisor.listTagged();
  const machines = await hypervisor.listMachines();
  return [
    ...tagged.filter((item) => item.hostId === hostId).map(({ kind, name }) => `${kind} ${name}`),
    ...machines.filter(({ name }) => names.has(name)).map(({ name }) => `domain ${name}`),
  ];
}
