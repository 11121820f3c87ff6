/** A machine that runs, with its console held open. */
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { allDomainStats, destroyDomain } from '@lifeboat/libvirt/domain-calls';
import { agentCommand, monitorCommand, screenshot } from '@lifeboat/libvirt/guest-calls';
import type { DomainRef } from '@lifeboat/libvirt/references';
import type { LibvirtStream } from '@lifeboat/libvirt/stream';
import type { MachineState, RunningMachine, Screen } from '../port.ts';
import { NETDEV } from './isolated-network.ts';
import { isPng, readImage, writePng } from '../screen/image.ts';
import { isTextMode, readTextScreen, TEXT_MEMORY_ADDRESS, TEXT_MEMORY_BYTES } from '../screen/text-screen.ts';
import type { Connections } from './connections.ts';
import { ConsoleLog } from './console-log.ts';
import { absentOn, machineState } from './domains.ts';

const NANOSECONDS_PER_MS = 1_000_000n;
/** The agent of a busy emulated guest answers late. */
const AGENT_ANSWER_SECONDS = 10;
const COMMAND_POLL_MS = 200;
const SHELL = '/bin/sh';

interface QemuBlockStats {
  readonly rd_bytes: number;
  readonly wr_bytes: number;
  readonly rd_total_time_ns: number;
}

interface GuestExecStatus {
  readonly exited: boolean;
  readonly exitcode?: number;
  readonly signal?: number;
  readonly 'out-data'?: string;
  readonly 'err-data'?: string;
}

export interface RunningMachineDeps {
  readonly connections: Connections;
  readonly clock: Clock;
  readonly domain: DomainRef;
  /** Holds the console; where the machine is auto-destroy, also its life. Closed with the machine. */
  readonly own: LibvirtConnection;
  readonly stream: LibvirtStream;
  readonly resets: () => number;
  /** Runs once after the machine was destroyed here, for what it leaves behind. */
  readonly afterDestroy?: () => Promise<void>;
}

export class LibvirtRunningMachine implements RunningMachine {
  readonly id: MachineId;
  readonly name: string;
  readonly #deps: RunningMachineDeps;
  readonly #log = new ConsoleLog();
  readonly #forwarded = new Map<number, number>();

  constructor(deps: RunningMachineDeps) {
    this.#deps = deps;
    this.id = parseMachineId(deps.domain.uuid);
    this.name = deps.domain.name;
    void this.#pump();
  }

  console(): AsyncIterable<Uint8Array> {
    return this.#log.read();
  }

  writeConsole(text: string): Promise<void> {
    return this.#deps.stream.write(Buffer.from(text));
  }

  async screenshot(): Promise<Uint8Array> {
    const { bytes } = await this.#screen();
    return isPng(bytes) ? bytes : writePng(readImage(bytes));
  }

  async look(): Promise<Screen> {
    const { bytes } = await this.#screen();
    const image = readImage(bytes);
    if (!isTextMode(image)) return { image, text: '' };
    const words = TEXT_MEMORY_BYTES / 4;
    const dump = await this.#hmp(`xp /${words}xw 0x${TEXT_MEMORY_ADDRESS.toString(16)}`);
    return { image, text: readTextScreen(parseDump(dump), image) };
  }

  resets(): number {
    return this.#deps.resets();
  }

  async forward(guestPort: number): Promise<number> {
    const known = this.#forwarded.get(guestPort);
    if (known !== undefined) return known;
    await this.#hmp(`hostfwd_add ${NETDEV} tcp:127.0.0.1:0-:${guestPort}`);
    const port = forwardedPort(await this.#hmp('info usernet'), guestPort);
    if (port === undefined) {
      throw new LifeboatError('libvirt.operation-failed', `QEMU does not lead to port ${guestPort} of ${this.name}`, {
        context: { machine: this.name, guestPort },
      });
    }
    this.#forwarded.set(guestPort, port);
    return port;
  }

  async running(): Promise<boolean> {
    return (await this.state()) === 'running';
  }

  async state(): Promise<MachineState> {
    return machineState(await this.#deps.connections.shared(), this.#deps.domain);
  }

  async outOfSpace(): Promise<boolean> {
    const devices = (await this.#monitor('query-block')) as readonly { 'io-status'?: string }[];
    return devices.some((device) => device['io-status'] === 'nospace');
  }

  async cpuTimeMs(): Promise<number> {
    const connection = await this.#deps.connections.shared();
    const [stats] = await allDomainStats(connection, { domains: [this.#deps.domain], groups: ['vcpu'] });
    let total = 0n;
    for (const [key, value] of stats?.parameters ?? []) {
      if (/^vcpu\.\d+\.time$/.test(key) && typeof value === 'bigint') total += value;
    }
    return Number(total / NANOSECONDS_PER_MS);
  }

  /** Asked of QEMU itself, which also knows disks that libvirt does not (NVMe). */
  async blockStats(): Promise<{ readBytes: number; readWaitMs: number; writtenBytes: number }> {
    const devices = (await this.#monitor('query-blockstats')) as readonly { stats: QemuBlockStats }[];
    const sum = (of: (stats: QemuBlockStats) => number): number =>
      devices.reduce((total, { stats }) => total + of(stats), 0);
    return {
      readBytes: sum((stats) => stats.rd_bytes),
      readWaitMs: Math.round(sum((stats) => stats.rd_total_time_ns) / 1e6),
      writtenBytes: sum((stats) => stats.wr_bytes),
    };
  }

  async runInGuest(
    command: string,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<{ exitCode: number; output: string }> {
    const { timeoutMs, signal } = options;
    const { clock } = this.#deps;
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    const started = await this.#agent<{ pid: number }>(
      { execute: 'guest-exec', arguments: { path: SHELL, arg: ['-c', command], 'capture-output': true } },
      signal,
    );
    for (;;) {
      const status = await this.#agent<GuestExecStatus>(
        { execute: 'guest-exec-status', arguments: { pid: started.pid } },
        signal,
      );
      if (status.exited) {
        const output = [status['out-data'], status['err-data']].map((data) => Buffer.from(data ?? '', 'base64'));
        // As a shell says it: 128 and the signal that ended it.
        return {
          exitCode: status.exitcode ?? 128 + (status.signal ?? 0),
          output: Buffer.concat(output).toString('utf8'),
        };
      }
      if (clock.monotonicMs() > deadlineMs) {
        throw new LifeboatError(
          'hypervisor.guest-command-timeout',
          `'${command}' in ${this.name} did not end within ${timeoutMs} ms`,
          { context: { machine: this.name, timeoutMs } },
        );
      }
      await clock.sleep(COMMAND_POLL_MS, signal);
    }
  }

  async destroy(): Promise<void> {
    const { connections, domain, afterDestroy } = this.#deps;
    await destroyIfActive(await connections.shared(), domain);
    await this.close();
    await afterDestroy?.();
  }

  async close(): Promise<void> {
    this.#deps.stream.abort();
    await this.#deps.own.close();
  }

  /** Reads the console for as long as there is one. Settles when the stream does; the outcome is in the log. */
  async #pump(): Promise<void> {
    const { stream } = this.#deps;
    try {
      for await (const bytes of stream) this.#log.append(bytes);
      this.#log.end();
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      this.#log.end((await this.#isGone()) ? undefined : failure);
    }
  }

  /** A console that breaks off because its machine ended is a console that ended. */
  async #isGone(): Promise<boolean> {
    try {
      return (await this.state()) === 'ended';
    } catch {
      // libvirt cannot be asked either: then the console's own error is the one to report.
      return false;
    }
  }

  async #screen(): Promise<{ bytes: Buffer }> {
    return screenshot(await this.#deps.connections.shared(), this.#deps.domain);
  }

  async #hmp(command: string): Promise<string> {
    return monitorCommand(await this.#deps.connections.shared(), this.#deps.domain, command, { hmp: true });
  }

  async #monitor(execute: string): Promise<unknown> {
    const connection = await this.#deps.connections.shared();
    const answer = JSON.parse(await monitorCommand(connection, this.#deps.domain, JSON.stringify({ execute }))) as {
      return?: unknown;
      error?: { desc?: string };
    };
    if (answer.error) {
      throw new LifeboatError('libvirt.operation-failed', `${execute} of ${this.name}: ${answer.error.desc}`, {
        context: { machine: this.name, command: execute },
      });
    }
    return answer.return;
  }

  async #agent<T>(command: Record<string, unknown>, signal: AbortSignal): Promise<T> {
    const connection = await this.#deps.connections.shared();
    const answer = await agentCommand(connection, this.#deps.domain, JSON.stringify(command), {
      answerSeconds: AGENT_ANSWER_SECONDS,
      signal,
    });
    return (JSON.parse(answer ?? '{}') as { return: T }).return;
  }
}

/** Idempotent. */
export async function destroyIfActive(connection: LibvirtConnection, domain: DomainRef): Promise<void> {
  try {
    await absentOn(destroyDomain(connection, domain));
  } catch (error) {
    if (!hasCode(error, 'libvirt.wrong-state')) throw error;
  }
}

/** Of lines such as `  TCP[HOST_FORWARD]  41  127.0.0.1 40123  10.0.2.15  22  0  0`. */
function forwardedPort(usernet: string, guestPort: number): number | undefined {
  for (const [, hostPort, port] of usernet.matchAll(/TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)/g))
    if (Number(port) === guestPort) return Number(hostPort);
  return undefined;
}

/** Lines such as `00000000000b8000: 0x07200720 0x07200720`: little-endian words. */
function parseDump(dump: string): Uint8Array {
  const words = [...dump.matchAll(/0x([0-9a-f]{8})\b/g)].map(([, word]) => Number.parseInt(word ?? '0', 16));
  const bytes = Buffer.alloc(TEXT_MEMORY_BYTES);
  words.slice(0, TEXT_MEMORY_BYTES / 4).forEach((word, index) => bytes.writeUInt32LE(word, index * 4));
  return bytes;
}
