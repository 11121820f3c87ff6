/** An installed Windows as a person reads it. */
import { dataText } from './registry/registry-data.ts';
import type { RegistryChange, WindowsPlan } from './windows-plan.ts';
import type { HiveInspection, ServiceInspection, WindowsInspection } from './windows-inspection.ts';

const STARTS: Readonly<Record<number, string>> = {
  0: 'at boot',
  1: 'with the system',
  2: 'automatically',
  3: 'on demand',
  4: 'disabled',
};

export function windowsLines(windows: WindowsInspection): string[] {
  const { root, controlSets, storageServices, processorServices, bootDevices, deviceDatabase, hal } = windows;
  const { current } = controlSets;
  const next = controlSets.default === current ? '' : `, starts next with ${controlSets.default}`;
  return [
    `System    ${windowsTitle(windows)}, on ${root}`,
    `  control set ${current}${next}`,
    ...[...storageServices, ...processorServices].map((service) => `  driver ${serviceText(service)}`),
    `  knows ${bootDevices.length} disk controllers (${deviceDatabase === 'driver-database' ? 'DriverDatabase' : 'CriticalDeviceDatabase'})`,
    ...(hal ? [`  HAL ${hal.hal || 'not recognised'}, kernel ${hal.kernel || 'not recognised'}`] : []),
    ...windows.hives.flatMap(hiveLine),
    ...hibernationLine(windows.hibernation),
    ...(windows.filesystem.hasOpenLog ? ['  its filesystem was not closed'] : []),
    ...(windows.filesystem.isDirty ? ['  its filesystem wants a check by Windows'] : []),
    ...(windows.restartAfterCrash === 'automatic' ? ['  restarts at once after a crash'] : []),
    ...windows.problems.map((problem) => `  ${problem}`),
  ];
}

/** `Windows Server 2022 Standard 10.0.20348.587, amd64`. */
function windowsTitle({ productName, servicePack, version, updateRevision }: WindowsInspection): string {
  const name = [productName || 'Windows', ...(servicePack === '' ? [] : [servicePack])].join(' ');
  if (!version) return `${name} of an unknown version`;
  const { major, minor, build, architecture } = version;
  const revision = updateRevision === undefined ? '' : `.${updateRevision}`;
  return `${name} ${major}.${minor}.${build}${revision}, ${architecture}`;
}

function serviceText({ name, start, hasStartOverride, image, isImageThere }: ServiceInspection): string {
  const facts = [
    STARTS[start] ?? `start ${start}`,
    ...(hasStartOverride ? ['overridden'] : []),
    ...(isImageThere ? [] : [`${image} is not there`]),
  ];
  return `${name}: ${facts.join(', ')}`;
}

function hiveLine({ name, state, logEntries, problem }: HiveInspection): string[] {
  if (state === 'clean') return [];
  if (state === 'replayed')
    return [`  registry ${name}: not written to its end; ${logEntries} entries of its log are used`];
  return [`  registry ${name}: ${problem ?? state}`];
}

function hibernationLine(hibernation: WindowsInspection['hibernation']): string[] {
  if (hibernation === 'hibernated')
    return ['  hibernated: shut it down completely before it is moved (shutdown /s /t 0)'];
  return hibernation === 'unknown' ? ['  hiberfil.sys is not understood; it may be hibernated'] : [];
}

/** The plan for a terminal, a line each; plain text. */
export function renderWindowsPlan(plan: WindowsPlan): string[] {
  const lines = [`${plan.guest} on ${plan.root} onto '${plan.profile.name}': ${plan.profile.description}`];
  for (const { device, id, service, from } of plan.drivers) {
    const source = from === 'installed' ? 'which Windows has' : `of ${from.name} (${from.inf})`;
    lines.push(`  ${device} (${id}): ${service} ${source}`);
  }
  for (const edit of plan.edits) {
    if (edit.kind === 'efi-loader') lines.push(`edit ${edit.path} on the EFI system partition: a copy of ${edit.from}`);
    else if (edit.kind === 'driver-file')
      lines.push(`edit ${plan.directory}/${edit.path}: the driver package's ${edit.source.path}`);
    else lines.push(`edit registry ${edit.hive}`, ...edit.changes.map((change) => `  ${changeText(change)}`));
    lines.push(`  because ${edit.why}`);
  }
  if (plan.edits.length === 0 && plan.refusals.length === 0)
    lines.push('nothing to change: every driver is already there');
  lines.push(...plan.warnings.map((warning) => `warning: ${warning}`));
  lines.push(...plan.refusals.map(({ code, text }) => `refused (${code}): ${text}`));
  return lines;
}

function changeText(change: RegistryChange): string {
  if (change.kind === 'delete-key') return `without ${change.key}`;
  return `set ${change.key} ${change.name === '' ? '(default)' : `'${change.name}'`} to ${dataText(change.data)}`;
}
