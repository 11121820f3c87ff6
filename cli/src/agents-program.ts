/** `lifeboat repo agents …` as it is typed. */
import { InvalidArgumentError, type Command } from 'commander';
import type { PointId } from '@lifeboat/foundation/ids';
import { machineArgument, pathOption, pointOption, reasonOption } from './options.ts';
import type { GlobalOptions } from './program.ts';

export type AgentsAction =
  | {
      readonly kind: 'agents-enrol';
      readonly name: string;
      readonly machines: readonly string[];
      readonly validDays: number;
      readonly output: string;
    }
  | { readonly kind: 'agents-list' }
  | { readonly kind: 'agents-policy'; readonly principal: string }
  | { readonly kind: 'keys-grant'; readonly machine: string; readonly point: PointId; readonly output: string }
  | { readonly kind: 'agents-revoke'; readonly agent: string; readonly reason: string };

type Define = (parent: Command, name: string, description: string, example: string) => Command;
type Act = (action: AgentsAction, options: GlobalOptions) => Promise<void>;

/** Two years: an agent nobody remembers ends by itself, and renewal is no monthly chore. */
const DEFAULT_DAYS = 730;
const MAX_DAYS = 3650;

export function addAgentCommands(repo: Command, define: Define, act: Act): void {
  const agents = repo
    .command('agents')
    .description('Agents: hosts that back machines up and can read nothing of what was backed up.');
  define(
    agents,
    'enrol',
    'Makes an agent and writes the file it opens the repository with (LIFEBOAT_AGENT_FILE): the only copy.',
    'repo agents enrol host-7 --machine web-1 --machine db-1 --out host-7.agent',
  )
    .argument('<name>', 'what it is called, such as the name of its host', nameArgument)
    .requiredOption('--machine <id>', 'whose backups it makes; may be repeated', collect)
    .requiredOption('--out <path>', 'a new file, mode 0600', pathOption)
    .option('--days <n>', 'how long its certificate is valid', daysOption, DEFAULT_DAYS)
    .action(
      (
        name: string,
        { machine, out, days, ...options }: GlobalOptions & { machine: string[]; out: string; days: number },
      ) => act({ kind: 'agents-enrol', name, machines: machine, validDays: days, output: out }, options),
    );
  define(agents, 'list', 'Lists the agents there ever were.', 'repo agents list --json').action(
    (options: GlobalOptions) => act({ kind: 'agents-list' }, options),
  );
  define(
    agents,
    'policy',
    'Prints what the credentials of a host with an agent’s file should be allowed in the bucket: to read and put what backups do.',
    'repo agents policy arn:aws:iam::123456789012:user/host-7',
  )
    .argument(
      '<principal>',
      'whose credentials, as the service names them: an ARN, or an access key id',
      principalArgument,
    )
    .action((principal: string, options: GlobalOptions) => act({ kind: 'agents-policy', principal }, options));
  define(
    agents,
    'revoke',
    'Trusts an agent no more. Its recovery points that are there go on counting; none that comes later does.',
    'repo agents revoke host-7 --reason "stolen"',
  )
    .argument('<agent>', 'name or id, as "list" shows it', nameArgument)
    .option('--reason <text>', 'why; it is kept with the revocation', reasonOption, '')
    .action((agent: string, { reason, ...options }: GlobalOptions & { reason: string }) =>
      act({ kind: 'agents-revoke', agent, reason }, options),
    );
}

/** Under `repo keys`: what a host needs that restores or starts a machine, and no more. */
export function addGrantCommand(keys: Command, define: Define, act: Act): void {
  define(
    keys,
    'grant',
    'Writes the keys of one recovery point: with LIFEBOAT_POINT_KEYS_FILE a host reads this point, and nothing else.',
    'repo keys grant web-1 p20261124T001122Z-9f86d081 --out web-1.keys',
  )
    .argument('<machine>', 'id, or name of a machine that has recovery points', machineArgument)
    .argument('<point>', 'id of the recovery point', pointOption)
    .requiredOption('--out <path>', 'a new file, mode 0600', pathOption)
    .action((machine: string, point: PointId, { out, ...options }: GlobalOptions & { out: string }) =>
      act({ kind: 'keys-grant', machine, point, output: out }, options),
    );
}

function nameArgument(text: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,59}$/.test(text))
    throw new InvalidArgumentError('use letters, digits, spaces and ". _ @ -", at most 60.');
  return text;
}

function principalArgument(text: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9:/+=,.@_-]{0,255}$/.test(text))
    throw new InvalidArgumentError('an ARN or an access key id is needed.');
  return text;
}

function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), machineArgument(text)];
}

function daysOption(text: string): number {
  const days = Number(text);
  if (!/^\d{1,4}$/.test(text) || days < 1 || days > MAX_DAYS)
    throw new InvalidArgumentError(`a whole number from 1 to ${MAX_DAYS} is needed.`);
  return days;
}
