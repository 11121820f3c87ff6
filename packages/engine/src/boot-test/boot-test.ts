/**
 * Boot test: does it start? A throw-away machine on an isolated network, watched until it is ready or has failed.
 *
 *   point ── exporter process ── NBD ─┐
 *                                     ├─ overlay (qcow2) ── transient domain, auto-destroy ── console, screen, agent
 *   restored disk (never written) ────┘                          └─ a network inside QEMU ── address, ports, every packet
 *
 * Killed anywhere: the domain is gone with its connection, overlays and sockets lie in the operation's directory; the next
 * attempt removes what is left and starts again. A guest that does not start is a finding, not an error.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { ensureFree, freeBytes } from '@lifeboat/host/disk-space';
import { runTool } from '@lifeboat/host/children';
import type { Operation } from '@lifeboat/host/operation';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import type { EngineDeps } from '../deps.ts';
import { type DiskSource, type Hardware, hardwareFor, shapeOf } from '../machine/hardware.ts';
import { artefactsOf, failed, proven, recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint, machineRecordOf, nvramOf } from '../points.ts';
import type { BootTestInput, BootTestSummary } from '../verbs.ts';
import { watchBoot } from './boot-watch.ts';
import { evidenceDirectory } from './evidence.ts';
import { Film } from './film.ts';
import { GuestMemory } from './guest-memory.ts';
import { captured, keepCapture } from './isolated-network.ts';
import { runProbes } from './probes.ts';
import { reachPorts } from './reach.ts';
import { whileRunning } from './while-running.ts';

const TOOL_TIMEOUT_MS = 60_000;
/** With less, nobody can tell whose fault it is; for a device that tells QEMU's error to the guest, not to us (NVMe). */
const OVERLAY_RESERVE_BYTES = 16 * MiB;
/** The first disk decides whether a machine starts; its controller is the one a finding is about. */
const BOOT_DISK = 0;
/** Of this process, which is the one that starts guests on this host: its agent. */
const guestMemory = new GuestMemory();

export async function bootTest(deps: EngineDeps, input: BootTestInput, context: VerbContext): Promise<BootTestSummary> {
  const ready = compile(input.readyPattern);
  const operation = await beginOperation(deps, input, { verb: 'boot-test', machine: input.machine }, context.signal);
  try {
    const done = (await operation.recall('done')) as BootTestSummary | undefined;
    if (done) return done;
    const beganMs = deps.clock.nowMs();
    const summary = await run(deps, operation, { ...input, ready }, { ...context, signal: operation.signal });
    await recordBoot(deps, input, { summary, beganMs, signal: operation.signal });
    await operation.record('done', summary);
    return summary;
  } finally {
    await operation.close({ remove: false });
  }
}

/** What starts on its own hardware, straight from the repository, is proven of the point; anything else is shown, and proves nothing of it. */
async function recordBoot(
  deps: EngineDeps,
  input: BootTestInput,
  found: { readonly summary: BootTestSummary; readonly beganMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const { summary, beganMs, signal } = found;
  const { finding, explanation, probes, consoleLogPath, screenshotPaths, readBytes, network } = summary;
  const { pointId } = input.source;
  const machineId = async (): Promise<MachineId> =>
    (await findPoint(deps.repository, input.machine, pointId)).machineId;
  const started = finding === 'ready' || finding === 'probe-failed';
  const claims = [
    ...(started ? proven(pointId, ['booted']) : [failed(pointId, 'booted', { reason: explanation })]),
    ...(started && finding === 'ready' && probes.length > 0 ? proven(pointId, ['application']) : []),
    ...(finding === 'probe-failed' ? [failed(pointId, 'application', { reason: explanation })] : []),
  ];
  const restored = input.source.kind === 'disks' ? ['restored disks'] : [];
  const hardware = [...(input.profile === undefined ? [] : [basename(input.profile)]), ...restored].join(', ');
  // Findings, probes with their durations, and what was read, as a file: more than a record has room for.
  const findingsPath = join(evidenceDirectory(deps, input.opId), 'boot.json');
  await writeFile(findingsPath, `${JSON.stringify(summary, null, 2)}\n`, { mode: 0o600 });
  const artefacts = await artefactsOf([consoleLogPath, network.capturePath, findingsPath, ...screenshotPaths]);
  const what = { operation: 'boot-test', operationId: input.opId, beganMs, readBytes, hardware, artefacts };
  await recordEvidence(deps, { machineId, ...what, claims, summary: explanation }, signal);
}

async function run(
  deps: EngineDeps,
  operation: Operation,
  input: BootTestInput & { ready: RegExp },
  context: VerbContext,
): Promise<BootTestSummary> {
  const { hypervisor, clock } = deps;
  const { opId } = operation;
  await removeLeftovers(deps, opId);
  const point = await findPoint(deps.repository, input.machine, input.source.pointId);
  const record = machineRecordOf(point);
  const hardware = await hardwareFor(record, input.profile);
  operation.onClose(await guestMemory.take(record.memoryMiB, `A boot test of machine ${input.machine}`));
  const { qemuDirectory } = operation;
  await ensureFree(qemuDirectory, OVERLAY_RESERVE_BYTES, `A boot test of machine ${input.machine}`);
  const { disks, assertServing } = await overlays(deps, operation, input);
  const evidence = evidenceDirectory(deps, opId);
  await mkdir(evidence, { recursive: true, mode: 0o700 });

  const name = `lb-${opId}`;
  const capturePath = join(qemuDirectory, 'network.pcap');
  await rm(capturePath, { force: true }); // a dead attempt's
  const network = { kind: 'isolated', model: hardware.nicModel, capturePath } as const;
  const shape = shapeOf({ opId, hostId: deps.hostId, name, network }, record, {
    hardware,
    disks,
    nvram: nvramOf(point),
  });
  const startedMs = clock.monotonicMs();
  const guest = await hypervisor
    .startTransient(shape, { autoDestroy: true, signal: context.signal })
    .catch((error: unknown) => {
      // A guest whose disks are not served any more does not start: that is to be said.
      assertServing();
      throw error;
    });
  operation.onClose(async () => {
    await guest.destroy();
    await guest.close();
  });

  const assertServed = async (): Promise<void> => {
    assertServing();
    await assertRoom(deps, guest, qemuDirectory);
  };
  const consoleLogPath = join(evidence, 'console.log');
  const film = new Film(evidence);
  const { ready, readyBy = 'console', timeoutMs } = input;
  const found = await watchBoot(
    { guest, clock, readyBy, ready, film, capturePath, consoleLogPath, startedMs, timeoutMs, assertServed },
    context,
  );
  const elapsedMs = clock.monotonicMs() - startedMs;
  const probes =
    found.finding === 'ready'
      ? await probe(deps, { guest, capturePath, input }, context)
      : { results: [], failure: '' };
  if (probes.failure) await assertServed();
  await lastPicture(deps, { guest, film, startedMs });
  const screenshotPaths = await film.end();
  const usage = await usageOf(deps, guest);
  const host = await hypervisor.describeHost();
  await guest.destroy(); // the capture is whole from here
  const { packets, lease, attempts, furtherAttempts } = await captured(capturePath);
  const capture = join(evidence, 'network.pcap');
  await keepCapture(capturePath, capture);
  return {
    finding: probes.failure ? 'probe-failed' : found.finding,
    explanation: probes.failure || found.explanation,
    elapsedMs: Math.round(elapsedMs),
    ...usage,
    accelerator: host.accelerator,
    controller: controllerOf(hardware, disks),
    consoleLogPath,
    screenshotPaths,
    probes: probes.results,
    network: {
      capturePath: capture,
      packets,
      ...(lease === undefined ? {} : { lease }),
      attempts,
      furtherAttempts,
    },
  };
}

/** Ports first: they say more of a failed command than it does of them. */
async function probe(
  deps: EngineDeps,
  of: { readonly guest: RunningMachine; readonly capturePath: string; readonly input: BootTestInput },
  context: VerbContext,
): Promise<{ readonly results: BootTestSummary['probes']; readonly failure: string }> {
  const { guest, capturePath, input } = of;
  const reached = await reachPorts({ clock: deps.clock, guest, capturePath }, input.reach ?? [], context);
  if (reached.failure) return reached;
  const ran = await runProbes(deps, guest, input.probes ?? [], context);
  return { results: [...reached.results, ...ran.results], failure: ran.failure };
}

/** A guest whose overlay has no room for what it writes does not start; that says nothing about the point. Errors: `disk.full`. */
async function assertRoom({ clock }: EngineDeps, guest: RunningMachine, directory: string): Promise<void> {
  const outOfSpace = await whileRunning({ guest, clock }, () => guest.outOfSpace());
  const free = await freeBytes(directory);
  if (outOfSpace !== true && free >= OVERLAY_RESERVE_BYTES) return;
  throw new LifeboatError(
    'disk.full',
    `whether ${guest.name} starts was not found out: what it writes goes to ${directory}, where ${formatBytes(free)} (${free} bytes) are free`,
    { context: { path: directory, freeBytes: free } },
  );
}

/** One overlay per disk, in QEMU's directory: nothing a boot test writes reaches the repository or a restored disk. */
async function overlays(
  deps: EngineDeps,
  operation: Operation,
  input: BootTestInput,
): Promise<{ readonly disks: readonly DiskSource[]; readonly assertServing: () => void }> {
  const { source } = input;
  const { below, assertServing } =
    source.kind === 'point'
      ? await exportedDisks(deps, operation, input)
      : { below: source.disks.map(fileBacking), assertServing: () => {} };
  const disks: DiskSource[] = [];
  for (const { name, sizeBytes, backing, reference, format } of below) {
    const path = join(operation.qemuDirectory, `${name}.overlay.qcow2`);
    await rm(path, { force: true });
    const args = ['create', '-q', '-f', 'qcow2', '-u', '-b', reference, '-F', format, path, String(sizeBytes)];
    await runTool('qemu-img', args, { timeoutMs: TOOL_TIMEOUT_MS, signal: operation.signal });
    disks.push({ name, path, format: 'qcow2', backing });
  }
  return { disks, assertServing };
}

interface Below {
  readonly name: string;
  readonly sizeBytes: number;
  readonly backing: NonNullable<DiskSource['backing']>;
  /** As qemu-img writes it into the overlay's header. */
  readonly reference: string;
  readonly format: 'qcow2' | 'raw';
}

async function exportedDisks(
  deps: EngineDeps,
  operation: Operation,
  input: BootTestInput,
): Promise<{ readonly below: readonly Below[]; readonly assertServing: () => void }> {
  const point = await findPoint(deps.repository, input.machine, input.source.pointId);
  const { machineId, pointId } = point;
  const { directory, qemuDirectory, signal } = operation;
  const served = await deps.exporter({ machineId, pointId, directory, qemuDirectory }, { signal });
  operation.onClose(() => served.stop());
  const { socketPath } = served;
  const below = served.disks.map(({ name, sizeBytes }): Below => ({
    name,
    sizeBytes,
    backing: { socketPath, exportName: name },
    reference: `nbd+unix:///${encodeURIComponent(name)}?socket=${socketPath}`,
    format: 'raw',
  }));
  return { below, assertServing: () => served.assertServing() };
}

function fileBacking({
  name,
  path,
  format,
  sizeBytes,
}: {
  name: string;
  path: string;
  format: 'qcow2' | 'raw';
  sizeBytes: number;
}): Below {
  return { name, sizeBytes, backing: { path, format }, reference: path, format };
}

/** A domain or network of an earlier attempt that was killed before it could tidy up. */
async function removeLeftovers(deps: EngineDeps, opId: string): Promise<void> {
  for (const item of await deps.hypervisor.listTagged()) {
    if (item.opId === opId && item.hostId === deps.hostId) await deps.hypervisor.removeTagged(item);
  }
}

/** A guest without a screen still has its console; the log says why the picture is missing. */
async function lastPicture(
  { clock, log }: EngineDeps,
  { guest, film, startedMs }: { readonly guest: RunningMachine; readonly film: Film; readonly startedMs: number },
): Promise<void> {
  if ((await guest.state()) === 'ended') return;
  try {
    const { image } = await guest.look();
    await film.show(image, clock.monotonicMs() - startedMs);
  } catch (error) {
    log.warn(`no last picture of ${guest.name}: ${messageOf(error)}`);
  }
}

async function usageOf(
  { clock }: EngineDeps,
  guest: RunningMachine,
): Promise<{ guestCpuMs: number; readBytes: number; readWaitMs: number }> {
  const usage = await whileRunning({ guest, clock }, async () => {
    const { readBytes, readWaitMs } = await guest.blockStats();
    return { guestCpuMs: Math.round(await guest.cpuTimeMs()), readBytes, readWaitMs: Math.round(readWaitMs) };
  });
  return usage ?? { guestCpuMs: 0, readBytes: 0, readWaitMs: 0 };
}

function controllerOf(hardware: Hardware, disks: readonly DiskSource[]): string {
  return hardware.controllers.get(disks[BOOT_DISK]?.name ?? '') ?? 'none';
}

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'm');
  } catch (cause) {
    throw new LifeboatError('engine.bad-ready-pattern', `ready pattern '${pattern}': ${messageOf(cause)}`, { cause });
  }
}
