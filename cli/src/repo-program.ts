/** `lifeboat repo …` as it is typed. */
import { InvalidArgumentError, type Command } from 'commander';
import { addAgentCommands, addGrantCommand, type AgentsAction } from './agents-program.ts';
import { budgetOption, levelOption, machineArgument, pathOption, usage, type CheckLevel } from './options.ts';
import type { GlobalOptions } from './program.ts';
import { addRetentionCommands, type RetentionAction } from './retention-program.ts';

export type NewWayOption =
  | { readonly kind: 'key-file'; readonly path: string }
  | { readonly kind: 'passphrase-file'; readonly path: string }
  | { readonly kind: 'paper-file'; readonly path: string }
  | { readonly kind: 'kms'; readonly keyRef: string };

export type RepoAction =
  | { readonly kind: 'init'; readonly chunkSizeBytes?: number; readonly label?: string; readonly addTenant?: string }
  | { readonly kind: 'info' }
  | { readonly kind: 'stats' }
  | {
      readonly kind: 'check';
      readonly machine?: string;
      readonly level: CheckLevel;
      readonly budget?: ReturnType<typeof budgetOption>;
      readonly dryRun: boolean;
    }
  | RetentionAction
  | AgentsAction
  | {
      readonly kind: 'copy';
      readonly machine?: string;
      readonly to: string;
      readonly policies: boolean;
      readonly keyFile?: string;
      readonly passphraseFile?: string;
    }
  | { readonly kind: 'keys-list' }
  | { readonly kind: 'keys-add'; readonly way: NewWayOption; readonly label: string }
  | { readonly kind: 'keys-print'; readonly label: string; readonly output?: string }
  | { readonly kind: 'keys-remove'; readonly slot: string }
  | { readonly kind: 'keys-rotate' }
  | { readonly kind: 'keys-shred'; readonly confirm: string };

type Define = (parent: Command, name: string, description: string, example: string) => Command;

const UNITS = { KiB: 1024, MiB: 1024 * 1024 } as const;

/** `define` gives a command its global options and help; `act` runs what was typed. */
export function addRepoCommands(
  program: Command,
  define: Define,
  act: (action: RepoAction, options: GlobalOptions) => Promise<void>,
): void {
  const repo = program
    .command('repo')
    .description('Makes, shows, checks, prunes and copies the repository, and manages its keys.');

  define(
    repo,
    'init',
    'Makes a new repository at the configured place, or a tenant in one.',
    'repo init --chunk-size 1MiB',
  )
    .option('--chunk-size <size>', 'such as 256KiB or 1MiB; fixed for good (default: 1MiB)', chunkSizeOption)
    .option('--label <text>', 'what the first way in is called', labelOption)
    .option('--add-tenant <name>', 'a tenant with keys of its own, in the repository that is there', labelOption)
    .action(async (options: GlobalOptions & { chunkSize?: number; label?: string; addTenant?: string }) => {
      const { chunkSize, label, addTenant } = options;
      if (chunkSize !== undefined && addTenant !== undefined)
        throw usage('--chunk-size is of the whole repository; a tenant has none of its own.');
      await act(
        {
          kind: 'init',
          ...(chunkSize === undefined ? {} : { chunkSizeBytes: chunkSize }),
          ...(label === undefined ? {} : { label }),
          ...(addTenant === undefined ? {} : { addTenant }),
        },
        options,
      );
    });
  define(
    repo,
    'info',
    'Shows what the repository is, its tenants and the ways in. Needs no key.',
    'repo info --json',
  ).action((options: GlobalOptions) => act({ kind: 'info' }, options));
  define(repo, 'stats', 'Counts points, packs and bytes.', 'repo stats').action((options: GlobalOptions) =>
    act({ kind: 'stats' }, options),
  );
  define(
    repo,
    'check',
    'Checks every recovery point, or those of one machine; or, within a budget, the packs that wait longest.',
    'repo check --level ciphertext --budget 200GiB',
  )
    .argument('[machine]', 'id of a machine; all when absent', machineArgument)
    .option('--level <level>', 'present, ciphertext, content', levelOption, 'ciphertext')
    .option(
      '--budget <size or time>',
      'such as 200GiB or 8h: only so much, least recently checked first; remembered in the repository',
      budgetOption,
    )
    .option('--dry-run', 'with --budget: show how much was checked and when, and what comes next; check nothing', false)
    .action(
      (
        machine: string | undefined,
        options: GlobalOptions & { level: CheckLevel; budget?: ReturnType<typeof budgetOption>; dryRun: boolean },
      ) => {
        const { level, budget, dryRun } = options;
        if (dryRun && budget === undefined) throw usage('--dry-run goes with --budget.');
        return act(
          {
            kind: 'check',
            level,
            dryRun,
            ...(machine === undefined ? {} : { machine }),
            ...(budget === undefined ? {} : { budget }),
          },
          options,
        );
      },
    );
  addRetentionCommands(repo, define, act);
  addAgentCommands(repo, define, act);
  define(
    repo,
    'copy',
    'Copies recovery points and holds into another repository, and reads the points back there. Goes on where it was broken off.',
    'repo copy --to /mnt/usb/repository --key-file /root/usb.key',
  )
    .argument('[machine]', 'id of a machine; all when absent', machineArgument)
    .requiredOption('--to <place>', 'directory or s3://bucket/prefix of a repository')
    .option('--key-file <path>', 'key file of that repository (default: the same secret)', pathOption)
    .option('--passphrase-file <path>', 'file with its passphrase', pathOption)
    .option('--policies', 'retention policies as well, where that repository has none of its own')
    .action(
      (
        machine: string | undefined,
        options: GlobalOptions & { to: string; keyFile?: string; passphraseFile?: string; policies?: boolean },
      ) => {
        const { to, keyFile, passphraseFile, policies = false } = options;
        if (keyFile !== undefined && passphraseFile !== undefined)
          throw usage('--key-file and --passphrase-file exclude each other; choose one.');
        return act(
          {
            kind: 'copy',
            to,
            policies,
            ...(machine === undefined ? {} : { machine }),
            ...(keyFile === undefined ? {} : { keyFile }),
            ...(passphraseFile === undefined ? {} : { passphraseFile }),
          },
          options,
        );
      },
    );

  const keys = repo.command('keys').description('The ways into the tenant that the configured secret opens.');
  define(keys, 'list', 'Lists the ways in.', 'repo keys list').action((options: GlobalOptions) =>
    act({ kind: 'keys-list' }, options),
  );
  define(keys, 'add', 'Adds a way in.', 'repo keys add --passphrase-file /root/second --label operations')
    .requiredOption('--label <text>', 'whose way in it is', labelOption)
    .option('--key-file <path>', 'key file; made when it does not exist', pathOption)
    .option('--passphrase-file <path>', 'file with the passphrase', pathOption)
    .option('--paper-file <path>', 'file with what was typed from a page whose way in was removed', pathOption)
    .option('--kms-key <name>', 'key of the key service that LIFEBOAT_KMS_COMMAND asks')
    .action((options: GlobalOptions & RawWays & { label: string }) =>
      act({ kind: 'keys-add', label: options.label, way: wayOf(options) }, options),
    );
  define(
    keys,
    'print',
    'Adds a way in and prints it: a page to keep where no fire, thief or mistake reaches both it and the other keys.',
    'repo keys print --label safe --output key.html',
  )
    .requiredOption('--label <text>', 'where the page will be', labelOption)
    .option(
      '--output <path>',
      'a new file, mode 0600; HTML with a QR code when it ends with .html (default: stdout)',
      pathOption,
    )
    .action((options: GlobalOptions & { label: string; output?: string }) => {
      const { label, output } = options;
      return act({ kind: 'keys-print', label, ...(output === undefined ? {} : { output }) }, options);
    });
  addGrantCommand(keys, define, act);
  define(
    keys,
    'remove',
    'Removes a way in. "rotate" then shuts it out of new data.',
    'repo keys remove 9f86d081884c7d65',
  )
    .argument('<slot>', 'id, as "list" shows it', slotArgument)
    .action((slot: string, options: GlobalOptions) => act({ kind: 'keys-remove', slot }, options));
  define(keys, 'rotate', 'Begins a new epoch: new data is sealed to a new key.', 'repo keys rotate').action(
    (options: GlobalOptions) => act({ kind: 'keys-rotate' }, options),
  );
  define(
    keys,
    'shred',
    'Destroys the key service’s keys of the tenant: its data can never be read again. Where four eyes or a delay are wanted it asks ' +
      'first, and does it when it is repeated then.',
    'repo keys shred --confirm 00112233445566778899aabbccddeeff',
  )
    .requiredOption('--confirm <tenant id>', 'the id of the tenant, to be sure')
    .action((options: GlobalOptions & { confirm: string }) =>
      act({ kind: 'keys-shred', confirm: options.confirm }, options),
    );
}

interface RawWays {
  readonly keyFile?: string;
  readonly passphraseFile?: string;
  readonly paperFile?: string;
  readonly kmsKey?: string;
}

function wayOf(raw: RawWays): NewWayOption {
  const ways: NewWayOption[] = [
    ...(raw.keyFile === undefined ? [] : [{ kind: 'key-file' as const, path: raw.keyFile }]),
    ...(raw.passphraseFile === undefined ? [] : [{ kind: 'passphrase-file' as const, path: raw.passphraseFile }]),
    ...(raw.paperFile === undefined ? [] : [{ kind: 'paper-file' as const, path: raw.paperFile }]),
    ...(raw.kmsKey === undefined ? [] : [{ kind: 'kms' as const, keyRef: raw.kmsKey }]),
  ];
  const [way, ...more] = ways;
  if (!way || more.length > 0) throw usage('say one of --key-file, --passphrase-file, --paper-file, --kms-key.');
  return way;
}

function chunkSizeOption(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,4})(KiB|MiB)$/.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit as keyof typeof UNITS] ?? 0);
  if (bytes < 64 * UNITS.KiB || bytes > 4 * UNITS.MiB || (bytes & (bytes - 1)) !== 0)
    throw new InvalidArgumentError('a power of two from 64KiB to 4MiB is needed.');
  return bytes;
}

function labelOption(text: string): string {
  if (!/^[\p{L}\p{N}][\p{L}\p{N} ._@-]{0,59}$/u.test(text))
    throw new InvalidArgumentError('use letters, digits, spaces and ". _ @ -", at most 60.');
  return text;
}

function slotArgument(text: string): string {
  if (!/^[0-9a-f]{16}$/.test(text)) throw new InvalidArgumentError('a slot has 16 hexadecimal digits.');
  return text;
}
