import { addDrivers, listDrivers, matchDriversFor, verifyDrivers } from '@lifeboat/runtime/driver-admin';
import type { CommandContext } from '../context.ts';
import type { DriversAction } from '../drivers-program.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';

type DriverPackage = Awaited<ReturnType<typeof listDrivers>>['packages'][number];

/** Lines of one kind; `--json` has all. */
const MAX_LINES = 50;
const SHORT_ID = 12;

export async function driversCommand(context: CommandContext, action: DriversAction): Promise<ExitCode> {
  switch (action.kind) {
    case 'add':
      return await add(context, action);
    case 'list':
      return await list(context);
    case 'match':
      return await match(context, action);
    default:
      return await verify(context);
  }
}

async function add(context: CommandContext, action: { path: string; licence?: string }): Promise<ExitCode> {
  const { configuration, display, output, signal } = context;
  const report = await addDrivers(configuration, { ...action, signal });
  display.close();
  const lines = [
    ...packageLines(report.added),
    `Added: ${counted(report.added.length, 'package')}; there already: ${report.known.length}.`,
    ...report.leftOut.slice(0, MAX_LINES).map(({ path, why }) => `left out ${printable(path)}: ${printable(why)}`),
  ];
  output.result(report, lines);
  return EXIT.done;
}

async function list({ configuration, display, output }: CommandContext): Promise<ExitCode> {
  const { packages, signer } = await listDrivers(configuration);
  display.close();
  const lines =
    signer === undefined
      ? ['There are no driver packages; "lifeboat drivers add" takes the folder, zip, cab or ISO of a vendor.']
      : [...packageLines(packages), `${counted(packages.length, 'package')}, signed by ${signer}.`];
  output.result({ packages, signer: signer ?? null }, lines);
  return EXIT.done;
}

async function match(context: CommandContext, action: { target: string; windows: string }): Promise<ExitCode> {
  const { configuration, display, output, signal } = context;
  const { profile, devices } = await matchDriversFor(configuration, { ...action, signal });
  display.close();
  const lines: string[] = [];
  let canStart = true;
  for (const { device, candidates, lookedFor } of devices) {
    lines.push(`${device.name} (${device.role}):`);
    const [chosen] = candidates.filter(({ missingFiles }) => missingFiles.length === 0);
    if (chosen === undefined && device.role === 'boot-storage') canStart = false;
    for (const candidate of candidates.slice(0, MAX_LINES)) {
      const { driver, description, match: met, missingFiles, package: pack } = candidate;
      const signed = driver.catalogueFile === undefined ? ', without a catalogue file: unsigned' : '';
      const text = printable(
        `${description}, ${driver.provider} ${driver.version} of ${driver.date} (${pack.name}, ${driver.inf}), by ${met.id}${signed}`,
      );
      lines.push(
        missingFiles.length > 0
          ? `  cannot be used: ${text}; missing in the package: ${printable(missingFiles.join(', '))}`
          : `  ${candidate === chosen ? output.style.good('chosen:') : 'also:  '} ${text}`,
      );
    }
    if (candidates.length === 0) {
      lines.push(
        output.style.bad('  no driver in the store'),
        `  looked for: ${lookedFor.join(', ')}`,
        '  "lifeboat drivers add" takes the folder, zip, cab or ISO of the vendor; Windows itself may bring one (AHCI, NVMe, IDE).',
      );
    }
  }
  output.result({ profile, windows: action.windows, devices }, lines);
  return canStart ? EXIT.done : EXIT.negative;
}

async function verify({ configuration, display, output, signal }: CommandContext): Promise<ExitCode> {
  const report = await verifyDrivers(configuration, signal);
  display.close();
  const { damage } = report;
  const lines = [
    ...damage.slice(0, MAX_LINES).map(({ name, path, why }) => output.style.bad(printable(`${name}: ${path}: ${why}`))),
    damage.length === 0
      ? `${counted(report.files, 'file')} of ${counted(report.packages, 'package')}: all as they were added.`
      : `${damage.length} of ${report.files} files are not as they were added. Add the packages again from where they came.`,
  ];
  output.result(report, lines);
  return damage.length === 0 ? EXIT.done : EXIT.negative;
}

function packageLines(packages: readonly DriverPackage[]): string[] {
  const rows = packages.flatMap(({ id, name, drivers }) =>
    drivers.map((driver) => [
      id.slice(0, SHORT_ID),
      printable(name),
      printable(driver.provider),
      printable(driver.className),
      driver.version,
      driver.date,
      driver.targets.join('; '),
      String(driver.ids.length),
    ]),
  );
  const titles = ['Package', 'Name', 'Provider', 'Class', 'Version', 'Date', 'For'].map((title) => ({ title }));
  return rows.length === 0 ? [] : table([...titles, { title: 'Ids', align: 'right' }], rows);
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
