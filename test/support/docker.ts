/**
 * A Docker daemon of a test's own, which leaves nothing on the machine:
 *
 *   - it runs in mount and process namespaces of its own, so that its mounts, containerd and every container end with it;
 *   - it makes no bridge and no firewall rule, so containers have the host's network;
 *   - what it would write below /etc and /run is in memory; the rest is in the test's directory;
 *   - the control groups of its containers have a parent with a name of ours, which is removed.
 */
import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm, rmdir } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { getContainerRuntimeClient } from 'testcontainers';
import { systemClock } from '@lifeboat/foundation/clock';
import { systemCode } from '@lifeboat/foundation/errors';
import { runTool, startChild, type Child } from '@lifeboat/host/children';

const READY_LIMIT_MS = 60_000;
const READY_POLL_MS = 100;
const IMPORT_LIMIT_MS = 60_000;
const CONTROL_GROUPS = '/sys/fs/cgroup';

const IN_NAMESPACES = `
for directory in /etc/docker /run/docker; do
  mkdir -p "$directory"
  mount -t tmpfs lifeboat-test "$directory"
done
exec dockerd "$@"`;

export interface Docker {
  /** Makes an image of what lies in the directory, from nothing. `image`: name and tag. */
  importImage(image: { name: string; tag: string }, input: { root: string; entrypoint: string }): Promise<void>;
  /** Containers must be gone. */
  stop(): Promise<void>;
}

/** Starts the daemon, and makes it the one that testcontainers speaks to in this process. */
export async function startDocker(): Promise<Docker> {
  const directory = await mkdtemp(join(tmpdir(), 'lifeboat-docker-'));
  const controlGroup = `lifeboat-test-${randomUUID()}`;
  const socket = join(directory, 'docker.sock');
  const namespaces = '--mount --pid --fork --kill-child --mount-proc';
  const places = ['--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')];
  const files = ['--pidfile', join(directory, 'docker.pid'), '--host', `unix://${socket}`];
  const network = '--bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false';
  const groups = `--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent=/${controlGroup}`;
  const child = await startChild(
    'unshare',
    [
      ...namespaces.split(' '),
      'sh',
      '-euc',
      IN_NAMESPACES,
      'dockerd',
      ...places,
      ...files,
      ...network.split(' '),
      ...groups.split(' '),
    ],
    { directory, name: 'dockerd' },
  );
  const stop = async (): Promise<void> => {
    await child.stop({});
    await removeControlGroups(controlGroup);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await untilServing(child, socket);
  } catch (error) {
    await stop();
    throw error;
  }
  process.env['DOCKER_HOST'] = `unix://${socket}`;
  // Left to itself it asks the bridge that is not there, where this machine is a container.
  process.env['TESTCONTAINERS_HOST_OVERRIDE'] = '127.0.0.1';
  // Its own way to clean up is another container, of an image that would have to be fetched.
  process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';
  return {
    async importImage({ name, tag }, { root, entrypoint }) {
      const archive = join(directory, 'image.tar');
      await runTool('tar', ['--create', '--file', archive, '--directory', root, '.'], { timeoutMs: IMPORT_LIMIT_MS });
      const { dockerode } = (await getContainerRuntimeClient()).container;
      const options = { repo: name, tag, changes: `ENTRYPOINT ["${entrypoint}"]` };
      const progress = await dockerode.importImage(createReadStream(archive), options);
      progress.resume();
      await finished(progress, { writable: false });
      await rm(archive);
    },
    stop,
  };
}

async function untilServing(child: Child, socket: string): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + READY_LIMIT_MS;
  while (!(await answers(socket))) {
    if (child.exit || systemClock.monotonicMs() > deadlineMs)
      throw new Error(`dockerd does not serve: ${child.outputTail()}`);
    await systemClock.sleep(READY_POLL_MS);
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/_ping', timeout: 5000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

/** One hierarchy, or one for each controller: the parent is where the containers were. */
async function removeControlGroups(name: string): Promise<void> {
  const hierarchies = (await readdir(CONTROL_GROUPS, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  for (const hierarchy of ['.', ...hierarchies.map((entry) => entry.name)]) {
    try {
      await rmdir(join(CONTROL_GROUPS, hierarchy, name));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
}
