/**
 * The whole way once, through the same workflows as the commands:
 *
 *   guest on AHCI ─ full ─ changes ─ incremental ─ boot test ─ (machine lost) ─ redeploy ─ the same without injection
 *
 * Every step leaves claims with the values that decided them. A step whose claim does not hold does not throw, but what
 * builds on it is left out: a point that does not start is not worth a redeploy.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import type { OperationTarget } from '@lifeboat/contracts/workflow/operations';
import type { OperationStatus } from '@lifeboat/contracts/workflow/progress';
import type { BootTestSummary, CaptureSummary } from '@lifeboat/contracts/workflow/verbs';
import { formatBytes, formatDuration, MiB } from '@lifeboat/foundation/units';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import type { CommandContext } from '../context.ts';
import { followInside } from '../operations/follow.ts';
import type { Sighting } from '../operations/operation.ts';
import { submitAndFollow } from '../operations/session.ts';
import { consoleExcerpt } from './console-excerpt.ts';
import { GUEST_BOOT_LIMIT_MS, GUEST_READY, startGuest, type Guest } from './guest.ts';
import type { BackupRow, Recovery } from './report.ts';
import type { StepDraft, StepRecorder } from './step-recorder.ts';

const CHANGED_FILES = 12;
const CHANGED_FILE_BYTES = 4 * MiB;
const CHANGED_DIRECTORY = '/srv/lifeboat-demo';
const CONSOLE_LINES = 12;
const MACHINE_LOG_LINES = 6;
/** What a guest says when it finds no root; a mere timeout could be a slow host, and proves nothing. */
const NOT_STARTING = ['initramfs-shell', 'kernel-panic', 'grub-rescue', 'no-boot-device'];

export const STEPS = {
  guest: 'Start a real machine',
  full: 'Full backup while it runs',
  change: 'Change files in it',
  incremental: 'Incremental backup',
  verify: 'Boot the newest point from the repository',
  redeploy: 'Lose the machine; redeploy it',
  proof: 'The same restore without drivers',
} as const;

export interface FlowOptions {
  readonly context: Pick<CommandContext, 'clock' | 'random' | 'signal' | 'stages'>;
  readonly client: Client;
  readonly host: HostRuntime;
  readonly recorder: StepRecorder;
  readonly imagePath: string;
  /** The run's directory and name. */
  readonly directory: string;
  readonly runName: string;
  /** Hardware profile: name or path, and what it calls itself. */
  readonly profile: string;
  readonly profileName: string;
  readonly skipProof: boolean;
  readonly keep: boolean;
  /** For tests of a red report: what else happens in the guest before the incremental. */
  readonly tamper?: (guest: Guest) => Promise<void>;
}

/** What is known so far; filled while the flow runs, so that a report can be made wherever it stops. */
export interface FlowResult {
  description?: string;
  guest?: Guest;
  backups: BackupRow[];
  recovery?: Recovery;
  /** The name of the new machine, once it is defined. */
  newMachine?: string;
}

export async function runFlow(options: FlowOptions, result: FlowResult): Promise<void> {
  const { recorder } = options;
  const guest = await recorder.run(
    'guest',
    'A copy of the cached guest image was defined in libvirt on AHCI.',
    (draft) => startStep(options, result, draft),
  );
  const target = { hostId: options.host.hostId, machineId: guest.machineId, machine: guest.machineId };
  await recorder.run(
    'full',
    'Everything that is allocated was read through a checkpoint while the guest ran.',
    (draft) => backupStep(options, result, { draft, target, title: 'Full backup' }),
  );
  const digest = await recorder.run(
    'change',
    `${CHANGED_FILES} files of ${formatBytes(CHANGED_FILE_BYTES)} of random data were written and synced through the guest agent.`,
    (draft) => changeStep(guest, draft),
  );
  await options.tamper?.(guest);
  const incremental = await recorder.run(
    'incremental',
    'The dirty bitmap named what had changed since the full backup; only that was read.',
    async (draft) => {
      const capture = await backupStep(options, result, { draft, target, title: 'Incremental backup' });
      checkIncremental(draft, capture);
      return capture;
    },
  );
  const proven = await recorder.run(
    'verify',
    'The point was checked, then started on an isolated network from an export of the repository: no restore came before.',
    (draft) => verifyStep(options, result, { draft, target, point: incremental, digest }),
  );
  if (!proven) {
    recorder.skip('redeploy', 'Left out: the newest point does not start.');
    recorder.skip('proof', 'Left out: the newest point does not start.');
    return;
  }
  const missing = await recorder.run(
    'redeploy',
    `The machine was switched off for good. From here on only the repository was used, to bring it back on ${options.profileName}.`,
    (draft) => redeployStep(options, result, { draft, target, guest, point: incremental, digest }),
  );
  if (options.skipProof) recorder.skip('proof', 'Left out on request (--skip-proof).');
  else if (!missing)
    recorder.skip('proof', 'Left out: this hardware needs no driver that the guest does not load already.');
  else {
    await recorder.run(
      'proof',
      `The same point was restored once more and started on ${options.profileName} as it was, with nothing injected.`,
      (draft) => proofStep(options, { draft, target, point: incremental }),
    );
  }
}

// ---------------------------------------------------------------- the machine

async function startStep(options: FlowOptions, result: FlowResult, draft: StepDraft): Promise<Guest> {
  const { host, imagePath, directory, runName, context } = options;
  const { clock, signal } = context;
  const onConsole = (line: string): void =>
    context.stages.update('guest', { phase: 'boot', detail: line, doneBytes: 0 });
  const { hypervisor } = host;
  const guest = await startGuest({ hypervisor, imagePath, directory, runName, clock, signal, onConsole });
  result.guest = guest;
  const [system = '', kernel = '', modules = ''] = (
    await guest.run(
      '. /etc/os-release; echo "$PRETTY_NAME"; uname -r; grep -v "^#" /etc/initramfs-tools/modules | xargs echo',
    )
  ).split('\n');
  const machine = await host.hypervisor.findMachine(guest.name);
  const sizeBytes = machine.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  result.description = `${system}, kernel ${kernel}, on an AHCI disk of ${formatBytes(sizeBytes)}; its initramfs holds the modules ${modules} and no other storage driver.`;
  draft.fact('Machine', guest.name);
  draft.fact('System', `${system}, kernel ${kernel}`);
  draft.fact('Initramfs holds', modules);
  draft.fact('Image', imagePath);
  draft.fact('Up after', formatDuration(guest.bootMs));
  draft.note = `${system}, up after ${formatDuration(guest.bootMs)}`;
  draft.evidence.push({ kind: 'screenshot', title: 'Its screen before the backup', png: await guest.screenshot() });
  return guest;
}

/** Returns the SHA-256 of the list of checksums, so that the list itself cannot be swapped. */
async function changeStep(guest: Guest, draft: StepDraft): Promise<string> {
  const digest = (
    await guest.run(
      `mkdir -p ${CHANGED_DIRECTORY} && cd ${CHANGED_DIRECTORY} && for i in $(seq ${CHANGED_FILES}); do head -c ${CHANGED_FILE_BYTES} /dev/urandom >file-$i.bin || exit 1; done && sha256sum file-*.bin >SHA256SUMS && sync && sha256sum <SHA256SUMS | cut -d' ' -f1`,
    )
  ).trim();
  draft.fact('Written', `${formatBytes(CHANGED_FILES * CHANGED_FILE_BYTES)} in ${CHANGED_DIRECTORY}`);
  draft.fact('SHA-256 of the checksums', digest);
  draft.note = formatBytes(CHANGED_FILES * CHANGED_FILE_BYTES);
  return digest;
}

/** Run in a restored guest: the changed files are there, and are the ones that were written. */
function probes(digest: string): string[] {
  return [
    `cd ${CHANGED_DIRECTORY} && sha256sum --check --quiet SHA256SUMS`,
    `test "$(sha256sum <${CHANGED_DIRECTORY}/SHA256SUMS | cut -d' ' -f1)" = ${digest}`,
  ];
}

// ---------------------------------------------------------------- backups

async function backupStep(
  options: FlowOptions,
  result: FlowResult,
  { draft, target, title }: { draft: StepDraft; target: OperationTarget; title: string },
): Promise<CaptureSummary> {
  const { capture } = await submitAndFollow(options.context, options.client, {
    kind: 'backup',
    input: target,
    onSighting: followInside(options.context.stages, draft.id),
  });
  const row = rowOf(title, capture);
  result.backups.push(row);
  draft.fact('Recovery point', capture.pointId);
  for (const disk of capture.disks) {
    draft.fact(`Disk ${disk.name}`, disk.reason ? `${disk.method}: ${disk.reason}` : disk.method);
  }
  draft.fact('Consistency', [capture.consistency, capture.consistencyReason].filter(Boolean).join(': '));
  draft.note = `${row.method}, read ${formatBytes(row.readBytes)}, stored ${formatBytes(row.storedBytes)}`;
  return capture;
}

function rowOf(title: string, capture: CaptureSummary): BackupRow {
  const sum = (of: (disk: CaptureSummary['disks'][number]) => number): number =>
    capture.disks.reduce((total, disk) => total + of(disk), 0);
  return {
    title,
    pointId: capture.pointId,
    instantMs: capture.instantMs,
    method: [...new Set(capture.disks.map((disk) => disk.method))].join(', '),
    consistency: capture.consistency,
    readBytes: sum((disk) => disk.readBytes),
    changedBytes: sum((disk) => disk.changedBytes),
    storedBytes: sum((disk) => disk.storedBytes),
    durationMs: capture.durationMs,
  };
}

function checkIncremental(draft: StepDraft, { disks }: CaptureSummary): void {
  const sum = (of: (disk: CaptureSummary['disks'][number]) => number): number =>
    disks.reduce((total, disk) => total + of(disk), 0);
  const read = sum((disk) => disk.readBytes);
  const touched = sum((disk) => disk.touchedBytes);
  const audited = sum((disk) => disk.auditedBytes);
  const changed = sum((disk) => disk.changedBytes);
  const stored = sum((disk) => disk.storedBytes);
  const written = CHANGED_FILES * CHANGED_FILE_BYTES;
  draft.check(
    'Change tracking named what had changed.',
    disks.every((disk) => disk.method === 'incremental') && changed >= written,
    `The dirty bitmap holds ${formatBytes(changed)}; ${formatBytes(written)} had been written to files.`,
  );
  draft.check(
    'Only what changed was read.',
    read <= touched + audited,
    `${formatBytes(read)} were read over NBD; the chunks touched are ${formatBytes(touched)}, the audit ${formatBytes(audited)}.`,
  );
  draft.fact('Stored per byte changed', (stored / Math.max(1, changed)).toFixed(2));
}

// ---------------------------------------------------------------- verification

async function verifyStep(
  options: FlowOptions,
  result: FlowResult,
  {
    draft,
    target,
    point,
    digest,
  }: { draft: StepDraft; target: OperationTarget; point: CaptureSummary; digest: string },
): Promise<boolean> {
  const timeline = new Timeline();
  const { check, boot } = await submitAndFollow(options.context, options.client, {
    kind: 'verify',
    input: {
      ...target,
      pointId: point.pointId,
      level: 'content',
      boot: { readyPattern: GUEST_READY, timeoutMs: GUEST_BOOT_LIMIT_MS, probes: probes(digest) },
    },
    onSighting: timeline.watching(followInside(options.context.stages, draft.id)),
  });
  const whole = draft.check(
    'Every chunk of the newest point opens, and is what was stored.',
    check.damage.length === 0,
    `${formatBytes(check.checkedBytes)} checked in ${formatDuration(check.durationMs)}, ${check.damage.length} damaged places.`,
  );
  if (!boot) return false;
  const starts = await bootClaim(draft, boot, 'The newest point starts, and the changed files are in it.');
  const endedMs = timeline.endOf('boot test');
  if (starts && endedMs !== undefined) {
    result.recovery = { provenAfterMs: endedMs - point.instantMs };
  }
  return whole && starts;
}

/** The claim that a guest starts, with its evidence. */
async function bootClaim(draft: StepDraft, boot: BootTestSummary, claim: string): Promise<boolean> {
  const ready = boot.finding === 'ready';
  const detail = ready ? `Ready after ${formatDuration(boot.elapsedMs)}.` : `${boot.finding}: ${boot.explanation}`;
  await bootEvidence(draft, boot, ready ? 'Screen once it was up' : 'Screen when it was given up');
  if (ready) draft.note = `ready after ${formatDuration(boot.elapsedMs)}`;
  return draft.check(claim, ready, detail);
}

async function bootEvidence(draft: StepDraft, boot: BootTestSummary, screenTitle: string): Promise<void> {
  draft.fact('Hardware', `${boot.controller}, ${boot.accelerator}`);
  draft.fact('From power-on', formatDuration(boot.elapsedMs));
  draft.fact('Guest CPU', formatDuration(boot.guestCpuMs));
  draft.fact('Read by the guest', `${formatBytes(boot.readBytes)}, ${formatDuration(boot.readWaitMs)} waiting for it`);
  const failed = boot.probes.filter(({ exitCode }) => exitCode !== 0);
  if (boot.probes.length > 0) {
    draft.fact('Checks in the guest', `${boot.probes.length - failed.length} of ${boot.probes.length} passed`);
  }
  for (const { command, exitCode, output } of failed) {
    draft.fact(`Ended with ${exitCode}`, [command, output.trim()].filter(Boolean).join(': '));
  }
  const text = consoleExcerpt(await readFile(boot.consoleLogPath, 'utf8'), CONSOLE_LINES);
  draft.evidence.push({ kind: 'console', title: 'Serial console, last lines', text });
  // The last one; those on the way are with the evidence.
  for (const path of boot.screenshotPaths.slice(-1)) {
    draft.evidence.push({ kind: 'screenshot', title: screenTitle, png: await readFile(path) });
  }
}

// ---------------------------------------------------------------- redeploy and its proof

export function newMachineName(runName: string): string {
  return `lb-demo-${runName}-new`;
}

/** Whether drivers were missing, so that leaving them out proves something. */
async function redeployStep(
  options: FlowOptions,
  result: FlowResult,
  step: { draft: StepDraft; target: OperationTarget; guest: Guest; point: CaptureSummary; digest: string },
): Promise<boolean> {
  const { context, client, profile, profileName, runName, directory, keep } = options;
  const { draft, target, guest, point, digest } = step;
  const { clock } = context;
  const name = newMachineName(runName);
  const lostMs = clock.nowMs();
  await guest.powerOff();
  const orderedMs = clock.nowMs();
  const timeline = new Timeline();
  const done = await submitAndFollow(context, client, {
    kind: 'redeploy',
    input: {
      ...target,
      pointId: point.pointId,
      profile,
      target: { kind: 'directory', directory: join(directory, 'machines'), name },
      compare: true,
      boot: { readyPattern: GUEST_READY, timeoutMs: GUEST_BOOT_LIMIT_MS, probes: probes(digest) },
      define: { name, start: keep },
    },
    onSighting: timeline.watching(followInside(context.stages, draft.id)),
  });
  const { plan, restore, redeploy, compare, boot, define } = done;
  if (define) result.newMachine = define.name;
  draft.plan = [
    ...plan.lines,
    ...plan.warnings.map((text) => `warning: ${text}`),
    ...plan.refusals.map((text) => `refused: ${text}`),
  ];
  draft.fact('Restored', `${formatBytes(restore.writtenBytes)} in ${formatDuration(restore.durationMs)}`);
  if (done.verdict === 'refused') {
    draft.check(`The machine can be brought to ${profileName}.`, false, plan.refusals.join(' '));
    return false;
  }
  if (redeploy) {
    draft.fact('Drivers injected in', formatDuration(redeploy.injectionMs));
    for (const { kernel, modules, addedBytes } of redeploy.installed) {
      draft.fact(
        `Now in the initramfs of ${kernel}`,
        `${modules.join(', ') || 'nothing was missing'} (${formatBytes(addedBytes)})`,
      );
    }
    draft.fact('Edited, as the journal says', redeploy.editedFiles.join(', ') || 'nothing');
  }
  const starts = boot
    ? await bootClaim(
        draft,
        boot,
        `The machine starts on ${profileName}, and its changed files are as they were written.`,
      )
    : false;
  if (compare && redeploy) {
    const edited = new Set(redeploy.editedFiles);
    const unexplained = compare.differing.filter((path) => !edited.has(path));
    draft.check(
      'Every file of the guest that the journal does not name equals the point’s.',
      unexplained.length === 0 && compare.comparedFiles > 0,
      `${compare.comparedFiles} files (${formatBytes(compare.comparedBytes)}) compared; ${compare.differing.length} differ and the journal names ${redeploy.editedFiles.length}${unexplained.length > 0 ? `; not named: ${unexplained.slice(0, MACHINE_LOG_LINES).join(', ')}` : ''}${compare.notCompared.length > 0 ? `; not compared: ${compare.notCompared.join('; ')}` : ''}.`,
    );
  }
  const endedMs = timeline.endOf('boot test');
  if (starts && endedMs !== undefined) {
    result.recovery = {
      ...result.recovery,
      // Comparing every file is part of the proof, not of the recovery.
      rtoMs: endedMs - orderedMs - (timeline.durationOf('compare files') ?? 0),
      rpoMs: lostMs - point.instantMs,
    };
  }
  return redeploy?.installed.some(({ modules }) => modules.length > 0) ?? false;
}

async function proofStep(
  options: FlowOptions,
  { draft, target, point }: { draft: StepDraft; target: OperationTarget; point: CaptureSummary },
): Promise<void> {
  const { context, client, profile, profileName, runName, directory } = options;
  const { boot } = await submitAndFollow(context, client, {
    kind: 'restore',
    input: {
      ...target,
      pointId: point.pointId,
      target: { kind: 'directory', directory: join(directory, 'machines'), name: `lb-demo-${runName}-proof` },
      boot: { profile, readyPattern: GUEST_READY, timeoutMs: GUEST_BOOT_LIMIT_MS },
      disks: 'discard',
    },
    onSighting: followInside(context.stages, draft.id),
  });
  if (!boot) return;
  await bootEvidence(draft, boot, 'Screen when it was given up');
  draft.note = boot.finding;
  draft.check(
    `Without the drivers the same restore does not start on ${profileName}.`,
    NOT_STARTING.includes(boot.finding),
    boot.finding === 'ready'
      ? `It started after ${formatDuration(boot.elapsedMs)}: the injection proves nothing here.`
      : `${boot.finding}: ${boot.explanation}`,
  );
}

/** When the stages of an operation ended, by the clock of its workflow. */
class Timeline {
  #status: OperationStatus | undefined;

  watching(next: (sighting: Sighting) => void): (sighting: Sighting) => void {
    return (sighting) => {
      if (sighting.kind === 'running') this.#status = sighting.status;
      next(sighting);
    };
  }

  endOf(name: string): number | undefined {
    return this.#stage(name)?.endedMs;
  }

  durationOf(name: string): number | undefined {
    const stage = this.#stage(name);
    return stage?.startedMs === undefined || stage.endedMs === undefined ? undefined : stage.endedMs - stage.startedMs;
  }

  #stage(name: string) {
    return this.#status?.stages.find((stage) => stage.name === name);
  }
}
