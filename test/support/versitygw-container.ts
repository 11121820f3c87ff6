import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts } from '@lifeboat/runtime/free-ports';
import { GenericContainer, Wait, type StartedTestContainer } from 'testcontainers';
import type { Docker } from './docker.ts';
import {
  CREDENTIALS_OF_ROOT,
  newDirectory,
  program,
  serverAt,
  serverOptions,
  untilServing,
  type S3Server,
} from './versitygw.ts';

const IMAGE = { name: 'lifeboat-test/versitygw', tag: 'latest' };
const STOP_LIMIT_MS = 10_000;

/** The same server in a container of the daemon that testcontainers speaks to, over a directory of this machine. */
export async function startContainedVersitygw(docker: Docker): Promise<S3Server> {
  const directory = await newDirectory();
  let container: StartedTestContainer | undefined;
  const end = async (): Promise<void> => {
    await container?.stop({ remove: true, removeVolumes: true, timeout: STOP_LIMIT_MS });
  };
  try {
    const [port] = (await freePorts(1)) as [number];
    await makeImage(docker, join(directory, 'image'));
    container = await new GenericContainer(`${IMAGE.name}:${IMAGE.tag}`)
      .withNetworkMode('host')
      .withBindMounts([{ source: directory, target: directory }])
      .withEnvironment(CREDENTIALS_OF_ROOT)
      .withCommand(serverOptions(directory, port))
      // Of a port in the host's network testcontainers knows nothing that it could ask; whether it serves is asked below.
      .withWaitStrategy(Wait.forLogMessage('initializing internal IAM'))
      .start();
    const endpoint = `http://127.0.0.1:${port}`;
    await untilServing(endpoint, () => undefined);
    return serverAt(endpoint, { directory, end });
  } catch (error) {
    await end();
    await rm(directory, { recursive: true });
    throw error;
  }
}

/** One static program is a whole image. */
async function makeImage(docker: Docker, root: string): Promise<void> {
  await mkdir(root);
  await copyFile(program(), join(root, 'versitygw'));
  await docker.importImage(IMAGE, { root, entrypoint: '/versitygw' });
  await rm(root, { recursive: true });
}
