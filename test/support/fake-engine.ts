import type { HostCare } from '@lifeboat/activities/host-activities';
import type { Engine } from '@lifeboat/engine/verbs';
import { parseMachineId, parsePointId } from '@lifeboat/foundation/ids';

/** What answers from the repository at once, and is no activity. */
type Query = 'listPoints' | 'inspectPoint' | 'listEvidence' | 'listRedeploys' | 'revertRedeploy';
type VerbName = Exclude<keyof Engine, Query>;

export interface Call {
  readonly verb: VerbName | 'listPoints' | 'reap';
  readonly input: Readonly<Record<string, unknown>>;
}

const MACHINE_ID = parseMachineId('11111111-2222-3333-4444-555555555555');
const INSTANT_MS = Date.UTC(2026, 0, 1);

/** The n-th point of a test, an hour apart. */
export function testPoint(n: number): { pointId: ReturnType<typeof parsePointId>; instantMs: number } {
  const instantMs = INSTANT_MS + n * 3_600_000;
  const stamp = new Date(instantMs).toISOString().replace(/[-:]|\.\d+/g, '');
  return { pointId: parsePointId(`p${stamp}-${n.toString(16).padStart(8, '0')}`), instantMs };
}

/**
 * An engine that does nothing but answer, for tests of the order in which verbs are called. `behaviour` replaces single
 * verbs; every call is noted, with its input, before the verb runs.
 */
export class FakeEngine implements Engine, HostCare {
  readonly calls: Call[] = [];
  readonly #behaviour: Partial<Engine & HostCare>;
  #captured: Awaited<ReturnType<Engine['captureMachine']>>[] = [];

  constructor(behaviour: Partial<Engine & HostCare> = {}) {
    this.#behaviour = behaviour;
  }

  readonly watchJobs: HostCare['watchJobs'] = async () => {};

  /** Without what a host does beside them. */
  verbs(): readonly string[] {
    return this.calls.map(({ verb }) => verb).filter((verb) => !['reap', 'listPoints', 'linkPoints'].includes(verb));
  }

  callsOf(verb: Call['verb']): readonly Call['input'][] {
    return this.calls.filter((call) => call.verb === verb).map(({ input }) => input);
  }

  readonly captureMachine: Engine['captureMachine'] = async (input, context) => {
    this.#note('captureMachine', input);
    const summary =
      (await this.#behaviour.captureMachine?.(input, context)) ?? captureSummary(this.#captured.length + 1);
    this.#captured.push(summary);
    return summary;
  };

  readonly checkPoint: Engine['checkPoint'] = async (input, context) => {
    this.#note('checkPoint', input);
    if (this.#behaviour.checkPoint) return await this.#behaviour.checkPoint(input, context);
    const pointId = input.pointId ?? testPoint(1).pointId;
    return { pointId, level: input.level, checkedBytes: 1, durationMs: 1, damage: [] };
  };

  readonly checkFilesystems: Engine['checkFilesystems'] = async (input, context) => {
    this.#note('checkFilesystems', input);
    if (this.#behaviour.checkFilesystems) return await this.#behaviour.checkFilesystems(input, context);
    return filesystemsSummary('sound');
  };

  readonly bootTest: Engine['bootTest'] = async (input, context) => {
    this.#note('bootTest', input);
    if (this.#behaviour.bootTest) return await this.#behaviour.bootTest(input, context);
    return bootSummary('ready');
  };

  readonly restoreDisks: Engine['restoreDisks'] = async (input, context) => {
    this.#note('restoreDisks', input);
    if (this.#behaviour.restoreDisks) return await this.#behaviour.restoreDisks(input, context);
    return {
      pointId: input.pointId ?? testPoint(1).pointId,
      disks: [{ name: 'vda', path: '/restored/vda.qcow2', format: 'qcow2', sizeBytes: 1024 }],
      writtenBytes: 1024,
      durationMs: 1,
    };
  };

  readonly planRestore: Engine['planRestore'] = async (input) => {
    this.#note('planRestore', input);
    return { pointId: input.pointId ?? testPoint(1).pointId, lines: [], warnings: [] };
  };

  readonly planRedeploy: Engine['planRedeploy'] = async (input, context) => {
    this.#note('planRedeploy', input);
    if (this.#behaviour.planRedeploy) return await this.#behaviour.planRedeploy(input, context);
    return planSummary([]);
  };

  readonly applyRedeploy: Engine['applyRedeploy'] = async (input, context) => {
    this.#note('applyRedeploy', input);
    if (this.#behaviour.applyRedeploy) return await this.#behaviour.applyRedeploy(input, context);
    return {
      ...planSummary([]),
      installed: [{ kernel: '6.1.0', modules: ['virtio_blk'], addedBytes: 1 }],
      editedFiles: ['/boot/initrd.img-6.1.0'],
      injectionMs: 1,
      journalPath: '/restored/journal.json',
      planPath: '/restored/plan.txt',
    };
  };

  readonly defineMachine: Engine['defineMachine'] = async (input, context) => {
    this.#note('defineMachine', input);
    if (this.#behaviour.defineMachine) return await this.#behaviour.defineMachine(input, context);
    return { machineId: MACHINE_ID, name: input.name, started: input.start };
  };

  readonly compareFiles: Engine['compareFiles'] = async (input, context) => {
    this.#note('compareFiles', input);
    if (this.#behaviour.compareFiles) return await this.#behaviour.compareFiles(input, context);
    return {
      comparedFiles: 1,
      comparedBytes: 1,
      differing: ['/boot/initrd.img-6.1.0'],
      notCompared: [],
      durationMs: 1,
    };
  };

  readonly abandonOperation: Engine['abandonOperation'] = async (input, context) => {
    this.#note('abandonOperation', input);
    await this.#behaviour.abandonOperation?.(input, context);
  };

  readonly inspectPoint: Engine['inspectPoint'] = async () => {
    throw new Error('nobody inspects points through Temporal');
  };

  readonly preflight: Engine['preflight'] = async (input, context) => {
    this.#note('preflight', input);
    if (this.#behaviour.preflight) return await this.#behaviour.preflight(input, context);
    return preflightSummary('yes');
  };

  readonly listRedeploys: Engine['listRedeploys'] = async () => {
    throw new Error('nobody lists redeploys through Temporal');
  };

  readonly revertRedeploy: Engine['revertRedeploy'] = async () => {
    throw new Error('nobody takes redeploys back through Temporal');
  };

  readonly listEvidence: Engine['listEvidence'] = async () => {
    throw new Error('nobody lists evidence through Temporal');
  };

  async listPoints(machine?: string): ReturnType<Engine['listPoints']> {
    this.calls.push({ verb: 'listPoints', input: { machine } });
    return (await this.#behaviour.listPoints?.(machine)) ?? this.#captured;
  }

  readonly linkPoints: Engine['linkPoints'] = async (input, context) => {
    this.#note('linkPoints', input);
    if (this.#behaviour.linkPoints) return await this.#behaviour.linkPoints(input, context);
    return { linked: this.#captured.slice(-1).map(({ pointId }) => pointId) };
  };

  readonly reap: HostCare['reap'] = async (input, context) => {
    this.#note('reap', input);
    return (await this.#behaviour.reap?.(input, context)) ?? { removedOps: [] };
  };

  #note(verb: Call['verb'], input: object): void {
    this.calls.push({ verb, input: { ...input } });
  }
}

export function captureSummary(n: number): Awaited<ReturnType<Engine['captureMachine']>> {
  return {
    ...testPoint(n),
    machineId: MACHINE_ID,
    machineName: 'web-1',
    consistency: 'crash',
    consistencyReason: 'no guest agent',
    durationMs: 1,
    disks: [],
  };
}

export function filesystemsSummary(
  result: 'sound' | 'damaged' | 'not-checked',
): Awaited<ReturnType<Engine['checkFilesystems']>> {
  const volume = { disk: 'vda', partition: 1, type: 'ext4', label: '', result, detail: '', durationMs: 1 };
  return { pointId: testPoint(1).pointId, volumes: [volume], hives: [], programs: [], durationMs: 1 };
}

function preflightSummary(verdict: 'yes' | 'no'): Awaited<ReturnType<Engine['preflight']>> {
  const { pointId } = testPoint(1);
  const answers = [{ profile: 'nvme', verdict, reasons: [], warnings: [] }];
  return { machines: [{ machineId: MACHINE_ID, machineName: 'web', pointId, answers }], durationMs: 1 };
}

export function bootSummary(
  finding: Awaited<ReturnType<Engine['bootTest']>>['finding'],
): Awaited<ReturnType<Engine['bootTest']>> {
  return {
    finding,
    explanation: `the guest was found: ${finding}`,
    elapsedMs: 20_000,
    guestCpuMs: 1,
    readBytes: 1,
    readWaitMs: 1,
    accelerator: 'tcg',
    controller: 'virtio-blk',
    consoleLogPath: '/evidence/console.log',
    screenshotPaths: [],
    probes: [],
    network: { capturePath: '/evidence/network.pcap', packets: 0, attempts: [], furtherAttempts: 0 },
  };
}

export function planSummary(refusals: readonly string[]): Awaited<ReturnType<Engine['planRedeploy']>> {
  return { profile: 'virtio-blk', lines: ['add virtio_blk'], refusals, warnings: [], durationMs: 1 };
}
