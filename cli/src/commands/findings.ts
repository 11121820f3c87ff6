/** Findings as lines for a person, the same in every command that makes them. */
import type {
  BootTestSummary,
  CheckSummary,
  FilesystemCheckSummary,
  RedeployPlanSummary,
  RestoreSummary,
} from '@lifeboat/contracts/workflow/verbs';
import { formatBytes, formatDuration, formatRate } from '@lifeboat/foundation/units';
import type { Style } from '../text/style.ts';
import { fields } from '../text/table.ts';
import { printable } from '../text/width.ts';

/** Damage beyond this many places is counted, not listed. */
const LISTED_DAMAGE = 20;

export function goodLine(style: Style, text: string): string {
  return `${style.good(style.marks.done)} ${printable(text)}`;
}

export function badLine(style: Style, text: string): string {
  return `${style.bad(style.marks.failed)} ${printable(text)}`;
}

export function checkLines(style: Style, check: CheckSummary): string[] {
  const amount = `${formatBytes(check.checkedBytes)} in ${formatDuration(check.durationMs)}`;
  if (check.damage.length === 0) {
    return [goodLine(style, `${check.pointId}: stored data is whole (${check.level}, ${amount})`)];
  }
  const listed = check.damage
    .slice(0, LISTED_DAMAGE)
    .map(({ disk, partition, offsetBytes, lengthBytes, what }) =>
      printable(
        `    ${disk}${partition ? `, ${partition}` : ''}: ${formatBytes(lengthBytes)} at ${offsetBytes}: ${what}`,
      ),
    );
  const places = check.damage.length + (check.unlistedPlaces ?? 0);
  const more = places - listed.length;
  const inJson = check.unlistedPlaces ? `the first ${check.damage.length} of ${places}` : 'them all';
  return [
    badLine(style, `${check.pointId}: damaged in ${places} places (${check.level}, ${amount})`),
    ...listed,
    ...(more > 0 ? [`    and ${more} more; --json lists ${inJson}`] : []),
  ];
}

export function filesystemLines(style: Style, { volumes, hives, programs }: FilesystemCheckSummary): string[] {
  return [
    ...volumes.map(({ disk, partition, volume, type, result, detail, durationMs }) => {
      const place = volume ?? (partition === undefined ? disk : `${disk} partition ${partition}`);
      const what = `${place || disk}: ${type || 'unknown'}`;
      if (result === 'sound') return goodLine(style, `${what} is sound (${formatDuration(durationMs)})`);
      const [first = ''] = detail.split('\n', 1);
      return result === 'damaged'
        ? badLine(style, `${what} is damaged: ${detail}`)
        : badLine(style, `${what} was not checked: ${first}`);
    }),
    ...hives.map(({ disk, path, result, detail }) =>
      result === 'sound'
        ? goodLine(style, `${disk}: ${path} is sound`)
        : badLine(style, `${disk}: ${path} is damaged: ${detail}`),
    ),
    ...(volumes.length === 0 ? [badLine(style, 'there is no volume to check')] : []),
    ...programs.map(({ program, exitCode, output, durationMs }) =>
      exitCode === 0
        ? goodLine(style, `${program} ended with 0 (${formatDuration(durationMs)})`)
        : badLine(style, `${program} ended with ${exitCode}: ${output}`),
    ),
  ];
}

export function bootLines(style: Style, boot: BootTestSummary): string[] {
  const good = boot.finding === 'ready';
  const failedProbes = boot.probes.filter((probe) => probe.exitCode !== 0);
  const { network } = boot;
  const attempts = network.attempts.length + network.furtherAttempts;
  return [
    good
      ? goodLine(style, `it starts: ready after ${formatDuration(boot.elapsedMs)}`)
      : badLine(style, `it does not start (${boot.finding}): ${boot.explanation}`),
    ...failedProbes.map((probe) => printable(`    '${probe.command}' ended with ${probe.exitCode}: ${probe.output}`)),
    ...boot.probes
      .filter((probe) => probe.exitCode === 0)
      .map(({ command, durationMs }) => printable(`    '${command}' is good, after ${formatDuration(durationMs)}`)),
    ...fields([
      ['hardware', `${boot.controller}, ${boot.accelerator}`],
      [
        'guest',
        `${formatDuration(boot.guestCpuMs)} of CPU, ${formatBytes(boot.readBytes)} read, ${formatDuration(boot.readWaitMs)} waiting for them`,
      ],
      ['console', boot.consoleLogPath],
      ...boot.screenshotPaths.slice(-1).map((path) => ['screenshot', path] as const),
      ...(boot.screenshotPaths.length > 1
        ? ([['pictures', `${boot.screenshotPaths.length} over time, beside it`]] as const)
        : []),
      [
        'network',
        `${network.packets} packets, none left${attempts === 0 ? '' : `; it tried ${network.attempts.slice(0, 3).join(', ')}${attempts > 3 ? ' and more' : ''}`}`,
      ],
      ['packets', network.capturePath],
    ]).map((line) => `    ${printable(line)}`),
  ];
}

export function restoreLines(style: Style, restore: RestoreSummary): string[] {
  const { writtenBytes, durationMs } = restore;
  return [
    goodLine(
      style,
      `restored ${restore.pointId}: ${formatBytes(writtenBytes)} in ${formatDuration(durationMs)} (${formatRate(writtenBytes, durationMs)})`,
    ),
    ...restore.disks.map((disk) =>
      printable(`    ${disk.name}  ${disk.path} (${disk.format}, ${formatBytes(disk.sizeBytes)})`),
    ),
    ...(restore.layout?.lines ?? []).map((line) => `    ${printable(line)}`),
    ...(restore.layout?.warnings ?? []).map((line) => `    ${style.warn(`warning: ${printable(line)}`)}`),
  ];
}

export function planLines(style: Style, plan: RedeployPlanSummary): string[] {
  return [
    style.bold(`Plan for ${printable(plan.profile)}`),
    ...plan.lines.map((line) => `    ${printable(line)}`),
    ...plan.warnings.map((line) => `    ${style.warn(`warning: ${printable(line)}`)}`),
    ...plan.refusals.map((line) => badLine(style, line)),
  ];
}
