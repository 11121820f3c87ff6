/** The command line as it is typed: names, options, help. What the commands do is in `commands/`. */
import { Command } from 'commander';
import type { PointId } from '@lifeboat/foundation/ids';
import type { RestoreLayout } from '@lifeboat/contracts/workflow/verbs';
import { collect, withBoot, type BootOptions } from './boot-options.ts';
import { addDriversCommands, type DriversAction } from './drivers-program.ts';
import { EXIT_CODE_HELP, type ExitCode } from './exit-codes.ts';
import { layoutOf, type RawLayoutOptions, withLayout } from './layout-options.ts';
import { addProfilesCommands, type ProfilesAction } from './profiles-program.ts';
import { addRedeploysCommands, type RedeploysAction } from './redeploys-program.ts';
import { addRepoCommands, type RepoAction } from './repo-program.ts';
import {
  delayOption,
  diskOption,
  machineArgument,
  newNameOption,
  nightlyOption,
  pathOption,
  pointOption,
  profileOption,
  programOption,
  targetOption,
  usage,
  verifyLevelOption,
  type VerifyLevel,
} from './options.ts';

export interface GlobalOptions {
  readonly config?: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

export interface VerifyOptions extends BootOptions {
  readonly point?: PointId;
  readonly level: VerifyLevel;
  readonly check: readonly string[];
  readonly boot: boolean;
  readonly target?: string;
}

export interface RestoreOptions {
  readonly point?: PointId;
  readonly target:
    | { readonly kind: 'directory'; readonly directory: string; readonly name: string }
    | { readonly kind: 'device'; readonly disk: string; readonly path: string };
  readonly layout?: RestoreLayout;
  /** Show what would be written, and write nothing. */
  readonly plan: boolean;
}

export interface PreflightOptions extends BootOptions {
  /** Milliseconds for boot tests of what the plan says yes to; absent: none. */
  readonly bootBudget?: number;
  readonly target: readonly string[];
  /** Asked at this time of every day (UTC) instead of now. */
  readonly nightly?: { readonly hour: number; readonly minute: number } | 'off';
}

export interface RedeployOptions extends BootOptions {
  readonly point?: PointId;
  readonly target: string;
  readonly name: string;
  readonly to?: string;
  readonly boot: boolean;
  readonly start: boolean;
  readonly newIdentity: boolean;
  readonly layout?: RestoreLayout;
}

export interface DemoOptions {
  readonly target: string;
  readonly skipProof: boolean;
  readonly keep: boolean;
  readonly clean: boolean;
  readonly report?: string;
}

/** The commands' bodies; each resolves with the exit code. */
export interface Handlers {
  demo(options: DemoOptions, global: GlobalOptions): Promise<ExitCode>;
  up(global: GlobalOptions): Promise<ExitCode>;
  backup(machine: string, global: GlobalOptions): Promise<ExitCode>;
  points(machine: string | undefined, global: GlobalOptions): Promise<ExitCode>;
  machines(global: GlobalOptions): Promise<ExitCode>;
  inspect(machine: string, point: PointId | undefined, global: GlobalOptions): Promise<ExitCode>;
  evidence(machine: string, global: GlobalOptions): Promise<ExitCode>;
  locks(options: { readonly extend: boolean }, global: GlobalOptions): Promise<ExitCode>;
  verify(machine: string, options: VerifyOptions, global: GlobalOptions): Promise<ExitCode>;
  restore(machine: string, options: RestoreOptions, global: GlobalOptions): Promise<ExitCode>;
  redeploy(machine: string, options: RedeployOptions, global: GlobalOptions): Promise<ExitCode>;
  preflight(machines: readonly string[], options: PreflightOptions, global: GlobalOptions): Promise<ExitCode>;
  redeploys(action: RedeploysAction, global: GlobalOptions): Promise<ExitCode>;
  repo(action: RepoAction, global: GlobalOptions): Promise<ExitCode>;
  profiles(action: ProfilesAction, global: GlobalOptions): Promise<ExitCode>;
  drivers(action: DriversAction, global: GlobalOptions): Promise<ExitCode>;
}

const COMPRESSION_HELP = `Compression:
  zstd 1 ('fast'); with LIFEBOAT_COMPRESSION=small zstd 6: 8 % less, a full backup takes twice as long. A repository may hold both.`;

export interface ProgramOptions {
  readonly version: string;
  readonly handlers: Handlers;
  /** Called with the exit code of the command that ran. */
  readonly finish: (code: ExitCode) => void;
  readonly write: { readonly out: (text: string) => void; readonly err: (text: string) => void };
}

export function createProgram({ version, handlers, finish, write }: ProgramOptions): Command {
  const program = new Command('lifeboat');
  // Errors are shown once, with code and next step, by whoever catches them; only help is written here.
  const output = { writeOut: write.out, writeErr: write.err, outputError: () => {} };
  program
    .description(
      'Backs up whole machines, proves that every recovery point starts, and brings machines back onto other hardware.',
    )
    .version(version)
    .exitOverride()
    .configureOutput(output)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .addHelpText('after', `\nExample:\n  lifeboat backup web-1 && lifeboat verify web-1\n\n${EXIT_CODE_HELP}`);

  const commandOf = (parent: Command, name: string, description: string, example: string): Command =>
    parent
      .command(name)
      .description(description)
      .option('--config <file>', 'configuration file (also LIFEBOAT_CONFIG)')
      .option('--json', 'one JSON document on stdout', false)
      .option('--quiet', 'no progress', false)
      .exitOverride()
      .configureOutput(output)
      .addHelpText('after', `\nExample:\n  ${example}\n\n${EXIT_CODE_HELP}`);
  const command = (name: string, description: string, example: string): Command =>
    commandOf(program, name, description, example);

  command(
    'demo',
    'The whole way once, with a real guest: backup, boot test, redeploy onto other hardware, proof, report.',
    'lifeboat demo --target nvme --report /tmp/lifeboat.html',
  )
    .option(
      '--target <profile>',
      'hardware of the new machine: a shipped profile ("lifeboat profiles list"), or a profile file',
      profileOption,
      'virtio-scsi',
    )
    .option('--skip-proof', 'leave out the proof that the restore does not start without injection', false)
    .option('--keep', 'leave the machines, disks and repository where they are', false)
    .option('--clean', 'only remove what earlier runs with --keep left', false)
    .option('--report <file>', 'where the HTML report goes (default: under the state directory)', pathOption)
    .action(async (options: DemoOptions & GlobalOptions) => finish(await handlers.demo(options, globals(options))));

  command(
    'up',
    'Runs the embedded stack (Temporal, worker, agent) in the foreground until Ctrl-C. Other commands then start at once.',
    'lifeboat up',
  ).action(async (options: GlobalOptions) => finish(await handlers.up(globals(options))));

  command(
    'backup',
    'Makes a recovery point of a machine, live; only what changed is read where tracking allows.',
    'lifeboat backup web-1',
  )
    .argument('<machine>', 'name or UUID', machineArgument)
    .addHelpText('after', `\n${COMPRESSION_HELP}`)
    .action(async (machine: string, options: GlobalOptions) =>
      finish(await handlers.backup(machine, globals(options))),
    );

  command(
    'points',
    'Lists recovery points. Needs the repository and its key, nothing else.',
    'lifeboat points web-1 --json',
  )
    .argument('[machine]', 'name or UUID; all machines when absent', machineArgument)
    .action(async (machine: string | undefined, options: GlobalOptions) =>
      finish(await handlers.points(machine, globals(options))),
    );

  command(
    'inspect',
    'Shows what a machine was made of at a recovery point: disks, partitions, boot chain, volumes, encryption, network cards.',
    'lifeboat inspect web-1 --json',
  )
    .argument('<machine>', 'name or UUID', machineArgument)
    .argument('[point]', 'recovery point (default: the newest)', pointOption)
    .action(async (machine: string, point: PointId | undefined, options: GlobalOptions) =>
      finish(await handlers.inspect(machine, point, globals(options))),
    );

  command(
    'evidence',
    'Lists what was proven of a machine’s recovery points and what failed, and proves that no record was changed or taken away.',
    'lifeboat evidence web-1 --json',
  )
    .argument('<machine>', 'name or UUID', machineArgument)
    .action(async (machine: string, options: GlobalOptions) =>
      finish(await handlers.evidence(machine, globals(options))),
    );

  command(
    'machines',
    'Lists the machines that were ever backed up, and where they ran. Needs the repository and its key, nothing else.',
    'lifeboat machines --json',
  ).action(async (options: GlobalOptions) => finish(await handlers.machines(globals(options))));

  command(
    'locks',
    'Shows whether Object Lock holds what the recovery points need; with --extend, makes the locks longer first.',
    'lifeboat locks --extend',
  )
    .option('--extend', 'once a week, with credentials that may extend locks', false)
    .action(async (options: GlobalOptions & { extend: boolean }) =>
      finish(await handlers.locks({ extend: options.extend }, globals(options))),
    );

  withBoot(
    command(
      'verify',
      'Checks a recovery point and starts it on an isolated network straight from the repository.',
      'lifeboat verify web-1 --ready-by dhcp --tcp 22 --http 80/health',
    )
      .argument('<machine>', 'name or UUID', machineArgument)
      .option('--point <id>', 'recovery point (default: the newest)', pointOption)
      .option(
        '--level <level>',
        'how deep to check: present, ciphertext, content; filesystem: the content, then every volume by its own checker',
        verifyLevelOption,
        'content',
      )
      .option(
        '--check <program>',
        'with --level filesystem: a program of this host that gets the mounted guest and must end with 0; again for more',
        collect(programOption),
        [],
      )
      .option('--target <profile>', 'start it on this hardware instead of its own', profileOption)
      .option('--no-boot', 'check the stored data only'),
  ).action(async (machine: string, options: VerifyOptions & GlobalOptions) => {
    if (options.check.length > 0 && options.level !== 'filesystem')
      throw usage('--check goes with --level filesystem.');
    finish(await handlers.verify(machine, options, globals(options)));
  });

  withLayout(
    command(
      'restore',
      'Writes the disks of a recovery point: new qcow2 files, or one disk onto an existing device, which is overwritten.',
      `lifeboat restore web-1 --to /srv/restored --name web-1-old
  lifeboat restore web-1 --to-device serial:S3Z9NB0K --disk vda --layout gpt --resize last
  lifeboat restore web-1 --to /srv/restored --name web-1-uefi --layout gpt --uefi --plan`,
    )
      .argument('<machine>', 'name or UUID', machineArgument)
      .option('--point <id>', 'recovery point (default: the newest)', pointOption)
      .option('--to <dir>', 'directory for new qcow2 files; with --name', pathOption)
      .option('--name <name>', 'beginning of the new files’ names', newNameOption)
      .option(
        '--to-device <device>',
        'raw file or block device to overwrite: a path, or serial:…, wwn:… or size:… of the one disk that has it; with --disk',
        targetOption,
      )
      .option('--disk <disk>', 'the disk to write there or to lay out anew, such as vda', diskOption)
      .option('--plan', 'only show what would be written', false),
  ).action(async (machine: string, options: RawRestoreOptions & GlobalOptions) =>
    finish(await handlers.restore(machine, restoreOptions(options), globals(options))),
  );

  const redeploy = withBoot(
    command(
      'redeploy',
      'Restores a machine for other hardware: plan, driver injection, boot test there, and a new machine if it starts.',
      'lifeboat redeploy web-1 --target virtio-scsi --name web-1-new --start',
    )
      .argument('<machine>', 'name or UUID', machineArgument)
      .option(
        '--target <profile>',
        'hardware: a shipped profile ("lifeboat profiles list"), or a profile file',
        profileOption,
      )
      .option('--name <name>', 'name of the new machine', newNameOption)
      .option('--point <id>', 'recovery point (default: the newest)', pointOption)
      .option('--to <dir>', 'directory for the new disks (default: under the state directory)', pathOption)
      .option('--start', 'start the new machine once it is defined', false)
      .option(
        '--new-identity',
        'the original goes on running: machine id, SSH host keys, leases and random seed become its own (Linux)',
        false,
      )
      .option('--no-boot', 'define it without a boot test; nothing is proven then')
      .option('--disk <disk>', 'the disk that is laid out anew, where there are several', diskOption),
  );
  withLayout(redeploy).action(async (machine: string, options: RawRedeployOptions & GlobalOptions) =>
    finish(await handlers.redeploy(machine, redeployOptions(options), globals(options))),
  );

  withBoot(
    command(
      'preflight',
      'Says by plan whether machines would start on spare hardware, from their newest recovery points, and why not.',
      'lifeboat preflight --target nvme --target rack-7.json --nightly 02:30',
    )
      .argument('[machines...]', 'names or UUIDs; all machines when absent')
      .option(
        '--target <profile>',
        'a spare model: a shipped profile ("lifeboat profiles list"), or a profile file; again for more',
        collect(profileOption),
        [],
      )
      .option('--nightly <time>', 'ask it of all machines every night at this time (UTC); off: no more', nightlyOption)
      .option('--boot-budget <time>', 'also start what the plan says yes to, in so much time: 30m, 8h', delayOption),
  ).action(async (machines: string[], options: PreflightOptions & GlobalOptions) => {
    const { target, nightly, bootBudget } = options;
    if (target.length === 0 && nightly !== 'off') throw usage("required option '--target <profile>' not specified");
    if (machines.length > 0 && nightly !== undefined) throw usage('--nightly is about all machines; name none.');
    if (bootBudget !== undefined && nightly !== undefined)
      throw usage('--boot-budget goes with a pre-flight now, not with --nightly.');
    finish(await handlers.preflight(machines.map(machineArgument), options, globals(options)));
  });

  const subcommandOf = (parent: Command, name: string, description: string, example: string): Command =>
    commandOf(parent, name, description, `lifeboat ${example}`);
  addRedeploysCommands(redeploy, subcommandOf, async (action, options) =>
    finish(await handlers.redeploys(action, globals(options))),
  );
  addRepoCommands(program, subcommandOf, async (action, options) =>
    finish(await handlers.repo(action, globals(options))),
  );
  addProfilesCommands(program, subcommandOf, async (action, options) =>
    finish(await handlers.profiles(action, globals(options))),
  );
  addDriversCommands(program, subcommandOf, async (action, options) =>
    finish(await handlers.drivers(action, globals(options))),
  );

  return program;
}

function globals(options: GlobalOptions): GlobalOptions {
  return {
    json: options.json,
    quiet: options.quiet,
    ...(options.config === undefined ? {} : { config: options.config }),
  };
}

interface RawRedeployOptions extends Omit<RedeployOptions, 'layout' | 'target' | 'name'>, RawLayoutOptions {
  readonly target?: string;
  readonly name?: string;
  readonly disk?: string;
}

/** Target and name are not mandatory for commander, which would ask for them with `redeploy list` and `redeploy revert` as well. */
function redeployOptions(raw: RawRedeployOptions): RedeployOptions {
  const layout = layoutOf(raw, raw.disk);
  if (raw.disk !== undefined && !layout) throw usage('--disk goes with a layout; every disk is restored.');
  const { point, target, name, to, boot, start, newIdentity, ready, readyBy, timeout, tcp, http, probe } = raw;
  if (target === undefined) throw usage("required option '--target <profile>' not specified");
  if (name === undefined) throw usage("required option '--name <name>' not specified");
  return {
    target,
    newIdentity,
    name,
    boot,
    start,
    ready,
    readyBy,
    timeout,
    tcp,
    http,
    probe,
    ...(point === undefined ? {} : { point }),
    ...(to === undefined ? {} : { to }),
    ...(layout ? { layout } : {}),
  };
}

interface RawRestoreOptions extends RawLayoutOptions {
  readonly plan: boolean;
  readonly point?: PointId;
  readonly to?: string;
  readonly name?: string;
  readonly toDevice?: string;
  readonly disk?: string;
}

/** Either a directory with a name, or a device with a disk; anything else could write to the wrong place. */
function restoreOptions(raw: RawRestoreOptions): RestoreOptions {
  const { to, name, toDevice, disk } = raw;
  const layout = layoutOf(raw, toDevice === undefined ? disk : undefined);
  const rest = {
    plan: raw.plan,
    ...(raw.point === undefined ? {} : { point: raw.point }),
    ...(layout ? { layout } : {}),
  };
  if (to !== undefined && toDevice !== undefined) throw usage('--to and --to-device exclude each other; choose one.');
  if (to !== undefined) {
    if (name === undefined) throw usage('--to needs --name, the beginning of the new files’ names.');
    if (disk !== undefined && !layout)
      throw usage('--disk goes with --to-device or with a layout; --to restores every disk.');
    return { ...rest, target: { kind: 'directory', directory: to, name } };
  }
  if (toDevice !== undefined) {
    if (disk === undefined) throw usage('--to-device needs --disk, the one disk to write there.');
    if (name !== undefined) throw usage('--name goes with --to, not with --to-device.');
    if (raw.size !== undefined) throw usage('--size goes with --to; a device has its own size.');
    return { ...rest, target: { kind: 'device', disk, path: toDevice } };
  }
  throw usage('say where to restore: --to DIR --name NAME, or --to-device PATH --disk DISK.');
}
