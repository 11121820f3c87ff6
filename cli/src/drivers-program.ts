/** `lifeboat drivers …` as it is typed. */
import type { Command } from 'commander';
import { pathOption, profileOption, reasonOption } from './options.ts';
import type { GlobalOptions } from './program.ts';

export type DriversAction =
  | { readonly kind: 'add'; readonly path: string; readonly licence?: string }
  | { readonly kind: 'list' }
  | { readonly kind: 'match'; readonly target: string; readonly windows: string }
  | { readonly kind: 'verify' };

type Define = (parent: Command, name: string, description: string, example: string) => Command;

export function addDriversCommands(
  program: Command,
  define: Define,
  act: (action: DriversAction, options: GlobalOptions) => Promise<void>,
): void {
  const drivers = program
    .command('drivers')
    .description('Keeps driver packages for Windows, as vendors ship them, and says which one a machine would take.');
  define(
    drivers,
    'add',
    'Takes the driver packages of a folder, zip, cab or ISO into the store.',
    'drivers add virtio-win.iso --licence BSD-3-Clause',
  )
    .argument('<path>', 'folder or archive', pathOption)
    .option('--licence <text>', 'under which licence they may be used', reasonOption)
    .action((path: string, options: GlobalOptions & { licence?: string }) =>
      act({ kind: 'add', path, ...(options.licence === undefined ? {} : { licence: options.licence }) }, options),
    );
  define(drivers, 'list', 'Lists the packages and what they are for.', 'drivers list --json').action(
    (options: GlobalOptions) => act({ kind: 'list' }, options),
  );
  define(
    drivers,
    'match',
    'Says which driver Windows would take for the disk controller and network card of a hardware profile.',
    'drivers match --target virtio-scsi --windows 2022',
  )
    .requiredOption('--target <profile>', 'hardware: a shipped profile, or a profile file', profileOption)
    .requiredOption('--windows <release>', 'such as 2022, 11, 10-x86 or 2008r2')
    .action((options: GlobalOptions & { target: string; windows: string }) =>
      act({ kind: 'match', target: options.target, windows: options.windows }, options),
    );
  define(drivers, 'verify', 'Hashes every file of the store anew.', 'drivers verify').action((options: GlobalOptions) =>
    act({ kind: 'verify' }, options),
  );
}
