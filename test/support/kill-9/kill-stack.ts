/**
 * The embedded stack for kill tests: the product's Temporal server, worker and supervision of the three as they are, the
 * agent observed (observed-agent.ts), everything under the state root of a TestHost. Worker and agent run staged, as they
 * are shipped.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { type RequestOf, type Results, runOperation } from '@lifeboat/cli/operations/operation';
import { connectTemporal, isPolled } from '@lifeboat/cli/operations/temporal-connection';
import { HOST } from '@lifeboat/contracts/workflow/host';
import type { HostStatus } from '@lifeboat/contracts/workflow/host';
import { hostWorkflowId, operationWorkflowId } from '@lifeboat/contracts/workflow/names';
import type { OperationTarget } from '@lifeboat/contracts/workflow/operations';
import { systemClock } from '@lifeboat/foundation/clock';
import { jsonLog } from '@lifeboat/foundation/log';
import { type Child, startChild } from '@lifeboat/host/children';
import { configurationEnvironment } from '@lifeboat/runtime/configuration';
import { startStack, type Stack } from '@lifeboat/runtime/stack';
import { run, socketsBeneath, TestHost, type TinyMachine, virsh } from '../test-host.ts';
import { type Held, type Hold, placeHold, readHeld } from './holds.ts';
import { SeverableProxy } from './severable-proxy.ts';

export type ProcessName = 'worker' | 'agent' | 'temporal';
type Kind = 'backup' | 'restore' | 'verify';
type Rest<K extends Kind> = Omit<RequestOf<K>['input'], keyof OperationTarget>;

const STAGE = fileURLToPath(new URL('../../../scripts/stage.ts', import.meta.url));
const OBSERVED_AGENT = fileURLToPath(new URL('observed-agent.ts', import.meta.url));
const ADDRESS_VARIABLE = 'LIFEBOAT_TEST_AGENT_ADDRESS';
const RESTART_LIMIT_MS = 60_000;
const HOLD_LIMIT_MS = 90_000;
/** libvirt ends the guest of a client that died within 2 s; the reaper's round takes some seconds on a busy machine. */
const CLEAN_LIMIT_MS = 45_000;
const REAP_AGAIN_MS = 5_000;
const LOOK_MS = 50;
/** Below the limits of the stack (stack.ts). */
const KILLS_PER_WINDOW = 5;
const KILLS_WINDOW_MS = 62_000;

export type LogLine = Readonly<Record<string, unknown>>;

/** An operation that was submitted. */
export interface Submitted<K extends Kind> {
  readonly result: Promise<Results[K]>;
  readonly workflowId: string;
}

export class KillStack {
  readonly host: TestHost;
  readonly client: Client;
  /** Between the agent of the stack and Temporal. */
  readonly agentProxy: SeverableProxy;
  /** What the stack told the person who started it: every death, among other things. */
  readonly said: readonly string[];
  readonly #stack: Stack;
  readonly #agentEntry: string;
  readonly #giveUp = new AbortController();
  readonly #results: Promise<unknown>[] = [];
  readonly #others: Child[] = [];
  readonly #kills: { readonly name: ProcessName; readonly atMs: number }[] = [];
  #requests = 0;

  /** Everything it has started is gone again when this throws. */
  static async start(name: string): Promise<KillStack> {
    removeRemains(name);
    const host = await TestHost.open(name);
    const agentProxy = await SeverableProxy.listen();
    const said: string[] = [];
    let stack: Stack | undefined;
    const lib = host.path('staged', 'lib');
    const entries = { worker: join(lib, 'worker-main.js'), agent: join(lib, 'observed-agent.js') };
    process.env[ADDRESS_VARIABLE] = agentProxy.address;
    try {
      run(process.execPath, STAGE, '--entry', OBSERVED_AGENT, host.path('staged'));
      stack = await startStack(host.configuration, {
        temporalExecutable: process.env['LIFEBOAT_TEMPORAL'] || 'temporal',
        entries,
        isReady: async (temporal) => {
          agentProxy.leadTo(temporal.address);
          const client = await connectTemporal(temporal);
          try {
            return await isPolled(client, host.runtime.hostId);
          } finally {
            await client.connection.close();
          }
        },
        signal: new AbortController().signal,
        log: jsonLog((line) => host.log.push(line)),
        say: (text) => said.push(text),
      });
      const client = await connectTemporal(stack.temporal);
      return new KillStack({ host, stack, client, agentProxy, said, agentEntry: entries.agent });
    } catch (error) {
      await stack?.release();
      await agentProxy.close();
      await host.close();
      throw error;
    }
  }

  private constructor(parts: {
    host: TestHost;
    stack: Stack;
    client: Client;
    agentProxy: SeverableProxy;
    said: string[];
    agentEntry: string;
  }) {
    this.host = parts.host;
    this.client = parts.client;
    this.agentProxy = parts.agentProxy;
    this.#stack = parts.stack;
    this.said = parts.said;
    this.#agentEntry = parts.agentEntry;
  }

  pidOf(name: ProcessName): number | undefined {
    return this.#stack.processes().find((running) => running.name === name)?.pid;
  }

  /** kill -9, and waits for the stack to have started it again, which it does by itself. */
  async kill(name: ProcessName): Promise<void> {
    await this.#untilUnsuspicious(name);
    const pid = this.pidOf(name);
    if (pid === undefined) throw new Error(`no ${name} runs`);
    process.kill(pid, 'SIGKILL');
    await until(`${name} started again`, RESTART_LIMIT_MS, () => {
      this.#stack.broken.throwIfAborted();
      const now = this.pidOf(name);
      return now !== undefined && now !== pid;
    });
  }

  get kills(): number {
    return this.#kills.length;
  }

  /** Another agent for the same host, with a straight way to Temporal. Ends with the stack, or by `stop`. */
  async secondAgent(): Promise<Child> {
    const { address, namespace } = this.#stack.temporal;
    const agent = await startChild(process.execPath, [this.#agentEntry], {
      directory: this.host.path('stack'),
      name: 'second-agent',
      env: {
        ...configurationEnvironment({ ...this.host.configuration, temporal: { address, namespace } }),
        [ADDRESS_VARIABLE]: address,
      },
    });
    this.#others.push(agent);
    return agent;
  }

  /** As the command line does it. */
  submit<K extends Kind>(kind: K, machine: TinyMachine, rest: Rest<K>): Submitted<K> {
    const requestId = `r${++this.#requests}`;
    const target = { hostId: this.host.runtime.hostId, machineId: machine.id, machine: machine.id };
    const request = { kind, requestId, input: { ...rest, ...target } } as unknown as RequestOf<K>;
    const signal = AbortSignal.any([this.#giveUp.signal, this.#stack.broken]);
    const result = runOperation<K>(this.client, request, { clock: systemClock, signal, onSighting: () => {} });
    // Looked at later; a failure until then must not end the process.
    this.#results.push(result.catch(() => undefined));
    return { result, workflowId: operationWorkflowId(kind, { machineId: machine.id, requestId }) };
  }

  /** Which attempt of an activity gave its result. */
  async lastAttempt(workflowId: string, activity: Hold['verb']): Promise<number> {
    const { events } = await this.client.workflow.getHandle(workflowId).fetchHistory();
    const scheduled = events?.find(
      ({ activityTaskScheduledEventAttributes: at }) => at?.activityType?.name === activity,
    );
    const started = events
      ?.map(({ activityTaskStartedEventAttributes: at }) => at)
      .find((at) => at && String(at.scheduledEventId) === String(scheduled?.eventId));
    if (!started) throw new Error(`${workflowId} has no history of ${activity}`);
    return started.attempt ?? 0;
  }

  hold(hold: Hold): void {
    placeHold(this.host.root, hold);
  }

  /** The point a capture works on, as it has noted in its directory. */
  begunPoint(opId: string): string {
    const path = this.host.path('ops', opId, 'facts', 'begun.json');
    return (JSON.parse(readFileSync(path, 'utf8')) as { pointId: string }).pointId;
  }

  /** What an agent of ours has logged. */
  logOf(agentPid: number | undefined): LogLine[] {
    const name = this.#others.some(({ pid }) => pid === agentPid) ? 'second-agent' : 'agent';
    return readFileSync(this.host.path('stack', `${name}.log`), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** Waits until an operation stands where it was to be held. Its failure before that is this one's. */
  async held(hold: Hold, operation: Submitted<Kind>): Promise<Held> {
    let ended: string | undefined;
    operation.result.then(
      () => (ended = 'it ended before'),
      (error: unknown) => (ended = `it failed before: ${String(error)}`),
    );
    const what = `${hold.verb} of ${hold.machine} held at ${hold.atBytes} bytes`;
    let held: Held | undefined;
    await until(what, HOLD_LIMIT_MS, () => {
      held = readHeld(this.host.root, hold);
      if (!held && ended !== undefined) throw new Error(`${what}: ${ended}`);
      return held !== undefined;
    });
    return held as Held;
  }

  /**
   * What of our operations is left once they have ended and the reaper has had its round. `points`: the checkpoint that a
   * machine must have, which is that of its newest point; undefined: none.
   */
  async leftovers(points: ReadonlyMap<TinyMachine, string | undefined>): Promise<string[]> {
    const wanted = [...points.values()].flatMap((pointId) =>
      pointId === undefined ? [] : [`checkpoint lb-${pointId}`],
    );
    const deadline = Date.now() + CLEAN_LIMIT_MS;
    for (let askedAt = 0; ;) {
      if (Date.now() - askedAt > REAP_AGAIN_MS) {
        await this.#askForReaping();
        askedAt = Date.now();
      }
      const found = [...(await this.host.traces()), ...(await this.#tagged()), ...this.#socketsAndProcesses()].filter(
        (trace) => !this.#isStack(trace),
      );
      const left = [
        ...found.filter((trace) => !wanted.includes(trace)),
        ...wanted.filter((trace) => !found.includes(trace)).map((trace) => `missing: ${trace}`),
        ...[...points].flatMap(([machine, pointId]) => bitmapsBeside(machine, pointId)),
      ];
      if (left.length === 0 || Date.now() > deadline) return left;
      await systemClock.sleep(500);
    }
  }

  /** Stops and removes all of it, whatever state it is in. */
  async close(): Promise<void> {
    delete process.env[ADDRESS_VARIABLE];
    const failures: unknown[] = [];
    const step = async (run: () => Promise<unknown>): Promise<void> => {
      try {
        await run();
      } catch (error) {
        failures.push(error);
      }
    };
    // What a failed test left running is withdrawn, and undone.
    this.#giveUp.abort(new Error('the test is over'));
    await Promise.all(this.#results);
    for (const child of this.#others) await step(() => child.stop());
    await step(() => this.client.connection.close());
    await step(() => this.#stack.release());
    await step(() => this.agentProxy.close());
    await step(() => this.host.close());
    if (failures.length > 0) throw new AggregateError(failures, 'the stack was not cleaned up');
  }

  /** The reaper runs when an agent registers; so here is one that registers. */
  async #askForReaping(): Promise<void> {
    const entity = this.client.workflow.getHandle(hostWorkflowId(this.host.runtime.hostId));
    const { capacity } = await entity.query<HostStatus>(HOST.status);
    await entity.signal(HOST.register, { capacity, apiLevel: 1 });
  }

  /** So many deaths in a minute the stack takes for a fault of the product, and gives up: rightly, but not here. */
  async #untilUnsuspicious(victim: ProcessName): Promise<void> {
    await until('the stack forgets earlier kills', KILLS_WINDOW_MS * 2, () => {
      const since = Date.now() - KILLS_WINDOW_MS;
      return this.#kills.filter(({ name, atMs }) => name === victim && atMs > since).length < KILLS_PER_WINDOW;
    });
    this.#kills.push({ name: victim, atMs: Date.now() });
  }

  /** Guests and networks of boot tests carry the name of their operation and the tag of this host. */
  async #tagged(): Promise<string[]> {
    const { hypervisor, hostId } = this.host.runtime;
    const items = await hypervisor.listTagged();
    return items.filter((item) => item.hostId === hostId).map(({ kind, name }) => `${kind} ${name}`);
  }

  #socketsAndProcesses(): string[] {
    const { root } = this.host;
    const mark = `LIFEBOAT_STATE=${root}`;
    const processes = readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && environmentOf(pid).includes(mark))
      .map((pid) => `process ${pid} of our environment`);
    return [...socketsBeneath(root), ...processes];
  }

  #isStack(trace: string): boolean {
    const pids = [...this.#stack.processes(), ...this.#others].map(({ pid }) => `process ${pid} `);
    return pids.some((prefix) => trace.startsWith(prefix));
  }
}

/** What a run left whose own process was killed: machines, which nothing ties to it, and its state root. */
function removeRemains(name: string): void {
  const stateRoot = process.env['LIFEBOAT_STATE'] ?? '/var/lib/lifeboat';
  const machines = virsh('list', '--all', '--name').split('\n');
  for (const entry of existsSync(stateRoot) ? readdirSync(stateRoot) : []) {
    const pid = new RegExp(`^it-${name}-(\\d+)$`).exec(entry)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    for (const machine of machines.filter((found) => found.startsWith(`${entry}-`))) {
      if (virsh('domstate', machine).trim() !== 'shut off') virsh('destroy', machine);
      virsh('undefine', machine, '--checkpoints-metadata', '--nvram');
    }
    rmSync(join(stateRoot, entry), { recursive: true, force: true });
  }
}

/** Bitmaps in QEMU beside that of the newest point: each costs memory and time at every write, for ever. */
function bitmapsBeside({ name }: TinyMachine, pointId: string | undefined): string[] {
  if (virsh('domstate', name).trim() === 'shut off') return [];
  const answer = virsh('qemu-monitor-command', name, JSON.stringify({ execute: 'query-named-block-nodes' }));
  const nodes = (JSON.parse(answer) as { return: { 'dirty-bitmaps'?: { name?: string }[] }[] }).return;
  const bitmaps = nodes.flatMap((node) => (node['dirty-bitmaps'] ?? []).map((bitmap) => bitmap.name ?? 'without name'));
  return bitmaps.filter((bitmap) => bitmap !== `lb-${pointId}`).map((bitmap) => `bitmap ${bitmap} of ${name}`);
}

function environmentOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  } catch {
    return []; // it ended while we looked
  }
}

export async function until(what: string, limitMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await systemClock.sleep(LOOK_MS);
  }
}
