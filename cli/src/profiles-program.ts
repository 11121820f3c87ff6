/** `lifeboat profiles …` as it is typed. */
import { Option, type Command } from 'commander';
import { machineArgument, pathOption, profileNameOption, profileOption } from './options.ts';
import type { GlobalOptions } from './program.ts';

interface LspciOptions {
  readonly firmware: 'bios' | 'uefi';
  readonly secureBoot: boolean;
  readonly tpm?: '1.2' | '2.0';
  readonly name: string;
  readonly bootSlot?: string;
}

export type ProfilesAction =
  | { readonly kind: 'list' }
  | { readonly kind: 'show'; readonly profile: string }
  | ({ readonly kind: 'from-lspci'; readonly path: string } & LspciOptions)
  | { readonly kind: 'from-domain'; readonly machine: string; readonly name?: string };

type Define = (parent: Command, name: string, description: string, example: string) => Command;

export function addProfilesCommands(
  program: Command,
  define: Define,
  act: (action: ProfilesAction, options: GlobalOptions) => Promise<void>,
): void {
  const profiles = program
    .command('profiles')
    .description(
      'Hardware profiles: what a machine has that needs drivers. What is printed, --target takes as a file.',
    );
  define(profiles, 'list', 'Lists the shipped profiles.', 'profiles list').action((options: GlobalOptions) =>
    act({ kind: 'list' }, options),
  );
  define(profiles, 'show', 'Prints a profile.', 'profiles show nvme > rack-7.json')
    .argument('<profile>', 'a shipped profile, or a profile file', profileOption)
    .action((profile: string, options: GlobalOptions) => act({ kind: 'show', profile }, options));
  define(
    profiles,
    'from-lspci',
    'Makes the profile of a machine from what "lspci -nnk -D" printed there.',
    'profiles from-lspci rack-7.txt --firmware uefi --name rack-7 > rack-7.json',
  )
    .argument('<file>', 'output of lspci -nn -D, better of lspci -nnk -D', pathOption)
    .addOption(
      new Option('--firmware <kind>', 'what the machine starts by; it has UEFI if Linux shows /sys/firmware/efi')
        .choices(['bios', 'uefi'])
        .makeOptionMandatory(),
    )
    .requiredOption('--name <name>', 'name of the profile', profileNameOption)
    .option('--secure-boot', 'the firmware starts only what is signed; with UEFI', false)
    .addOption(new Option('--tpm <version>', 'version of its TPM').choices(['1.2', '2.0']))
    .option('--boot-slot <slot>', 'the controller it starts from, such as 03:00.0 (default: every disk controller)')
    .action((path: string, options: GlobalOptions & LspciOptions) => {
      const { firmware, secureBoot, tpm, name, bootSlot } = options;
      return act(
        {
          kind: 'from-lspci',
          path,
          firmware,
          secureBoot,
          name,
          ...(tpm === undefined ? {} : { tpm }),
          ...(bootSlot === undefined ? {} : { bootSlot }),
        },
        options,
      );
    });
  define(
    profiles,
    'from-domain',
    'Makes the profile of a virtual machine of this host.',
    'profiles from-domain web-1 > web-1.json',
  )
    .argument('<machine>', 'name or UUID', machineArgument)
    .option('--name <name>', 'name of the profile (default: that of the machine)', profileNameOption)
    .action((machine: string, options: GlobalOptions & { name?: string }) =>
      act({ kind: 'from-domain', machine, ...(options.name === undefined ? {} : { name: options.name }) }, options),
    );
}
