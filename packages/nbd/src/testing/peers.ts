import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const START_TIMEOUT_MS = 10_000;
const RUN_TIMEOUT_MS = 20_000;

/** Runs a tool to its end; its output, or an error that carries it. */
export async function run(command: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  return await promisify(execFile)(command, args, {
    timeout: RUN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: 64 << 20,
  });
}

export function nbdUri(socketPath: string, exportName: string): string {
  return `nbd+unix:///${exportName}?socket=${socketPath}`;
}

/** A directory with NBD servers of other makers in it. stop() ends them all; they also end when this process dies. */
export class Peers {
  readonly directory: string;
  readonly #children: ChildProcess[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Peers> {
    return new Peers(await mkdtemp(path.join(tmpdir(), 'lb-nbd-')));
  }

  path(name: string): string {
    return path.join(this.directory, name);
  }

  /** qemu-nbd for an image; returns once it answers. */
  async qemuNbd(args: readonly string[], exportName = 'disk'): Promise<Peer> {
    const socketPath = this.path(`qemu-${this.#children.length}.sock`);
    return await this.#start(socketPath, 'qemu-nbd', ['-t', '-e', '0', '-k', socketPath, '-x', exportName, ...args]);
  }

  async nbdkit(args: readonly string[]): Promise<Peer> {
    const socketPath = this.path(`nbdkit-${this.#children.length}.sock`);
    return await this.#start(socketPath, 'nbdkit', ['-f', '-U', socketPath, ...args]);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(kill));
    await rm(this.directory, { recursive: true, force: true });
  }

  async #start(socketPath: string, command: string, args: readonly string[]): Promise<Peer> {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#children.push(child);
    let errors = '';
    child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await accepts(socketPath))) {
      if (child.exitCode !== null || performance.now() > deadline) {
        throw new Error(`${command} ${args.join(' ')} does not serve: ${errors}`);
      }
      await delay(20);
    }
    return { socketPath, kill: () => kill(child) };
  }
}

export interface Peer {
  readonly socketPath: string;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

async function accepts(socketPath: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = net.connect(socketPath);
    probe.on('connect', () => resolve(true));
    probe.on('error', () => resolve(false));
    probe.on('connect', () => probe.destroy());
  });
}
