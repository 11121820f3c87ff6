/**
 * Where figures are taken: a directory of its own with its own host identity, repository and machines, all removed at the
 * end, also after Ctrl-C. What a run that was killed left is removed by the next one.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { hasCode } from '@lifeboat/foundation/errors';
import { type MachineId, type OpId, parseOpId } from '@lifeboat/foundation/ids';
import { jsonLog } from '@lifeboat/foundation/log';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { systemRandom } from '@lifeboat/foundation/random';
import { GiB } from '@lifeboat/foundation/units';
import { ensureFree } from '@lifeboat/host/disk-space';
import type { Hypervisor } from '@lifeboat/hypervisor/port';
import { type Configuration, loadConfiguration } from '@lifeboat/runtime/configuration';
import { guestImage } from '@lifeboat/runtime/guest-image';
import { type HostRuntime, openHostRuntime } from '@lifeboat/runtime/host-runtime';
import { createRunDirectory, type RunDirectory, takeAbandonedRuns } from '@lifeboat/runtime/run-directory';

/** The image, a flat copy of its data, a repository or two, a restored disk and a copy of it: 1 GiB each, and a reserve. */
const NEEDED_BYTES = 10 * GiB;
const MACHINE_PREFIX = 'lb-bench-';
/** Newer than any operation of ours: none is in flight when the lab closes. */
const LAST_EPOCH = Number.MAX_SAFE_INTEGER;

export class BenchLab {
  readonly host: HostRuntime;
  readonly imagePath: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  readonly #run: RunDirectory;
  readonly #configuration: Configuration;
  #operations = 0;

  private constructor(parts: {
    host: HostRuntime;
    imagePath: string;
    run: RunDirectory;
    configuration: Configuration;
    signal: AbortSignal;
    say: (text: string) => void;
  }) {
    this.host = parts.host;
    this.imagePath = parts.imagePath;
    this.signal = parts.signal;
    this.say = parts.say;
    this.#run = parts.run;
    this.#configuration = parts.configuration;
  }

  /** Errors: `disk.full`, `demo.guest-not-built`, the hypervisor's. */
  static async open(options: { signal: AbortSignal; say: (text: string) => void }): Promise<BenchLab> {
    const { signal, say } = options;
    const user = loadConfiguration();
    const parent = join(user.stateRoot, 'bench');
    for (const abandoned of await takeAbandonedRuns(parent, { includeKept: true })) {
      say(`removing what the killed run ${abandoned.name} left`);
      await removeRun(await openRuntime(configurationIn(user, abandoned.path, 'repository')), abandoned);
    }
    await ensureFree(parent, NEEDED_BYTES, 'a benchmark');
    const run = await createRunDirectory(parent, { nowMs: systemClock.nowMs(), random: systemRandom });
    let host: HostRuntime | undefined;
    try {
      const configuration = configurationIn(user, run.path, 'repository');
      const imagePath = await guestImage({
        cacheRoot: user.cacheRoot,
        logDirectory: run.path,
        signal,
        onStep: (step) => say(`building the guest: ${step}`),
      });
      host = await openRuntime(configuration);
      // Finds out about KVM, which takes ten seconds where KVM hangs, and remembers it.
      await host.hypervisor.describeHost();
      return new BenchLab({ host, imagePath, run, configuration, signal, say });
    } catch (error) {
      await host?.close();
      await run.remove();
      throw error;
    }
  }

  get context(): VerbContext {
    return { signal: this.signal, progress: () => {} };
  }

  get hypervisor(): Hypervisor {
    return this.host.hypervisor;
  }

  get libvirtUri(): string {
    return this.#configuration.libvirt.uri;
  }

  /** A directory of the run that QEMU's account may pass through. */
  async directory(name: string): Promise<string> {
    const path = join(this.#run.path, name);
    await mkdir(path, { recursive: true, mode: 0o711 });
    return path;
  }

  machineName(label: string): string {
    return `${MACHINE_PREFIX}${this.#run.name}-${label}`;
  }

  /** Domains and networks are named by it, so two runs at once must not share one; short, since socket paths hold it. */
  opId(label: string): OpId {
    this.#operations += 1;
    return parseOpId(`bench-${this.#run.name.slice(-4)}-${this.#operations}-${label}`);
  }

  /** The lab's configuration with another repository, which does not exist yet. */
  withRepository(name: string): Configuration {
    return configurationIn(this.#configuration, this.#run.path, name);
  }

  /** Machines first, then what operations left, then the files. */
  async close(): Promise<void> {
    await removeRun(this.host, this.#run);
  }
}

export async function removeMachine(hypervisor: Hypervisor, id: MachineId): Promise<void> {
  await hypervisor.destroy(id);
  await hypervisor.undefineMachine(id);
}

function configurationIn(user: Configuration, directory: string, repository: string): Configuration {
  return {
    ...user,
    stateRoot: directory,
    repository: {
      place: { kind: 'directory', path: join(directory, repository) },
      secret: { kind: 'key-file', path: join(directory, `${repository}-key`, 'repository.key') },
    },
    temporal: { namespace: 'default' },
  };
}

function openRuntime(configuration: Configuration): Promise<HostRuntime> {
  const log = jsonLog((line) => process.stderr.write(line), 'warn');
  return openHostRuntime(configuration, { log, makeRepository: true });
}

async function removeRun(host: HostRuntime, run: RunDirectory): Promise<void> {
  try {
    for (const { id, name } of await host.hypervisor.listMachines()) {
      if (!name.startsWith(`${MACHINE_PREFIX}${run.name}-`)) continue;
      try {
        await removeMachine(host.hypervisor, id);
      } catch (error) {
        // Gone between the list and now.
        if (!hasCode(error, 'hypervisor.no-such-machine')) throw error;
      }
    }
    await host.hostCare.reap(
      { liveOps: [], epoch: LAST_EPOCH },
      { signal: new AbortController().signal, progress: () => {} },
    );
  } finally {
    await host.close();
  }
  await run.remove();
}
