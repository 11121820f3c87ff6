/** Wires a host: configuration -> repository, hypervisor, engine. The only place that knows which implementation is used. */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { type HostId, parseOpId } from '@lifeboat/foundation/ids';
import { jsonLog, type Log } from '@lifeboat/foundation/log';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { systemRandom } from '@lifeboat/foundation/random';
import { reapEvidence } from '@lifeboat/engine/boot-test/evidence';
import { watchForsakenJobs } from '@lifeboat/engine/capture/forsaken-jobs';
import { reapableJobs } from '@lifeboat/engine/capture/reapable-jobs';
import type { EngineDeps } from '@lifeboat/engine/deps';
import { createEngine } from '@lifeboat/engine/engine';
import { takeBack } from '@lifeboat/engine/take-back';
import type { Engine } from '@lifeboat/engine/verbs';
import { freeBytes } from '@lifeboat/host/disk-space';
import type { Reapable } from '@lifeboat/host/reapable';
import { reap } from '@lifeboat/host/reaper';
import { openStateRoot } from '@lifeboat/host/state';
import { openLibvirtHypervisor } from '@lifeboat/hypervisor/libvirt/libvirt-hypervisor';
import type { Hypervisor, TaggedItem } from '@lifeboat/hypervisor/port';
import type { Configuration } from './configuration.ts';
import { processPointExporter } from './point-export.ts';
import { openConfiguredRepository, openOrMakeRepository } from './repository.ts';

/** A guest that starts waits for its disks and timers half of the time; memory is counted when it starts. */
const OPERATIONS_PER_CORE = 2;

export interface HostRuntime {
  readonly hostId: HostId;
  readonly engine: Engine;
  readonly hypervisor: Hypervisor;
  readonly hostCare: HostCare;
  /** What this host offers to the workflows. */
  readonly capacity: { readonly slots: number; readonly domains: number; readonly scratchBytes: number };
  readonly log: Log;
  close(): Promise<void>;
}

export interface HostCare {
  reap(
    input: { readonly liveOps: readonly string[]; readonly epoch: number },
    context: VerbContext,
  ): Promise<{ readonly removedOps: string[] }>;
  watchJobs(signal: AbortSignal): Promise<void>;
}

export interface HostRuntimeOptions {
  readonly log?: Log;
  /** Make the repository where its directory is missing or empty. Default: it must be there. */
  readonly makeRepository?: boolean;
}

/** Errors: those of the state root and of the repository. The hypervisor is connected by the first call that needs it. */
export async function openHostRuntime(
  configuration: Configuration,
  options: HostRuntimeOptions = {},
): Promise<HostRuntime> {
  const log = options.log ?? jsonLog((line) => process.stderr.write(line));
  const state = await openStateRoot(configuration.stateRoot, systemRandom);
  const open = options.makeRepository ? openOrMakeRepository : openConfiguredRepository;
  const repository = await open(configuration, { log });
  const hypervisor = openLibvirtHypervisor({
    uri: configuration.libvirt.uri,
    socketPath: configuration.libvirt.socketPath,
    log,
    clock: systemClock,
    // Not in the cache: the probe's guest must reach its disk beside it, and a home directory is closed to QEMU's account.
    kvmProbeCacheFile: join(state.path, 'kvm-probe.json'),
  });
  const deps: EngineDeps = {
    hypervisor,
    repository,
    exporter: processPointExporter(configuration),
    stateRoot: state.path,
    hostId: state.hostId,
    clock: systemClock,
    random: systemRandom,
    log,
  };
  const atOnce = OPERATIONS_PER_CORE * cpus().length;
  return {
    hostId: state.hostId,
    engine: createEngine(deps),
    hypervisor,
    hostCare: {
      async reap({ liveOps, epoch }, { signal }) {
        const entries = await reap({
          stateRoot: state.path,
          hostId: state.hostId,
          reapables: [reapableMachines(hypervisor), reapableJobs(deps)],
          liveOps: new Set(liveOps.map(parseOpId)),
          epoch,
          now: systemClock.nowMs(),
          undo: (operation) => takeBack(operation, signal),
        });
        for (const { kind, name, outcome, reason } of entries) {
          if (outcome !== 'kept') log.info(`reaper: ${kind} ${name} ${outcome}`, { reason });
        }
        await reapEvidence(deps, new Set(liveOps));
        const removed = entries.filter(({ kind, outcome }) => kind === 'operation' && outcome === 'removed');
        return { removedOps: removed.map(({ name }) => name) };
      },
      watchJobs: (signal) => watchForsakenJobs(deps, signal),
    },
    capacity: { slots: atOnce, domains: atOnce, scratchBytes: await freeBytes(state.path) },
    log,
    async close() {
      await hypervisor.close();
      await repository.close();
    },
  };
}

function reapableMachines(hypervisor: Hypervisor): Reapable {
  return {
    list: () => hypervisor.listTagged(),
    remove: ({ kind, name, opId, hostId }) =>
      hypervisor.removeTagged({ kind: kind as TaggedItem['kind'], name, opId, hostId }),
  };
}
